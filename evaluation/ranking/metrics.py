"""How good predicted probabilities are: relative cross entropy, ROC-AUC, PR-AUC, MAP, with intervals over users.

Every metric takes weights, one for each example: a bootstrap sample of users is a set of weights.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from evaluation.metrics import Interval, times_taken

Labels = Bool[npt.NDArray[np.bool_], " n"]
Values = Float64[npt.NDArray[np.float64], " n"]
Masses = Float64[npt.NDArray[np.float64], " thresholds"]
Users = Int64[npt.NDArray[np.int64], " n"]
SMALLEST = 1e-7


def relative_cross_entropy(labels: Labels, probabilities: Values, weights: Values) -> float:
    """Eq. 4: `100 · (CE(reference) − CE(model)) / CE(reference)`; the reference predicts the mean label."""
    return _relative(float(weights[labels].sum()), float(weights.sum()), _dot(weights, _losses(labels, probabilities)))


def _losses(labels: Labels, probabilities: Values) -> Values:
    """The cross entropy of each example."""
    p = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return -np.log(np.where(labels, p, 1.0 - p))


def _relative(positives: float, total: float, loss: float) -> float:
    """Eq. 4 of examples that weigh so much and lose so much, in all. The reference predicts their mean label."""
    mean = np.clip(positives / total, SMALLEST, 1.0 - SMALLEST)
    reference = -(mean * np.log(mean) + (1.0 - mean) * np.log1p(-mean))
    return float(100.0 * (reference - loss / total) / reference)


def roc_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """The chance that a positive scores above a negative, ties counting half; NaN where there is none of either."""
    thresholds = _Thresholds(labels, scores)
    return _roc_auc(*thresholds.masses(weights[thresholds.order]))


def pr_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """Average precision: Σ over thresholds of precision times the gain in recall; equal scores are one threshold.
    NaN without a positive."""
    thresholds = _Thresholds(labels, scores)
    return _pr_auc(*thresholds.masses(weights[thresholds.order]))


def mean_average_precision(users: Users, labels: Labels, scores: Values) -> dict[int, float]:
    """The average precision of each user who has a positive and a negative; their mean is MAP."""
    if not len(users):
        return {}
    order = np.lexsort((-scores, users))
    user, score, positive = users[order], scores[order], labels[order].astype(np.float64)
    begins = np.concatenate([[True], user[1:] != user[:-1]])
    own, firsts = np.cumsum(begins) - 1, np.flatnonzero(begins)
    # Of the user's examples so far, and how many of them are positive; equal scores are one threshold, at their last.
    seen = np.arange(1, len(user) + 1) - firsts[own]
    found = np.cumsum(positive)
    found = found - (found - positive)[firsts][own]
    ends = np.flatnonzero(np.concatenate([(score[1:] != score[:-1]) | begins[1:], [True]]))
    before = np.concatenate([[0.0], found[ends][:-1]])
    before[np.concatenate([[True], own[ends][1:] != own[ends][:-1]])] = 0.0
    sums = np.bincount(own[ends], weights=found[ends] / seen[ends] * (found[ends] - before))
    positives, examples = np.bincount(own, weights=positive), np.bincount(own)
    judged = np.flatnonzero((positives > 0) & (positives < examples))
    return dict(zip(user[firsts][judged].tolist(), (sums[judged] / positives[judged]).tolist(), strict=True))


class _Thresholds:
    """Examples by rising score, equal scores together: sorted once, then weighed as often as a bootstrap asks."""

    def __init__(self, labels: Labels, scores: Values) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        self._starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._labels = labels[self.order].astype(np.float64)

    def masses(self, ordered: Values) -> tuple[Masses, Masses]:
        """The weight of positives and of everything at each distinct score, ascending, by the weights of the examples
        in `order`."""
        positive = ordered * self._labels
        if len(self._starts) == len(ordered):
            return positive, ordered
        return np.add.reduceat(positive, self._starts), np.add.reduceat(ordered, self._starts)


def _dot(a: Values, b: Values) -> float:
    """Their inner product, by one thread: those of a BLAS wait for each other longer than this takes."""
    return float(np.einsum("i,i->", a, b))


def _roc_auc(positive: Masses, everything: Masses) -> float:
    negative = everything - positive
    below = np.cumsum(negative)
    pairs = float(positive.sum()) * float(below[-1])
    # Resampled users may have no positive among them, or no negative.
    return (_dot(positive, below) - _dot(positive, negative) / 2.0) / pairs if pairs else float("nan")


def _pr_auc(positive: Masses, everything: Masses) -> float:
    falling = positive[::-1]
    above = np.cumsum(falling)
    total = float(above[-1])
    return _dot(above / np.maximum(np.cumsum(everything[::-1]), 1e-12), falling) / total if total else float("nan")


def measure(
    users: Users, labels: Labels, probabilities: Values, seed: int, *, samples: int = 200
) -> dict[str, Interval]:
    """RCE, ROC-AUC, PR-AUC and MAP with 95% intervals; users are resampled, as a user's examples belong together."""
    everybody, owner = np.unique(users, return_inverse=True)
    n_users = len(everybody)
    precisions = mean_average_precision(users, labels, probabilities)
    per_user = np.array([precisions.get(user, np.nan) for user in everybody.tolist()])
    resamplings = times_taken(n_users, seed, samples).astype(np.float64)
    thresholds = _Thresholds(labels, probabilities)
    losses, owner = _losses(labels, probabilities)[thresholds.order], owner[thresholds.order]
    judged = ~np.isnan(per_user)
    draws = []
    for times in (np.ones(n_users), *resamplings):
        weights, total = times[owner], times[judged].sum()
        positive, everything = thresholds.masses(weights)
        draws.append(
            (
                _relative(float(positive.sum()), float(everything.sum()), _dot(weights, losses)),
                _roc_auc(positive, everything),
                _pr_auc(positive, everything),
                _dot(per_user[judged], times[judged]) / total if total else float("nan"),
            )
        )
    table = np.array(draws)
    low, high = np.nanquantile(table[1:], [0.025, 0.975], axis=0)
    names = ("rce", "roc_auc", "pr_auc", "map")
    return {name: Interval(float(table[0, i]), float(low[i]), float(high[i]), n_users) for i, name in enumerate(names)}
