"""How good predicted probabilities are: relative cross entropy, ROC-AUC, PR-AUC, MAP, with intervals over users.

Every metric takes weights, one for each example: a bootstrap sample of users is a set of weights.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from evaluation.metrics import Interval

Labels = Bool[npt.NDArray[np.bool_], " n"]
Values = Float64[npt.NDArray[np.float64], " n"]
Masses = Float64[npt.NDArray[np.float64], " thresholds"]
Users = Int64[npt.NDArray[np.int64], " n"]
SMALLEST = 1e-7


def relative_cross_entropy(labels: Labels, probabilities: Values, weights: Values) -> float:
    """Eq. 4: `100 · (CE(reference) − CE(model)) / CE(reference)`; the reference predicts the mean label."""
    return _relative(labels, _losses(labels, probabilities), weights)


def _losses(labels: Labels, probabilities: Values) -> Values:
    """The cross entropy of each example."""
    p = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return -np.log(np.where(labels, p, 1.0 - p))


def _relative(labels: Labels, losses: Values, weights: Values) -> float:
    """Eq. 4 by the loss of each example. Of the reference, which predicts one number, both losses are known."""
    mean = np.clip(np.average(labels, weights=weights), SMALLEST, 1.0 - SMALLEST)
    reference = -(mean * np.log(mean) + (1.0 - mean) * np.log1p(-mean))
    return float(100.0 * (reference - np.average(losses, weights=weights)) / reference)


def roc_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    return _roc_auc(*_Thresholds(labels, scores).masses(weights))


def pr_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """Average precision: Σ over thresholds of precision times the gain in recall; equal scores are one threshold."""
    return _pr_auc(*_Thresholds(labels, scores).masses(weights))


def mean_average_precision(users: Users, labels: Labels, scores: Values) -> dict[int, float]:
    """The average precision of each user who has a positive and a negative; their mean is MAP."""
    precisions = {}
    order = np.argsort(users, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if labels[rows].any() and not labels[rows].all():
            precisions[int(users[rows[0]])] = pr_auc(labels[rows], scores[rows], np.ones(len(rows)))
    return precisions


class _Thresholds:
    """Examples by rising score, equal scores together: sorted once, then weighed as often as a bootstrap asks."""

    def __init__(self, labels: Labels, scores: Values) -> None:
        self._labels = labels
        _, self._group = np.unique(scores, return_inverse=True)

    def masses(self, weights: Values) -> tuple[Masses, Masses]:
        """The weight of positives and of negatives at each distinct score, ascending."""
        everything: Masses = np.bincount(self._group, weights=weights).astype(np.float64)
        positive: Masses = np.bincount(self._group, weights=weights * self._labels).astype(np.float64)
        return positive, everything - positive


def _roc_auc(positive: Masses, negative: Masses) -> float:
    below = np.cumsum(negative) - negative
    return float(np.sum(positive * (below + negative / 2.0)) / (positive.sum() * negative.sum()))


def _pr_auc(positive: Masses, negative: Masses) -> float:
    falling = positive[::-1]
    above = np.cumsum(falling)
    precision = above / np.maximum(above + np.cumsum(negative[::-1]), 1e-12)
    return float(np.sum(precision * falling) / falling.sum())


def measure(
    users: Users, labels: Labels, probabilities: Values, rng: np.random.Generator, *, samples: int = 200
) -> dict[str, Interval]:
    """RCE, ROC-AUC, PR-AUC and MAP with 95% intervals; users are resampled, as a user's examples belong together."""
    _, owner = np.unique(users, return_inverse=True)
    n_users = int(owner.max()) + 1
    precisions = mean_average_precision(users, labels, probabilities)
    per_user = np.array([precisions.get(user, np.nan) for user in np.unique(users).tolist()])
    everyone = np.ones(n_users)
    resamplings = rng.multinomial(n_users, np.full(n_users, 1.0 / n_users), size=samples).astype(np.float64)
    thresholds, losses = _Thresholds(labels, probabilities), _losses(labels, probabilities)
    judged = ~np.isnan(per_user)
    draws = []
    for times in (everyone, *resamplings):
        weights, total = times[owner], times[judged].sum()
        positive, negative = thresholds.masses(weights)
        draws.append(
            (
                _relative(labels, losses, weights),
                _roc_auc(positive, negative),
                _pr_auc(positive, negative),
                float(per_user[judged] @ times[judged] / total) if total else float("nan"),
            )
        )
    table = np.array(draws)
    low, high = np.nanquantile(table[1:], [0.025, 0.975], axis=0)
    names = ("rce", "roc_auc", "pr_auc", "map")
    return {name: Interval(float(table[0, i]), float(low[i]), float(high[i]), n_users) for i, name in enumerate(names)}
