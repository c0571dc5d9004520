"""The fused step for NVIDIA GPUs: candidates' rows, scores, softmax and gradients of a chunk, in one Triton kernel.

Torch writes the candidates, the scores, their softmax and its slopes to memory and reads them again, several times;
here they stay on the chip: a chunk's queries lie in registers, candidates come block by block straight from the table,
and what is written is the gradients alone. A first pass over the candidates finds the largest score and the softmax's
sum, a second computes the scores again (as in FlashAttention, Dao et al. 2022): four products in place of three.

Equal to `training.backends.torch_step.direction` to the rounding of the sums.
"""

# Triton is optional, and its kernels are no Python that a type checker could follow.
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,no-untyped-def,unused-ignore"

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.backends.torch_step import Gradient

# Candidates that a program takes at a time.
BLOCK = 32


@triton.jit
def _softmax_chunk(
    query, positive, table, rows, known, weight, loss, d_query, d_positive, d_candidate, b, k,
    DIM: tl.constexpr, WIDE: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a chunk. `known` is 1 where a candidate is no negative of an edge."""
    chunk = tl.program_id(0).to(tl.int64)
    edge, column, step = tl.arange(0, EDGES), tl.arange(0, WIDE), tl.arange(0, BLOCK)
    inside = (edge < b)[:, None] & (column < DIM)[None, :]
    at = (chunk * b + edge)[:, None] * DIM + column[None, :]
    q = tl.load(query + at, mask=inside, other=0.0)
    own = tl.load(positive + at, mask=inside, other=0.0)
    factor = tl.load(weight + chunk * b + edge, mask=edge < b, other=0.0)
    first = tl.sum(q * own, 1)
    top, total = first, tl.full([EDGES], 1.0, dtype=tl.float32)
    for start in range(0, k, BLOCK):
        j = start + step
        row = tl.load(rows + chunk * k + j, mask=j < k, other=0)
        there = (j < k)[:, None] & (column < DIM)[None, :]
        c = tl.load(table + row[:, None] * DIM + column[None, :], mask=there, other=0.0)
        place = (chunk * b + edge)[:, None] * k + j[None, :]
        out = tl.load(known + place, mask=(edge < b)[:, None] & (j < k)[None, :], other=1) != 0
        score = tl.where(out, float("-inf"), tl.dot(q, tl.trans(c), input_precision=PRECISION))
        higher = tl.maximum(top, tl.max(score, 1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(score - higher[:, None]), 1)
        top = higher
    tl.store(loss + chunk, tl.sum(factor * (top + tl.log(total) - first)))
    share = factor / total
    slope = tl.exp(first - top) * share - factor
    d_q = slope[:, None] * own
    tl.store(d_positive + at, slope[:, None] * q, mask=inside)
    for start in range(0, k, BLOCK):
        j = start + step
        row = tl.load(rows + chunk * k + j, mask=j < k, other=0)
        there = (j < k)[:, None] & (column < DIM)[None, :]
        c = tl.load(table + row[:, None] * DIM + column[None, :], mask=there, other=0.0)
        place = (chunk * b + edge)[:, None] * k + j[None, :]
        out = tl.load(known + place, mask=(edge < b)[:, None] & (j < k)[None, :], other=1) != 0
        score = tl.where(out, float("-inf"), tl.dot(q, tl.trans(c), input_precision=PRECISION))
        slopes = tl.exp(score - top[:, None]) * share[:, None]
        d_q += tl.dot(slopes, c, input_precision=PRECISION)
        d_c = tl.dot(tl.trans(slopes), q, input_precision=PRECISION)
        tl.store(d_candidate + (chunk * k + j)[:, None] * DIM + column[None, :], d_c, mask=there)
    tl.store(d_query + at, d_q, mask=inside)


def triton_direction(
    query: Float[Tensor, "c b d"],
    positive: Float[Tensor, "c b d"],
    table: Float[Tensor, "n d"],
    rows: Int64[Tensor, "c k"],
    known: Bool[Tensor, "c b k"],
    weight: Float[Tensor, "c b"],
) -> Gradient:
    """See `direction`, for a softmax of chunks whose edges fit one program; the candidates are `rows` of the table.

    Products in float32 are exact, or TF32 where torch's own may be (`torch.backends.cuda.matmul.allow_tf32`).
    """
    chunks, b, dim = query.shape
    k = rows.shape[1]
    loss, d_query, d_positive = query.new_empty(chunks), torch.empty_like(query), torch.empty_like(positive)
    d_candidate = query.new_empty(chunks, k, dim)
    _softmax_chunk[(chunks,)](
        query.contiguous(), positive.contiguous(), table, rows.contiguous(), known.contiguous().view(torch.uint8),
        weight.contiguous(), loss, d_query, d_positive, d_candidate, b, k,
        DIM=dim, WIDE=max(16, triton.next_power_of_2(dim)), EDGES=max(16, triton.next_power_of_2(b)), BLOCK=BLOCK,
        PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
        num_warps=8,
    )  # fmt: skip
    # A softmax does not feel a constant that is added to all of an edge's scores.
    return Gradient(loss, d_query, d_positive, d_candidate, torch.zeros_like(weight))
