"""The engine's entry points under the address and undefined-behaviour sanitizers: files and questions at random."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.build import SOURCES, find_compiler

HERE = Path(__file__).parent
FLAGS = ("-std=c++20", "-O1", "-g", "-pthread", "-ffp-contract=off", "-fsanitize=address,undefined")


FUZZERS = ("ivf4", "request")
WITH_PYTHON = ("python", "handles", "learning", "module", "request")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fuzzers, each with everything of the engine that knows no Python, with the sanitizers."""
    compiler = find_compiler()
    assert compiler is not None
    directory = tmp_path_factory.mktemp("fuzz")
    units = [HERE / f"fuzz_{name}.cpp" for name in FUZZERS]
    units += [unit for unit in SOURCES.rglob("*.cpp") if unit.stem not in WITH_PYTHON]
    objects = [directory / f"{i}.o" for i in range(len(units))]

    def compile_one(pair: tuple[Path, Path]) -> None:
        command = [compiler, *FLAGS, "-fno-sanitize-recover=all", "-I", SOURCES, "-c", pair[0], "-o", pair[1]]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, zip(units, objects, strict=True)))
    shared = objects[len(FUZZERS) :]
    for name, own in zip(FUZZERS, objects, strict=False):
        subprocess.run([compiler, *FLAGS, own, *shared, "-o", directory / name], check=True)
    return {name: directory / name for name in FUZZERS}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_file_and_no_question_reads_outside_and_all_levels_agree(programs: dict[str, Path], seed: int) -> None:
    done = subprocess.run([programs["ivf4"], str(seed), "60"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused" in done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_no_version_and_no_request_reads_outside_or_leaves_anything(programs: dict[str, Path], seed: int) -> None:
    done = subprocess.run(
        [programs["request"], str(seed), "300"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 1000
