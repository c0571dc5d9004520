"""The loss that weights of a ranking are learnt with: each held-out candidate against the others of its pool."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Int64, Integer

from evaluation.task import FollowTask
from recommend.protocol import Lists
from recommend.types import in_sorted

Scores = Float64[npt.NDArray[np.float64], " n"]
# A following back is easy to tell and half of a follow graph; the candidates besides decide how useful a list is.
ONE_WAY_IMPORTANCE = 2.0


class Examples(NamedTuple):
    """Pools of candidates, user after user: user i's are `features[starts[i]:starts[i + 1]]`.

    `positive` marks the held-out ones, `importance` has the weight of each of those in the loss, in order.
    Every pool has at least one positive and one negative.
    """

    features: Float32[npt.NDArray[np.float32], "n f"]
    starts: Int64[npt.NDArray[np.int64], " users_plus_1"]
    positive: Bool[npt.NDArray[np.bool_], " n"]
    importance: Float64[npt.NDArray[np.float64], " positives"]


def ranking_loss(scores: Scores, examples: Examples) -> tuple[float, Scores]:
    """Weighted mean over positives of `-log softmax` of the positive among itself and its pool's negatives; gradient.

    `L = Σ_u Σ_{p ∈ u} w_p log(1 + exp(N_u − s_p)) / Σ w_p` with `N_u = log Σ_{n ∈ u} exp(s_n)` over the negatives.
    """
    starts, positive, importance = examples.starts, examples.positive, examples.importance
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    negatives = np.where(positive, -np.inf, scores)
    peak = np.maximum.reduceat(negatives, starts[:-1])
    masses = np.exp(negatives - peak[owner])
    total = np.add.reduceat(masses, starts[:-1])
    margin = (peak + np.log(total))[owner[positive]] - scores[positive]
    slope = importance / (1.0 + np.exp(-margin))
    pulled = np.bincount(owner[positive], weights=slope, minlength=len(starts) - 1)
    gradient = masses * (pulled / total)[owner]
    gradient[positive] = -slope
    total_importance = importance.sum()
    return float(importance @ np.logaddexp(0.0, margin) / total_importance), gradient / total_importance


def pools_of(
    task: FollowTask,
    pools: Lists,
    features: Callable[[int, Integer[npt.NDArray[np.integer], " _"]], Float32[npt.NDArray[np.float32], "_ f"]],
    n_features: int,
) -> Examples:
    """`features(i, pool)` of each pool with a held-out candidate and another, for user i of the task."""
    values, sizes, positives = [np.empty((0, n_features), dtype=np.float32)], [], [np.empty(0, dtype=np.bool_)]
    importance = [np.empty(0, dtype=np.float64)]
    for position, (user, pool) in enumerate(zip(task.users.tolist(), pools, strict=True)):
        positive = in_sorted(pool, task.relevant(user))
        if positive.any() and not positive.all():
            values.append(features(position, pool))
            sizes.append(len(pool))
            positives.append(positive)
            one_way = in_sorted(pool[positive], task.one_way(user))
            importance.append(np.where(one_way, ONE_WAY_IMPORTANCE, 1.0))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
    return Examples(np.concatenate(values), starts, np.concatenate(positives), np.concatenate(importance))
