"""The step of `training/model.py` for many edges at once, in torch: without a compiler, and on GPUs."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.model import EPSILON

# Pairs that are no negatives: a mask, or where they are: in the chunks' dimensions, then edge and candidate.
Known = Bool[Tensor, "*c b k"] | tuple[Int64[Tensor, " _"], ...]


@dataclass(frozen=True, slots=True)
class Gradient:
    """Of one direction: each chunk's loss and its derivative by queries, positives, candidates and queries' bias."""

    loss: Float[Tensor, "*c"]
    query: Float[Tensor, "*c b d"]
    positive: Float[Tensor, "*c b d"]
    candidate: Float[Tensor, "*c k d"]
    bias: Float[Tensor, "*c b"]


def softmax_weights(
    positive: Float[Tensor, "*c b"], negative: Float[Tensor, "*c b k"]
) -> tuple[Float[Tensor, "*c b"], Float[Tensor, "*c b"], Float[Tensor, "*c b k"]]:
    """Per edge: loss -log softmax of the positive among itself and its negatives, and d loss / d score."""
    scores = torch.cat([positive[..., None], negative], dim=-1)
    log_p = torch.log_softmax(scores, dim=-1)
    slope = log_p.exp()
    return -log_p[..., 0], slope[..., 0] - 1.0, slope[..., 1:]


def logistic_weights(
    positive: Float[Tensor, "*c b"], negative: Float[Tensor, "*c b k"]
) -> tuple[Float[Tensor, "*c b"], Float[Tensor, "*c b"], Float[Tensor, "*c b k"]]:
    """Per edge: eq. 2 negated; half of the positive's term belongs to each direction, so it counts once."""
    loss = torch.nn.functional.softplus(-positive) * 0.5 + torch.nn.functional.softplus(negative).sum(-1)
    return loss, -0.5 * torch.sigmoid(-positive), torch.sigmoid(negative)


def direction(
    query: Float[Tensor, "*c b d"],
    positive: Float[Tensor, "*c b d"],
    candidate: Float[Tensor, "*c k d"],
    bias: Float[Tensor, "*c b"],
    known: Known,
    weight: Float[Tensor, "*c b"],
    logistic: bool,
    products: torch.dtype | None = None,
) -> Gradient:
    """Loss and gradients of one direction; scores are query·candidate + bias, `known` pairs count for nothing.

    Leading dimensions are chunks, each with candidates of its own. `products` is the type of numbers that are
    multiplied, by default the inputs' own; sums come back in the inputs'.
    """
    negative = _product(query, candidate.mT, products) + bias[..., None]
    negative[known] = -torch.inf
    weights = logistic_weights if logistic else softmax_weights
    loss, slope, slopes = weights((query * positive).sum(-1) + bias, negative)
    slope, slopes = slope * weight, slopes * weight[..., None]
    return Gradient(
        loss=(loss * weight).sum(-1),
        query=slope[..., None] * positive + _product(slopes, candidate, products),
        positive=slope[..., None] * query,
        candidate=_product(slopes.mT, query, products),
        bias=slope + slopes.sum(-1),
    )


def _product(
    a: Float[Tensor, "*c i k"], b: Float[Tensor, "*c k j"], numbers: torch.dtype | None
) -> Float[Tensor, "*c i j"]:
    if numbers is None or numbers == a.dtype:
        return a @ b
    return (a.to(numbers) @ b.to(numbers)).to(a.dtype)


@dataclass(frozen=True, slots=True)
class TorchTable:
    """A table as torch sees it: on the CPU these share memory with the numpy arrays.

    Entities have one number of state a row, relations one a coordinate.
    """

    vectors: Float[Tensor, "n d"]
    accumulator: Float[Tensor, " n"] | Float[Tensor, "n d"]
    previous: Float[Tensor, "n d"] | None


@dataclass(frozen=True, slots=True)
class Rates:
    """How far a row moves: the learning rate, the pull to the version before, the pull to zero."""

    learning_rate: float
    l2_previous: float
    l2: float


def adagrad_rows(table: TorchTable, rows: Tensor, gradient: Float[Tensor, "m d"], rates: Rates) -> None:
    """Row-wise Adagrad: add up each row's gradient, then θ -= rate · g / sqrt(Σ mean g²)."""
    unique, place = torch.unique(rows, return_inverse=True)
    total = torch.zeros((len(unique), gradient.shape[1]), device=gradient.device)
    total.index_add_(0, place, gradient)
    old = table.vectors[unique]
    if table.previous is not None:
        total += (2.0 * rates.l2_previous) * (old - table.previous[unique])
    if rates.l2:
        total += (2.0 * rates.l2) * old
    state = table.accumulator[unique] + total.square().mean(1)
    table.accumulator[unique] = state
    table.vectors[unique] = old - rates.learning_rate * total / (state.sqrt() + EPSILON)[:, None]


def adagrad(vectors: Tensor, accumulator: Tensor, rows: Tensor, gradient: Tensor, rate: float) -> None:
    """Adagrad, each coordinate for itself, on the relations `rows`; repeated rows are added up first."""
    unique, place = torch.unique(rows, return_inverse=True)
    total = torch.zeros((len(unique), gradient.shape[1]), device=gradient.device)
    total.index_add_(0, place, gradient)
    state = accumulator[unique] + total.square()
    accumulator[unique] = state
    vectors[unique] = vectors[unique] - rate * total / (state.sqrt() + EPSILON)
