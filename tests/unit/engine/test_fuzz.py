"""The engine's entry points under the address and undefined-behaviour sanitizers: files and questions at random."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.build import SOURCES, find_compiler

HERE = Path(__file__).parent
FLAGS = ("-std=c++20", "-O1", "-g", "-pthread", "-ffp-contract=off", "-fsanitize=address,undefined")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer and everything of the engine that knows no Python, with the sanitizers."""
    compiler = find_compiler()
    assert compiler is not None
    directory = tmp_path_factory.mktemp("fuzz")
    units = [HERE / "fuzz_ivf4.cpp", *SOURCES.glob("kernels*.cpp"), SOURCES / "level.cpp"]
    units += [unit for unit in (SOURCES / "ivf4").glob("*.cpp") if unit.name != "python.cpp"]
    objects = [directory / f"{i}.o" for i in range(len(units))]

    def compile_one(pair: tuple[Path, Path]) -> None:
        command = [compiler, *FLAGS, "-fno-sanitize-recover=all", "-I", SOURCES, "-c", pair[0], "-o", pair[1]]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, zip(units, objects, strict=True)))
    subprocess.run([compiler, *FLAGS, *objects, "-o", directory / "fuzz"], check=True)
    return directory / "fuzz"


@pytest.mark.parametrize("seed", [1, 2])
def test_no_file_and_no_question_reads_outside_and_all_levels_agree(program: Path, seed: int) -> None:
    done = subprocess.run([program, str(seed), "60"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused" in done.stdout
