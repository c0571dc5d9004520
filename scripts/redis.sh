#!/usr/bin/env bash
# The tests start a real Redis server of their own: make sure there is one to start.
set -euo pipefail
command -v redis-server >/dev/null && exit 0
echo "Installing redis-server"
command -v apt-get >/dev/null || { echo "please install redis-server (7 or later)" >&2; exit 1; }
root=""; [ "$(id -u)" = 0 ] || root=sudo
# The tests start servers on ports of their own; the package must not start one as a service.
$root apt-get update -qq
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends redis-server
