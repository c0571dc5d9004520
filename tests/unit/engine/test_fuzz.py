"""The engine's entry points under the address and undefined-behaviour sanitizers: files and questions at random."""

import subprocess
from pathlib import Path

import pytest

from engine.build import find_compiler
from tests.support.fuzzers import compile_fuzzers

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c++20", "-O1", "-g", "-pthread", "-ffp-contract=off", *SANITIZERS)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fuzzers, with the sanitizers."""
    compiler = find_compiler()
    assert compiler is not None
    return compile_fuzzers(("ivf4", "request"), compiler, FLAGS, tmp_path_factory.mktemp("fuzz"))


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
