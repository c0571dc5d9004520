"""The compiled code for ARM's processors: compiled across and run by QEMU, which `scripts/test_tools.sh` installs."""

import subprocess
from pathlib import Path

import pytest

from engine.build import COMPILE
from tests.support.fuzzers import compile_fuzzers
from training.backends.kernel.build import FLAGS, SOURCE

COMPILER = "aarch64-linux-gnu-g++"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fuzzers; that of `ivf4` compares every instruction set with plain code, in building and in searching."""
    flags = (*COMPILE, "-O1", "-Werror", "-static")
    return compile_fuzzers(("ivf4", "request"), COMPILER, flags, tmp_path_factory.mktemp("arm"))


def asked(program: Path, processor: str, rounds: int) -> str:
    """What the program prints, on this processor."""
    command = ["qemu-aarch64", "-cpu", processor, program, "1", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_neon_builds_and_answers_as_plain_code_does(programs: dict[str, Path]) -> None:
    assert asked(programs["ivf4"], "max", 30).startswith("plain neon \n")


def test_a_processor_without_products_of_bytes_runs_plain_code(programs: dict[str, Path]) -> None:
    assert asked(programs["ivf4"], "cortex-a53", 10).startswith("plain \n")


def test_whole_requests_are_answered(programs: dict[str, Path]) -> None:
    assert int(asked(programs["request"], "max", 30).split()[0]) > 100


def test_the_training_step_compiles(tmp_path: Path) -> None:
    flags = ["-march=armv8.2-a+dotprod" if flag.startswith("-march") else flag for flag in FLAGS]
    command = [COMPILER, *flags, "-O1", "-DTWHIN_DIM=128", "-DTWHIN_INT16=1", SOURCE, "-o", tmp_path / "step.so"]
    subprocess.run(command, check=True)
