"""Compiling `engine/src` into one library, at install or when first asked for, and finding it by its sources' hash.

The hash is part of the file's name, so a library is only ever loaded beside the sources that it was made of. An
installed package carries it beside `src/`; a source tree keeps it in the user's cache directory.
"""

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bundle.errors import EngineUnavailable

PACKAGE = Path(__file__).parent
SOURCES = PACKAGE / "src"
COMPILERS = ("c++", "g++", "clang++")
# One build serves every processor of an architecture: faster instructions are chosen when it runs (src/level.h).
# Products and sums are not fused, so that every level rounds alike.
COMPILE = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
)
LINK = {
    # The image's last stage need not have the compiler's runtime.
    "linux": ("-shared", "-pthread", "-static-libstdc++", "-static-libgcc", "-Wl,-O1", "-Wl,--exclude-libs,ALL"),
    "darwin": ("-bundle", "-undefined", "dynamic_lookup"),
}


def find_compiler() -> str | None:
    """The C++ compiler: `$CXX` when set, else the first known one on the path, else None."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, COMPILERS)), None)


def user_cache() -> Path:
    """Where compiled code is kept: `$XDG_CACHE_HOME/twhin`, by default `~/.cache/twhin`.

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


def library_name() -> str:
    """The file name of the library of these sources on this platform."""
    text = "\0".join([*COMPILE, *_link_flags(), platform.machine(), sys.platform, *platform.libc_ver()]).encode()
    digest = hashlib.sha256(text)
    for file in _files():
        digest.update(f"\0{file.relative_to(SOURCES).as_posix()}\0".encode() + file.read_bytes())
    return f"engine-{digest.hexdigest()[:24]}.so"


def library() -> Path:
    """The library of these sources, compiled first where it is nowhere. Raises EngineUnavailable, OSError."""
    name = library_name()
    for directory in (_packaged, user_cache, temporary_cache):
        try:
            if (path := directory() / name).exists():
                return path
        except (OSError, RuntimeError):
            continue
    return _cached(name)


def build_library(directory: Path) -> Path:
    """Compile the library into `directory`, which is made; atomic. Raises EngineUnavailable, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / library_name()
    with (directory / ".engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes that start at once compile once
        if not path.exists():
            _compile(path)
    return path


def _packaged() -> Path:
    return PACKAGE


def _cached(name: str) -> Path:
    if find_compiler() is None:
        raise EngineUnavailable(
            f"The engine is not built ({name}), and no C++ compiler was found (CXX, c++, g++ or clang++) to build it."
        )
    try:
        return build_library(user_cache())
    except (OSError, RuntimeError, EngineUnavailable):  # a full disk fails the compiler
        return build_library(temporary_cache())


def _files() -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.suffix in (".cpp", ".h"))


def _link_flags() -> Sequence[str]:
    return LINK["darwin" if sys.platform == "darwin" else "linux"]


def _processors() -> int:
    """How many compilers run at once: as many as this process may use, and few, because each takes memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 4)


def _compile(path: Path) -> None:
    """Compile beside `path`, file by file on several processors, link and rename."""
    compiler = find_compiler()
    if compiler is None:
        raise EngineUnavailable("No C++ compiler was found (CXX, c++, g++ or clang++) to build the engine with.")
    units = [file for file in _files() if file.suffix == ".cpp"]
    include = ("-I", str(SOURCES), "-isystem", sysconfig.get_path("include"))
    with tempfile.TemporaryDirectory(dir=path.parent) as name, ThreadPoolExecutor(_processors()) as pool:
        objects = [str(Path(name) / f"{i}.o") for i in range(len(units))]
        made = zip(units, objects, strict=True)
        list(pool.map(_run, [[compiler, *COMPILE, *include, "-c", str(unit), "-o", file] for unit, file in made]))
        linked = Path(name) / path.name
        _run([compiler, *objects, *_link_flags(), "-o", str(linked)])
        linked.replace(path)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineUnavailable(f"{command[0]} could not compile the engine: {done.stderr.strip()[:500]}.")
