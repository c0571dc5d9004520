"""How good predicted probabilities are: relative cross entropy, ROC-AUC, PR-AUC, MAP, with intervals over users.

Every metric takes weights, one for each example: a bootstrap sample of users is a set of weights.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from evaluation.metrics import Interval

Labels = Bool[npt.NDArray[np.bool_], " n"]
Values = Float64[npt.NDArray[np.float64], " n"]
Users = Int64[npt.NDArray[np.int64], " n"]
SMALLEST = 1e-7


def relative_cross_entropy(labels: Labels, probabilities: Values, weights: Values) -> float:
    """Eq. 4: `100 · (CE(reference) − CE(model)) / CE(reference)`; the reference predicts the mean label."""
    mean = np.full(len(labels), np.average(labels, weights=weights))
    reference = _cross_entropy(labels, mean, weights)
    return float(100.0 * (reference - _cross_entropy(labels, probabilities, weights)) / reference)


def _cross_entropy(labels: Labels, probabilities: Values, weights: Values) -> float:
    p = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
    return float(np.average(-np.where(labels, np.log(p), np.log1p(-p)), weights=weights))


def roc_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    groups = _by_score(labels, scores, weights)
    below = np.cumsum(groups.negative) - groups.negative
    return float(
        np.sum(groups.positive * (below + groups.negative / 2.0)) / (groups.positive.sum() * groups.negative.sum())
    )


def pr_auc(labels: Labels, scores: Values, weights: Values) -> float:
    """Average precision: Σ over thresholds of precision times the gain in recall; equal scores are one threshold."""
    groups = _by_score(labels, scores, weights)
    positive, negative = groups.positive[::-1], groups.negative[::-1]
    above = np.cumsum(positive)
    precision = above / np.maximum(above + np.cumsum(negative), 1e-12)
    return float(np.sum(precision * positive) / positive.sum())


def mean_average_precision(users: Users, labels: Labels, scores: Values) -> dict[int, float]:
    """The average precision of each user who has a positive and a negative; their mean is MAP."""
    precisions = {}
    order = np.argsort(users, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if labels[rows].any() and not labels[rows].all():
            precisions[int(users[rows[0]])] = pr_auc(labels[rows], scores[rows], np.ones(len(rows)))
    return precisions


class _Groups(NamedTuple):
    """The weight of positives and of negatives at each distinct score, ascending."""

    positive: Values
    negative: Values


def _by_score(labels: Labels, scores: Values, weights: Values) -> _Groups:
    _, group = np.unique(scores, return_inverse=True)
    n = int(group.max()) + 1
    return _Groups(
        np.bincount(group, weights=weights * labels, minlength=n).astype(np.float64),
        np.bincount(group, weights=weights * ~labels, minlength=n).astype(np.float64),
    )


def measure(
    users: Users, labels: Labels, probabilities: Values, rng: np.random.Generator, *, samples: int = 200
) -> dict[str, Interval]:
    """RCE, ROC-AUC, PR-AUC and MAP with 95% intervals; users are resampled, as a user's examples belong together."""
    _, owner = np.unique(users, return_inverse=True)
    n_users = int(owner.max()) + 1
    precisions = mean_average_precision(users, labels, probabilities)
    per_user = np.array([precisions.get(user, np.nan) for user in np.unique(users).tolist()])
    draws = [_values(labels, probabilities, per_user, np.ones(n_users), owner)]
    for times in rng.multinomial(n_users, np.full(n_users, 1.0 / n_users), size=samples):
        draws.append(_values(labels, probabilities, per_user, times.astype(np.float64), owner))
    table = np.array(draws)
    low, high = np.nanquantile(table[1:], [0.025, 0.975], axis=0)
    names = ("rce", "roc_auc", "pr_auc", "map")
    return {name: Interval(float(table[0, i]), float(low[i]), float(high[i]), n_users) for i, name in enumerate(names)}


def _values(
    labels: Labels,
    probabilities: Values,
    per_user: Float64[npt.NDArray[np.float64], " users"],
    times: Float64[npt.NDArray[np.float64], " users"],
    owner: Int64[npt.NDArray[np.int64], " n"],
) -> list[float]:
    weights = times[owner]
    judged = ~np.isnan(per_user)
    total = times[judged].sum()
    return [
        relative_cross_entropy(labels, probabilities, weights),
        roc_auc(labels, probabilities, weights),
        pr_auc(labels, probabilities, weights),
        float(per_user[judged] @ times[judged] / total) if total else float("nan"),
    ]
