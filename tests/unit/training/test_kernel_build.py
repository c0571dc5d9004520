"""Compiling the kernel: once, kept under a name that says for what; without a compiler torch does the work."""

import ctypes
from pathlib import Path

import pytest

from bundle.errors import KernelUnavailable
from training.backends.choose import make_backend
from training.backends.kernel.build import cache_directory, find_compiler, load_kernel
from training.config import TrainConfig

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler here")


@needs_compiler
def test_it_is_compiled_once_for_each_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert isinstance(load_kernel(32), ctypes.CDLL)
    (library,) = cache_directory().iterdir()
    written = library.stat().st_mtime_ns
    load_kernel(32)
    assert [file.stat().st_mtime_ns for file in cache_directory().iterdir()] == [written]


def test_without_a_compiler_auto_falls_back_and_compiled_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    assert make_backend(TrainConfig(threads=1)).name == "torch"
    with pytest.raises(KernelUnavailable, match="No C\\+\\+ compiler"):
        make_backend(TrainConfig(threads=1, backend="compiled"))


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'out of magic' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(KernelUnavailable, match="out of magic"):
        make_backend(TrainConfig(threads=1, backend="compiled"))
    assert make_backend(TrainConfig(threads=1)).name == "torch"
    assert not list(cache_directory().iterdir())


def test_the_kernel_is_for_the_cpu() -> None:
    with pytest.raises(Exception, match="runs on the CPU"):
        make_backend(TrainConfig(backend="compiled", device="cuda"))
