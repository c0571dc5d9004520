"""How good ranked lists are: recall, nDCG, MRR, diversity, coverage, popularity bias, with bootstrap intervals.

All functions are pure. A user's *list* is rows of the candidate type, best first; the *relevant* rows are the
held-out targets that a perfect list would begin with.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64, Integer

from recommend.types import in_sorted

Ranks = Int64[npt.NDArray[np.int64], " hits"]
PerUser = Float64[npt.NDArray[np.float64], " users"]


class Interval(NamedTuple):
    """A mean over users and the limits of its confidence interval. NaN where no user counts."""

    mean: float
    low: float
    high: float
    n: int


def hit_ranks(
    ranked: Integer[npt.NDArray[np.integer], " listed"], relevant: Integer[npt.NDArray[np.integer], " relevant"]
) -> Ranks:
    """The positions in `ranked`, from 0 and ascending, of the rows that are relevant."""
    return np.flatnonzero(in_sorted(ranked, np.sort(relevant))).astype(np.int64)


def recall(ranks: Ranks, n_relevant: int, k: int) -> float:
    """The share of the relevant rows that are among the first `k`; NaN when nothing is relevant."""
    return float(np.count_nonzero(ranks < k) / n_relevant) if n_relevant else float("nan")


def ndcg(ranks: Ranks, n_relevant: int, k: int) -> float:
    """Discounted gain Σ 1/log2(2 + rank) of the first `k` over a perfect list's; NaN when nothing is relevant."""
    if n_relevant == 0:
        return float("nan")
    ideal = np.sum(1.0 / np.log2(2.0 + np.arange(min(n_relevant, k))))
    return float(np.sum(1.0 / np.log2(2.0 + ranks[ranks < k])) / ideal)


def reciprocal_rank(ranks: Ranks, n_relevant: int) -> float:
    """1 / (1 + rank) of the first relevant row, 0 when it is not listed; NaN when nothing is relevant."""
    if n_relevant == 0:
        return float("nan")
    return 1.0 / (1.0 + float(ranks[0])) if len(ranks) else 0.0


def diversity(
    ranked: Integer[npt.NDArray[np.integer], " listed"], vectors: Float32[npt.NDArray[np.float32], "n d"], k: int
) -> float:
    """Mean of 1 - cosine over all pairs of the first `k`; NaN for fewer than two."""
    chosen = vectors[ranked[:k]].astype(np.float64)
    n = len(chosen)
    if n < 2:
        return float("nan")
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    total = float(np.sum(unit.sum(axis=0) ** 2) - np.sum(unit**2))
    return 1.0 - total / (n * (n - 1))


def exposure(
    lists: Sequence[Integer[npt.NDArray[np.integer], " _"]], n_candidates: int, k: int
) -> Int64[npt.NDArray[np.int64], " n_candidates"]:
    """How often each candidate is among the first `k` of a list."""
    listed = np.concatenate([ranked[:k] for ranked in lists]) if lists else np.empty(0, dtype=np.int32)
    return np.bincount(listed, minlength=n_candidates).astype(np.int64)


def coverage(exposed: Int64[npt.NDArray[np.int64], " n"]) -> float:
    """The share of the catalogue in anybody's list."""
    return float(np.count_nonzero(exposed) / len(exposed)) if len(exposed) else float("nan")


def gini(exposed: Int64[npt.NDArray[np.int64], " n"]) -> float:
    """How unequally exposure is spread: 0 when all candidates are listed equally often, near 1 when one has it all."""
    total = int(exposed.sum())
    if total == 0:
        return float("nan")
    ascending = np.sort(exposed).astype(np.float64)
    n = len(ascending)
    return float(np.sum((2.0 * np.arange(1, n + 1) - n - 1) * ascending) / (n * total))


def bootstrap(values: PerUser, seed: int | None, *, samples: int = 1000, level: float = 0.95) -> Interval:
    """The mean of `values` without its NaN and the percentile interval of the mean of `samples` resamplings, drawn by
    `seed`: as many values are resampled alike whatever they are.

    Without a seed nothing is resampled and the interval's ends are NaN.
    """
    known = values[~np.isnan(values)]
    n = len(known)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    if seed is None:
        return Interval(float(known.mean()), float("nan"), float("nan"), n)
    # By one thread: those of a BLAS wait for each other longer than this takes.
    means = np.einsum("sn,n->s", times_taken(n, seed, samples), known, dtype=np.float64, casting="safe") / n
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(known.mean()), float(low), float(high), n)


@lru_cache(maxsize=4)  # of a million users one is 2 GB
def times_taken(n: int, seed: int, samples: int) -> npt.NDArray[np.uint16]:
    """How often each of n values is taken in each resampling of n of them [samples, n].

    Kept, as drawing takes most of the time, and a report asks for the same users by every method and metric.
    """
    # Drawing how often each value is taken needs no n × samples table of positions. No value comes near 2¹⁶ times.
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=samples).astype(np.uint16)
