#!/usr/bin/env bash
# Creates .venv in the project's root with the pinned versions of requirements.lock. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' 2>/dev/null && { echo "$candidate"; return; }
  done
  fail "Python 3.11, 3.12 or 3.13 is needed; found none. Install one, or name it: PYTHON=/path/to/python make setup"
}

python=$(find_python)
short=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

# venv and the headers that hnswlib compiles against are packages of their own on Debian and Ubuntu.
missing=()
"$python" -c 'import ensurepip' 2>/dev/null || missing+=("$short-venv")
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || missing+=("$short-dev")
command -v c++ >/dev/null || command -v g++ >/dev/null || missing+=(g++)
if [ ${#missing[@]} -gt 0 ]; then
  say "Installing ${missing[*]}"
  command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
  { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } ||
    fail "please install: ${missing[*]}"
fi

# What an interrupted run left behind has no pip yet: begin again.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  say "Creating .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install -q pip==26.3

# The CPU build of torch, never the CUDA one with its gigabytes: from the configured indexes where they carry it,
# else from PyTorch's own, which lacks the pinned versions of what torch needs: those come with the rest.
torch=$(grep '^torch==' requirements.lock)
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
if ! pip install -q --no-deps "$torch+cpu" 2>/dev/null; then
  say "Fetching the CPU build of $torch"
  pip install -q --no-deps --index-url "$torch_index" "$torch+cpu" ||
    fail "$torch+cpu is not to be had from $torch_index. Name an index that has it: TORCH_INDEX=URL make setup"
fi

say "Installing the pinned dependencies"
pip install -q -c requirements.lock -e '.[train,load,otel,storage,kafka]' --group dev --group bench --group docs
pip install -q -c requirements.lock -e client
