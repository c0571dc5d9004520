"""Building the engine: of its own sources and no others, once; where it cannot be built Python does the work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from bundle.errors import EngineUnavailable
from engine.build import library, library_name

ROOT = Path(__file__).parents[3]
SAYS = "import engine; print(engine.available(), engine.why_unavailable() or engine.native().level().decode())"


def ask(cache: Path, source: Path = ROOT, **settings: str) -> str:
    """What a new process says of the engine of `source`, whose cache is `cache`."""
    environment = {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(source), "TMPDIR": str(cache)} | settings
    done = subprocess.run(
        [sys.executable, "-c", SAYS], cwd=source, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A source tree of a few lines of C++ around the real binding."""
    for package in ("engine", "bundle"):
        shutil.copytree(
            ROOT / package, tmp_path / "tree" / package, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    source = tmp_path / "tree/engine/src"
    for file in source.rglob("*.cpp"):
        if file.name not in ("module.cpp", "level.cpp"):
            file.unlink()
    return tmp_path / "tree"


def test_it_is_available_here() -> None:
    assert engine.why_unavailable() is None
    assert library().name == library_name()


def test_changed_sources_are_compiled_again_and_the_old_library_is_not_loaded(copy: Path, tmp_path: Path) -> None:
    path = os.environ["PATH"]
    assert ask(tmp_path / "cache", copy, PATH=path, TWHIN_ENGINE="plain") == "True plain"
    level = copy / "engine/src/level.cpp"
    level.write_text(level.read_text().replace('{"plain", ', '{"simple", '))
    assert ask(tmp_path / "cache", copy, PATH=path, TWHIN_ENGINE="simple") == "True simple"
    assert len(list((tmp_path / "cache/twhin").glob("engine-*.so"))) == 2


def test_a_library_beside_its_sources_needs_no_compiler(copy: Path, tmp_path: Path) -> None:
    ask(tmp_path / "cache", copy, PATH=os.environ["PATH"])
    (built,) = (tmp_path / "cache/twhin").glob("engine-*.so")
    shutil.move(built, copy / "engine")
    assert ask(tmp_path / "empty", copy, PATH="", TWHIN_ENGINE="plain") == "True plain"


def test_without_a_compiler_it_says_so(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundle", tmp_path / "tree/bundle")
    shutil.copytree(ROOT / "engine", tmp_path / "tree/engine", ignore=shutil.ignore_patterns("*.so"))
    answer = ask(tmp_path / "cache", tmp_path / "tree", PATH="")
    assert answer.startswith("False The engine is not built")
    assert "no C++ compiler was found" in answer


def test_a_compiler_that_fails_is_quoted(copy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'out of magic' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert "out of magic" in ask(tmp_path / "cache", copy, CXX=str(broken), PATH=os.environ["PATH"])
    assert not list((tmp_path / "cache/twhin").glob("*.so"))


@pytest.mark.parametrize(
    ("value", "said"), [("off", "switched off by TWHIN_ENGINE=off"), ("sse9", "no such instruction")]
)
def test_it_can_be_switched_off_and_a_wrong_level_is_named(tmp_path: Path, value: str, said: str) -> None:
    assert said in ask(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")), TWHIN_ENGINE=value, PATH="")


def test_whatever_a_level_is_compiled_for_is_asked_of_the_processor() -> None:
    source = ROOT / "engine/src"
    attributes = re.findall(r'target\("([^"]+)"\)', (source / "level.h").read_text())
    asked = set(re.findall(r'supports\("(\w+)"\)|has_(\w+)\(\)', (source / "level.cpp").read_text()))
    needed = set(re.sub(r"arch=[\w.-]+\+", "", ",".join(attributes)).split(","))
    assert {"avx2", "avxvnni", "avx512vnni", "dotprod"} <= needed
    assert needed <= {name for pair in asked for name in pair}


def test_native_raises_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.load._loaded", lambda: "it is not there")
    with pytest.raises(EngineUnavailable, match="it is not there"):
        engine.native()


def test_every_function_of_the_library_is_described_for_python() -> None:
    functions = {name for name in dir(engine.native()) if not name.startswith("_")}
    assert functions == {name for name in vars(engine.Native) if not name.startswith("_")}
