"""The fused Triton step against torch: compiled where there is a GPU, else interpreted on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.triton_here import DEVICE, needs_triton
from training.backends.torch_step import Gradient, direction

pytestmark = needs_triton

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from training.backends.triton_step import BLOCK, _softmax_chunk

names = "query positive table rows known weight loss d_query d_positive d_candidate b k".split()
types = {**dict.fromkeys(names, "*fp32"), "rows": "*i64", "known": "*u8", "b": "i32", "k": "i32"}
for card in (80, 90):
    fixed = {"DIM": 128, "WIDE": 128, "EDGES": 64, "BLOCK": BLOCK, "PRECISION": "tf32"}
    signature = {**types, **dict.fromkeys(fixed, "constexpr")}
    made = triton.compile(ASTSource(_softmax_chunk, signature, fixed), target=GPUTarget("cuda", card, 32),
                          options={"num_warps": 8})
    print(len(made.asm["cubin"]), made.metadata.shared)
"""


def both(c: int, b: int, k: int, d: int, known: float = 0.2) -> tuple[Gradient, Gradient]:
    """The fused step's and torch's."""
    from training.backends.triton_step import triton_direction

    torch.manual_seed(1)
    query, positive = torch.randn(2, c, b, d, device=DEVICE) / 2
    table, rows = torch.randn(50, d, device=DEVICE) / 2, torch.randint(0, 50, (c, k), device=DEVICE)
    mask, weight = torch.rand(c, b, k, device=DEVICE) < known, torch.rand(c, b, device=DEVICE)
    bias = torch.zeros(c, b, device=DEVICE)
    expected = direction(query, positive, table[rows], bias, mask, weight, logistic=False)
    return triton_direction(query, positive, table, rows, mask, weight), expected


@pytest.mark.parametrize(("c", "b", "k", "d"), [(1, 1, 1, 1), (3, 5, 7, 20), (2, 16, 33, 32), (2, 64, 100, 128)])
def test_the_fused_step_agrees_with_torch(c: int, b: int, k: int, d: int) -> None:
    """Chunks, edges, candidates and dimensions that do not fill a block, and such as do."""
    found, expected = both(c, b, k, d)
    for name in ("loss", "query", "positive", "candidate"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5, msg=name)


def test_an_edge_all_of_whose_candidates_are_true_pairs_has_no_gradient() -> None:
    found, _ = both(2, 4, 6, 8, known=1.1)
    assert torch.equal(found.loss, torch.zeros_like(found.loss))
    assert not found.query.any()
    assert not found.candidate.any()


def test_a_session_that_is_fused_learns_what_torch_learns() -> None:
    import numpy as np

    from tests.unit.training.test_backends import trained, world
    from training.backends.torch_backend import TorchBackend
    from training.backends.triton_step import triton_direction

    start = world(chunks_per_update=4)
    loss, expected = trained(start, TorchBackend(start.config, 1, copies=True), chunks=8)
    fused = TorchBackend(start.config, 1, copies=True, fused=triton_direction)
    found_loss, found = trained(start, fused, chunks=8)
    assert found_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)


def test_the_compiler_makes_machine_code_that_fits_two_generations_of_cards(tmp_path: Path) -> None:
    """A100 and H100, in TF32: needs no card, only Triton's own assembler. It has not been seen to run."""
    path = os.pathsep.join(entry for entry in (str(Path.cwd()), *sys.path) if entry)
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert len(made) == 2
    assert all(int(shared) <= 160 * 2**10 for _, shared in made)  # bytes a program may have on an A100
