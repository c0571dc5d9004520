#!/usr/bin/env bash
# The tests use a real Redis server, a real browser, curl, Prometheus, network namespaces, and for other processors' code a compiler
# and an emulator: make sure that they are there.
set -euo pipefail

missing=()
command -v curl >/dev/null || missing+=(curl)
command -v ip >/dev/null || missing+=(iproute2)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v promtool >/dev/null || missing+=(prometheus)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium)
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
[ ${#missing[@]} -gt 0 ] || exit 0
fail() { echo "please install ${missing[*]}, then run it again" >&2; exit 1; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail
  as_root=(sudo)
fi
command -v apt-get >/dev/null || fail
echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq || fail
# The tests start servers on ports of their own; the package must not start one as a service.
"${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" || fail
