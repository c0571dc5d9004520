#!/usr/bin/env bash
# The tests start a real Redis server of their own: make sure there is one to start.
set -euo pipefail
command -v redis-server >/dev/null && exit 0
fail() { echo "please install redis-server (7 or later), then run it again" >&2; exit 1; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail
  as_root=(sudo)
fi
command -v apt-get >/dev/null || fail
echo "Installing redis-server"
"${as_root[@]}" apt-get update -qq || fail
# The tests start servers on ports of their own; the package must not start one as a service.
"${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends redis-server || fail
