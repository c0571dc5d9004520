"""The fused update for NVIDIA GPUs: sum the gradients of equal rows and apply Adagrad to them, in one Triton kernel.

Relations, of which a few have all the gradients, are summed in two stages: another kernel sums spans of a run first.

Equal to `training.backends.torch_backend.torch_update` to 1e-5 of a value: only the order of the sums differs.
"""

# Triton is optional, and its kernels are no Python that a type checker could follow.
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,no-untyped-def,unused-ignore"

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

from training.backends.torch_step import Rates, TorchTable
from training.model import EPSILON

# Gradients of a relation that one program sums: 128 chunks of 64 edges, all of one relation, are two times 128 steps in
# place of 8,192.
SPAN = 64


@triton.jit
def _sum_spans(rows, order, gradient, sums, m, DIM: tl.constexpr, BLOCK: tl.constexpr, SPAN: tl.constexpr):
    """One program an entry of the sorted `rows`: the first of a run of equal ones, and each at a multiple of SPAN, sums
    from there to the next of them."""
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i)
    before = tl.load(rows + i - 1, mask=i > 0, other=-1)
    if (row != before) | (i % SPAN == 0):
        column = tl.arange(0, BLOCK)
        inside = column < DIM
        total = tl.zeros([BLOCK], dtype=tl.float32)
        j = i
        following = row
        while following == row:
            source = tl.load(order + j)
            total += tl.load(gradient + source * DIM + column, mask=inside, other=0.0)
            j += 1
            following = tl.load(rows + j, mask=(j < m) & (j % SPAN != 0), other=-1)
        tl.store(sums + i * DIM + column, total, mask=inside)


@triton.jit
def _update_rows(
    vectors, state, previous, rows, order, gradient, m, learning_rate, l2_previous, l2, epsilon,
    DIM: tl.constexpr, BLOCK: tl.constexpr, HAS_PREVIOUS: tl.constexpr, BY_COORDINATE: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """One program an entry of the sorted `rows`: the first of a run of equal ones sums the run and moves the row.

    With a SPAN above 1 `gradient` holds what `_sum_spans` summed.
    """
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i)
    before = tl.load(rows + i - 1, mask=i > 0, other=-1)
    if row != before:
        column = tl.arange(0, BLOCK)
        inside = column < DIM
        at = row * DIM + column
        old = tl.load(vectors + at, mask=inside, other=0.0)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        j = i
        following = row
        while following == row:
            source = j if SPAN > 1 else tl.load(order + j)
            total += tl.load(gradient + source * DIM + column, mask=inside, other=0.0)
            j = (j // SPAN + 1) * SPAN
            following = tl.load(rows + j, mask=j < m, other=-1)
        if HAS_PREVIOUS:
            total += 2.0 * l2_previous * (old - tl.load(previous + at, mask=inside, other=0.0))
        total += 2.0 * l2 * old
        if BY_COORDINATE:
            sums = tl.load(state + at, mask=inside, other=0.0) + total * total
            tl.store(state + at, sums, mask=inside)
            tl.store(vectors + at, old - learning_rate * total / (tl.sqrt(sums) + epsilon), mask=inside)
        else:
            mean = tl.load(state + row) + tl.sum(total * total) / DIM
            tl.store(state + row, mean)
            tl.store(vectors + at, old - learning_rate * total / (tl.sqrt(mean) + epsilon), mask=inside)


def triton_update(table: TorchTable, rows: Int64[Tensor, " m"], gradient: Float[Tensor, "m d"], rates: Rates) -> None:
    """See Update. Nothing here makes the host wait for the device, and equal inputs give equal bits."""
    if len(rows) == 0:
        return
    ordered, order = torch.sort(rows, stable=True)
    dim, by_coordinate = gradient.shape[1], table.accumulator.ndim == 2
    pulled = table.previous is not None and not by_coordinate
    block, gradient = triton.next_power_of_2(dim), gradient.contiguous()
    if by_coordinate:
        sums = torch.empty_like(gradient)
        _sum_spans[(len(rows),)](ordered, order, gradient, sums, len(rows), DIM=dim, BLOCK=block, SPAN=SPAN)
        gradient = sums
    _update_rows[(len(rows),)](
        table.vectors, table.accumulator, table.previous if pulled else table.vectors, ordered, order,
        gradient, len(rows), rates.learning_rate, rates.l2_previous, rates.l2, EPSILON,
        DIM=dim, BLOCK=block, HAS_PREVIOUS=pulled, BY_COORDINATE=by_coordinate, SPAN=SPAN if by_coordinate else 1,
    )  # fmt: skip
