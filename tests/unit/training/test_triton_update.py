"""The fused Triton kernel, interpreted on the CPU, against the torch update."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.torch_step import Rates, TorchTable
from training.torch_update import torch_update

TOLERANCE = 1e-5
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"
)
os.environ["TRITON_INTERPRET"] = "1"  # read when the kernel's module is first imported

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from training.triton_update import _update_rows

tables = {"vectors": "*fp32", "state": "*fp32", "previous": "*fp32"}
pointers = {**tables, "rows": "*i64", "order": "*i64", "gradient": "*fp32"}
numbers = {"m": "i32", "rate": "fp32", "pull": "fp32", "decay": "fp32", "epsilon": "fp32"}
for card in (80, 90):
    for previous, by_coordinate in ((False, False), (True, False), (False, True)):
        fixed = {"DIM": 100, "BLOCK": 128, "HAS_PREVIOUS": previous, "BY_COORDINATE": by_coordinate}
        source = ASTSource(_update_rows, {**pointers, **numbers, **dict.fromkeys(fixed, "constexpr")}, fixed)
        print(len(triton.compile(source, target=GPUTarget("cuda", card, 32)).asm["cubin"]))
"""


def table(rows: int, dim: int, *, previous: bool = False, by_coordinate: bool = False) -> TorchTable:
    state = torch.rand((rows, dim) if by_coordinate else (rows,))
    return TorchTable(torch.randn(rows, dim), state, torch.randn(rows, dim) if previous else None)


def copy_of(original: TorchTable) -> TorchTable:
    return TorchTable(original.vectors.clone(), original.accumulator.clone(), original.previous)


CASES = {
    "entities": {},
    "relations": {"by_coordinate": True},
    "pulled to the version before": {"previous": True},
}


@pytest.mark.parametrize("dim", [1, 20, 128])
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_agrees_with_torch(case: str, dim: int) -> None:
    """Rows that come once, often and never; the first and the last row; a gradient of zero on a fresh row."""
    from training.triton_update import triton_update

    torch.manual_seed(4)
    expected = table(30, dim, **CASES[case])
    expected.accumulator[0] = 0.0
    found = copy_of(expected)
    rows = torch.tensor([0, 29, *([7] * 20), *torch.randint(8, 25, (60,)).tolist(), 0])
    gradient = torch.randn(len(rows), dim)
    gradient[[0, -1]] = 0.0
    rates = Rates(0.1, 0.05, 0.02) if case != "relations" else Rates(0.1, 0.0, 0.0)
    torch_update(expected, rows, gradient, rates)
    triton_update(found, rows, gradient, rates)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(found.accumulator, expected.accumulator, rtol=TOLERANCE, atol=TOLERANCE)


def test_nothing_to_do_changes_nothing() -> None:
    from training.triton_update import triton_update

    before = table(3, 4)
    after = copy_of(before)
    triton_update(after, torch.empty(0, dtype=torch.int64), torch.empty(0, 4), Rates(0.1, 0.0, 0.0))
    torch.testing.assert_close(after.vectors, before.vectors, rtol=0, atol=0)


def test_the_compiler_makes_machine_code_of_it_for_two_generations_of_cards(tmp_path: Path) -> None:
    """A100 and H100: needs no card, only Triton's own assembler. What the code then does has not been seen."""
    path = os.pathsep.join(entry for entry in (str(Path.cwd()), *sys.path) if entry)
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6
