"""The fused Triton kernels against the torch update: compiled where there is a GPU, else interpreted on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.triton_here import DEVICE, needs_triton
from training.backends.torch_backend import torch_update
from training.backends.torch_step import Rates, TorchTable

TOLERANCE = 1e-5
pytestmark = needs_triton

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from training.backends.triton_update import SPAN, _sum_spans, _update_rows

tables = {"vectors": "*fp32", "state": "*fp32", "previous": "*fp32"}
pointers = {**tables, "rows": "*i64", "order": "*i64", "gradient": "*fp32"}
numbers = {"m": "i32", "learning_rate": "fp32", "l2_previous": "fp32", "l2": "fp32", "epsilon": "fp32"}
for card in (80, 90):
    for previous, by_coordinate in ((False, False), (True, False), (False, True)):
        fixed = {"DIM": 100, "BLOCK": 128, "HAS_PREVIOUS": previous, "BY_COORDINATE": by_coordinate}
        fixed["SPAN"] = SPAN if by_coordinate else 1
        source = ASTSource(_update_rows, {**pointers, **numbers, **dict.fromkeys(fixed, "constexpr")}, fixed)
        print(len(triton.compile(source, target=GPUTarget("cuda", card, 32)).asm["cubin"]))
    fixed = {"DIM": 100, "BLOCK": 128, "SPAN": SPAN}
    types = {"rows": "*i64", "order": "*i64", "gradient": "*fp32", "sums": "*fp32", "m": "i32"}
    source = ASTSource(_sum_spans, {**types, **dict.fromkeys(fixed, "constexpr")}, fixed)
    print(len(triton.compile(source, target=GPUTarget("cuda", card, 32)).asm["cubin"]))
"""


def table(rows: int, dim: int, *, previous: bool = False, by_coordinate: bool = False) -> TorchTable:
    state = torch.rand((rows, dim) if by_coordinate else (rows,), device=DEVICE)
    vectors, before = torch.randn(2, rows, dim, device=DEVICE)
    return TorchTable(vectors, state, before if previous else None)


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
    from training.backends.triton_update import triton_update

    torch.manual_seed(4)
    expected = table(30, dim, **CASES[case])
    expected.accumulator[0] = 0.0
    found = copy_of(expected)
    rows = torch.tensor([0, 29, *([7] * 20), *torch.randint(8, 25, (60,)).tolist(), 0], device=DEVICE)
    gradient = torch.randn(len(rows), dim, device=DEVICE)
    gradient[[0, -1]] = 0.0
    rates = Rates(0.1, 0.05, 0.02) if case != "relations" else Rates(0.1, 0.0, 0.0)
    torch_update(expected, rows, gradient, rates)
    triton_update(found, rows, gradient, rates)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(found.accumulator, expected.accumulator, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("lengths", [(1,), (64,), (65, 1), (3, 200, 61, 64, 130)])
def test_no_program_sums_a_long_run_of_one_relation_alone(lengths: tuple[int, ...]) -> None:
    """Runs within, at and across the spans that are summed first; no entry sums more than a span."""
    from training.backends.triton_update import SPAN, _sum_spans, triton_update

    torch.manual_seed(5)
    expected = table(len(lengths), 20, by_coordinate=True)
    found = copy_of(expected)
    ordered = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(DEVICE)
    shuffled = torch.randperm(len(ordered), device=DEVICE)
    gradient, rates = torch.randn(len(ordered), 20, device=DEVICE), Rates(0.1, 0.0, 0.0)
    torch_update(expected, ordered[shuffled], gradient, rates)
    triton_update(found, ordered[shuffled], gradient, rates)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=1e-4, atol=TOLERANCE)
    torch.testing.assert_close(found.accumulator, expected.accumulator, rtol=1e-4, atol=TOLERANCE)
    ones, sums = torch.ones(len(ordered), 20, device=DEVICE), torch.zeros(len(ordered), 20, device=DEVICE)
    order = torch.arange(len(ordered), device=DEVICE)
    _sum_spans[(len(ordered),)](ordered, order, ones, sums, len(ordered), DIM=20, BLOCK=32, SPAN=SPAN)
    assert sums.max() <= SPAN
    assert sums[:, 0].sum() == len(ordered)


def test_nothing_to_do_changes_nothing() -> None:
    from training.backends.triton_update import triton_update

    before = table(3, 4)
    after = copy_of(before)
    none = torch.empty(0, dtype=torch.int64, device=DEVICE)
    triton_update(after, none, torch.empty(0, 4, device=DEVICE), Rates(0.1, 0.0, 0.0))
    torch.testing.assert_close(after.vectors, before.vectors, rtol=0, atol=0)


def test_the_compiler_makes_machine_code_of_it_for_two_generations_of_cards(tmp_path: Path) -> None:
    """A100 and H100: needs no card, only Triton's own assembler. What the code then does has not been seen."""
    path = os.pathsep.join(entry for entry in (str(Path.cwd()), *sys.path) if entry)
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8
