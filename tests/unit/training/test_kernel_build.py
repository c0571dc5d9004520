"""Compiling the kernel: once, kept under a name that says for what; without a compiler torch does the work."""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bundle.errors import ConfigError, KernelUnavailable
from engine.build import find_compiler, temporary_cache, user_cache
from training.backends.choose import make_backend
from training.backends.kernel.build import load_kernel
from training.config import TrainConfig

ROOT = Path(__file__).parents[3]
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler here")


@needs_compiler
def test_it_is_compiled_once_for_each_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert isinstance(load_kernel(32), ctypes.CDLL)
    (library,) = user_cache().iterdir()
    written = library.stat().st_mtime_ns
    load_kernel(32)
    assert [file.stat().st_mtime_ns for file in user_cache().iterdir()] == [written]


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
    assert not list(user_cache().iterdir())


def test_the_kernel_is_for_the_cpu() -> None:
    for settings in ({"backend": "compiled", "device": "cuda"}, {"backend": "torch", "products": "int16"},
                     {"backend": "compiled", "products": "bfloat16"}):  # fmt: skip
        with pytest.raises(ConfigError, match="do not go together"):
            make_backend(TrainConfig.model_validate(settings))


LOAD = """
import os, pwd, sys
from training.backends.kernel.build import load_kernel
if os.getuid() == 0:  # the interpreter may lie where no other user can read it, so not before now
    os.setgroups([])
    os.setgid(54321)
    os.setuid(54321)
print(any(entry.pw_uid == os.getuid() for entry in pwd.getpwall()))
print(load_kernel(32)._name)
"""


def load_with(environment: dict[str, str]) -> list[str]:
    """Whether the user is listed, and which library is loaded, in a process of its own."""
    path = os.pathsep.join(entry for entry in (str(ROOT), *sys.path) if entry)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_compiler
def test_a_user_without_a_home_keeps_kernels_in_the_temporary_directory() -> None:
    """As in a container: no `HOME` and no entry in the list of users, or a home that cannot be written."""
    as_root = os.getuid() == 0  # only root can become a user who is in no list
    homes = [{"HOME": "/proc/no-such-home"}, *([{}] if as_root else [])]
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o777)
        kept = Path(directory) / f"twhin-{54321 if as_root else os.getuid()}"
        for home in homes:
            listed, library = load_with({"TMPDIR": directory, **home})
            assert listed == str(not as_root)
            assert [Path(library)] == list(kept.iterdir())
        assert kept.stat().st_mode & 0o777 == 0o700


def test_code_of_another_user_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the temporary directory could lay a library there in our name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert temporary_cache() == tmp_path / f"twhin-{os.getuid()}"
    temporary_cache().chmod(0o777)
    with pytest.raises(PermissionError, match="not this user's alone"):
        temporary_cache()
    link = tmp_path / f"twhin-{os.getuid()}"
    link.rmdir()
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="not this user's alone"):
        temporary_cache()
