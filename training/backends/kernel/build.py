"""Compile `step.cpp` and its headers for this processor and one dimension, once, into the user's cache directory."""

import ctypes
import hashlib
import platform
import subprocess
import tempfile
from pathlib import Path

from bundle.errors import KernelUnavailable
from engine.build import find_compiler, temporary_cache, user_cache

SOURCE = Path(__file__).with_name("step.cpp")
FLAGS = ("-O3", "-fno-math-errno", "-march=native", "-std=c++17", "-shared", "-fPIC")
INT16 = {"auto": -1, "float32": 0, "int16": 1}


def load_kernel(padded_dim: int, products: str = "auto") -> ctypes.CDLL:
    """The kernel for vectors of `padded_dim` floats, compiled first where the cache lacks it.

    `products`: float32 or int16; auto: int16 where the processor has instructions for it (VNNI).

    Raises KernelUnavailable when there is no compiler, it fails, or the cache cannot be written.
    """
    compiler = find_compiler()
    options = (*FLAGS, f"-DTWHIN_DIM={padded_dim}", f"-DTWHIN_INT16={INT16[products]}")
    if compiler is None:
        raise KernelUnavailable(
            "No C++ compiler was found (CXX, c++, g++ or clang++), which backend = 'compiled' needs. "
            "Install one, or use backend = 'torch'."
        )
    try:
        return ctypes.CDLL(str(_compiled(compiler, options)))
    except OSError as error:
        raise KernelUnavailable(
            f"The compiled kernel cannot be kept or loaded: {error}. Use backend = 'torch'."
        ) from error


def _compiled(compiler: str, options: tuple[str, ...]) -> Path:
    """The library, compiled first where the cache lacks it. Raises OSError when neither cache can be used."""
    text = b"".join(file.read_bytes() for file in (SOURCE, *sorted(SOURCE.parent.glob("*.h"))))
    name = hashlib.sha256("\0".join([compiler, *options, _processor()]).encode() + text)
    file = f"step-{name.hexdigest()[:24]}.so"
    try:
        return _kept(user_cache() / file, compiler, options)
    except (OSError, RuntimeError):
        return _kept(temporary_cache() / file, compiler, options)


def _kept(path: Path, compiler: str, options: tuple[str, ...]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, options, path)
    return path


def _compile(compiler: str, options: tuple[str, ...], path: Path) -> None:
    """Compile beside `path` and rename, so that two processes at once are safe."""
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        partial = Path(directory) / "step.so"
        command = [compiler, *options, str(SOURCE), "-o", str(partial)]
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
