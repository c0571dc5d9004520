"""A slate that repeats itself less: maximal marginal relevance over a pool, and a cap on candidates of one cluster.

From a pool in order of relevance, candidates are taken one by one: next is the one with the largest

    (1 − diversity) · relevance − diversity · max cos(θt, θs) over the s that are taken already

(Carbonell and Goldstein, SIGIR 1998). Relevance is 1 for the first of the pool and falls evenly to 0: by rank and not
by score, because the scores of different interests do not compare.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from recommend.types import Picks

# Candidates to choose from: so many times those asked for, at least and at most so many, never fewer than asked for.
POOL_TIMES, POOL_LEAST, POOL_MOST = 5, 100, 500
TINY = np.float32(1e-9)


def pool_of(k: int) -> int:
    """How many candidates are found where `k` are to be chosen from them."""
    return max(k, min(max(POOL_TIMES * k, POOL_LEAST), POOL_MOST))


def diversified(
    picks: Picks,
    vectors: Float32[npt.NDArray[np.float32], "pool dim"],
    clusters: Int64[npt.NDArray[np.int64], " pool"] | None,
    k: int,
    diversity: float,
    max_per_cluster: int | None,
) -> Picks:
    """The best `k` of `picks`, whose embeddings and clusters these are, in the order in which they are taken.

    Where everything left is of a cluster that has its share, the cap is lifted: an answer is not short for it.
    """
    return taken(picks, _order(vectors, clusters, k, diversity, max_per_cluster))


def _order(
    vectors: Float32[npt.NDArray[np.float32], "pool dim"],
    clusters: Int64[npt.NDArray[np.int64], " pool"] | None,
    k: int,
    diversity: float,
    max_per_cluster: int | None,
) -> list[int]:
    n = len(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, TINY)
    relevance = (1 - diversity) * (1 - np.arange(n) / max(1, n - 1))
    # Nothing is taken yet: the first is the most relevant, whatever `diversity` is.
    nearest = np.full(n, -1.0)
    open_, left = np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)
    counts: dict[int, int] = {}
    order: list[int] = []
    while len(order) < min(k, n):
        allowed = open_ & left if (open_ & left).any() else left
        worth = np.where(allowed, relevance - diversity * nearest, -np.inf)
        best = int(worth.argmax())
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, directions @ directions[best])
        if clusters is not None and max_per_cluster is not None:
            cluster = int(clusters[best])
            counts[cluster] = counts.get(cluster, 0) + 1
            if counts[cluster] >= max_per_cluster:
                open_ &= clusters != cluster
    return order


def taken(picks: Picks, order: Sequence[int]) -> Picks:
    """The picks at these places, in this order."""
    return Picks(
        tuple(picks.rows[at] for at in order),
        tuple(picks.scores[at] for at in order),
        tuple(picks.modes[at] for at in order),
        tuple(picks.ranks[at] for at in order),
        tuple(picks.sources[at] for at in order),
        tuple(picks.encoded[at] for at in order) if len(picks.encoded) == len(picks.rows) else (),
    )
