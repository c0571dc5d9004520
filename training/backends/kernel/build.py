"""Compile `step.cpp` and its headers for this processor and one dimension, once, into the user's cache directory."""

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from bundle.errors import KernelUnavailable

SOURCE = Path(__file__).with_name("step.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")


def find_compiler() -> str | None:
    """The C++ compiler: `$CXX` when set, else the first known one on the path, else None."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, COMPILERS)), None)


def user_cache() -> Path:
    """Where compiled kernels are kept: `$XDG_CACHE_HOME/twhin`, by default `~/.cache/twhin`.

    Raises RuntimeError for a user without a home: no `HOME`, no entry in the list of users, as in many containers.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "twhin"


def temporary_cache() -> Path:
    """This user's own directory below the temporary one, for whom has no home or may not write there.

    Raises OSError when it is another's, who could put code into it for us to run.
    """
    path = Path(tempfile.gettempdir()) / f"twhin-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it is not this user's alone", str(path))
    return path


def load_kernel(padded_dim: int) -> ctypes.CDLL:
    """The kernel for vectors of `padded_dim` floats, compiled first where the cache lacks it.

    Raises KernelUnavailable when there is no compiler, it fails, or the cache cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        raise KernelUnavailable(
            "No C++ compiler was found (CXX, c++, g++ or clang++), which backend = 'compiled' needs. "
            "Install one, or use backend = 'torch'."
        )
    try:
        return ctypes.CDLL(str(_compiled(compiler, padded_dim)))
    except OSError as error:
        raise KernelUnavailable(
            f"The compiled kernel cannot be kept or loaded: {error}. Use backend = 'torch'."
        ) from error


def _compiled(compiler: str, padded_dim: int) -> Path:
    """The library, compiled first where the cache lacks it. Raises OSError when neither cache can be used."""
    text = b"".join(file.read_bytes() for file in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))))
    name = hashlib.sha256("\0".join([compiler, *FLAGS, str(padded_dim), _processor()]).encode() + text)
    file = f"step-{name.hexdigest()[:24]}.so"
    try:
        return _kept(user_cache() / file, compiler, padded_dim)
    except (OSError, RuntimeError):
        return _kept(temporary_cache() / file, compiler, padded_dim)


def _kept(path: Path, compiler: str, padded_dim: int) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, padded_dim, path)
    return path


def _compile(compiler: str, padded_dim: int, path: Path) -> None:
    """Compile beside `path` and rename, so that two processes at once are safe."""
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        partial = Path(directory) / "step.so"
        command = [compiler, *FLAGS, f"-DTWHIN_DIM={padded_dim}", str(SOURCE), "-o", str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise KernelUnavailable(
                f"{compiler} could not compile the training kernel: {done.stderr.strip()[:500]}. Use backend = 'torch'."
            )
        partial.replace(path)


def _processor() -> str:
    """What -march=native depends on: the architecture and the processor's instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")
