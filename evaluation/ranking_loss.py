"""The loss that weights of a ranking are learnt with: each held-out candidate against the others of its pool."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Int64

Scores = Float64[npt.NDArray[np.float64], " n"]


class Examples(NamedTuple):
    """Pools of candidates, user after user: user i's are `features[starts[i]:starts[i + 1]]`.

    `positive` marks the held-out ones. Every pool has at least one positive and one negative.
    """

    features: Float32[npt.NDArray[np.float32], "n f"]
    starts: Int64[npt.NDArray[np.int64], " users_plus_1"]
    positive: Bool[npt.NDArray[np.bool_], " n"]


def ranking_loss(
    scores: Scores, starts: Int64[npt.NDArray[np.int64], " users_plus_1"], positive: Bool[npt.NDArray[np.bool_], " n"]
) -> tuple[float, Scores]:
    """Mean over positives of `-log softmax` of the positive among itself and its pool's negatives, and its gradient.

    `L = 1/P Σ_u Σ_{p ∈ u} log(1 + exp(N_u − s_p))` with `N_u = log Σ_{n ∈ u} exp(s_n)` over the negatives.
    """
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    negatives = np.where(positive, -np.inf, scores)
    peak = np.maximum.reduceat(negatives, starts[:-1])
    masses = np.exp(negatives - peak[owner])
    total = np.add.reduceat(masses, starts[:-1])
    margin = (peak + np.log(total))[owner[positive]] - scores[positive]
    slope = 1.0 / (1.0 + np.exp(-margin))
    pulled = np.bincount(owner[positive], weights=slope, minlength=len(starts) - 1)
    gradient = masses * (pulled / total)[owner]
    gradient[positive] = -slope
    count = np.count_nonzero(positive)
    return float(np.logaddexp(0.0, margin).sum() / count), gradient / count
