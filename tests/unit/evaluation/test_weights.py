"""Learning weights: the loss against its definition, the fit on pools whose answer is known."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from evaluation.learning.loss import Examples, ranking_loss
from evaluation.learning.weights import fit_linear

# Two pools: one held-out candidate among three, two among four.
POOLS = Examples(
    np.zeros((7, 1), dtype=np.float32),
    np.array([0, 3, 7], dtype=np.int64),
    np.array([True, False, False, False, True, True, False]),
    np.ones(3),
)


def test_the_loss_is_the_mean_of_minus_log_softmax_of_each_positive_among_the_negatives() -> None:
    scores = np.array([1.0, 0.5, -1.0, 0.0, 2.0, 0.3, 1.0])

    def share(positive: float, negatives: list[float]) -> float:
        return np.exp(positive) / (np.exp(positive) + np.exp(negatives).sum())

    expected = [share(1.0, [0.5, -1.0]), share(2.0, [0.0, 1.0]), share(0.3, [0.0, 1.0])]
    assert ranking_loss(scores, POOLS)[0] == pytest.approx(-np.log(expected).mean())


def test_the_gradient_is_that_of_the_loss() -> None:
    scores, weighted = np.random.default_rng(1).normal(size=7), POOLS._replace(importance=np.array([1.0, 2.0, 3.0]))
    error = check_grad(lambda s: ranking_loss(s, weighted)[0], lambda s: ranking_loss(s, weighted)[1], scores)
    assert error < 1e-6


def test_a_positive_of_importance_two_counts_twice() -> None:
    scores = np.random.default_rng(2).normal(size=7)
    one, two, three = (ranking_loss(scores, POOLS._replace(importance=one))[0] for one in np.eye(3))
    weighted = ranking_loss(scores, POOLS._replace(importance=np.array([1.0, 2.0, 1.0])))[0]
    assert weighted == pytest.approx((one + 2 * two + three) / 4)


def test_large_scores_do_not_overflow() -> None:
    loss, gradient = ranking_loss(np.array([0, 1e4, -1e4, 1e4, 0, 0, 0.0]), POOLS)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def example_pools(n_users: int, rng: np.random.Generator) -> Examples:
    """Pools of ten whose held-out candidate is drawn by 2·first feature − 1·second; the third never varies."""
    features = rng.normal(size=(n_users * 10, 3)).astype(np.float32)
    features[:, 2] = 5.0
    noisy = features @ np.array([2.0, -1.0, 0.0]) + rng.gumbel(size=len(features))
    positive = np.zeros(len(features), dtype=np.bool_)
    positive[np.arange(n_users) * 10 + noisy.reshape(n_users, 10).argmax(axis=1)] = True
    return Examples(features, np.arange(0, n_users * 10 + 1, 10, dtype=np.int64), positive, np.ones(n_users))


def test_the_weights_that_made_the_data_are_found_again() -> None:
    weights = fit_linear(example_pools(2000, np.random.default_rng(1)), l2=0.0)
    assert weights == pytest.approx([2.0, -1.0, 0.0], abs=0.15)


def test_the_penalty_does_not_depend_on_a_features_unit() -> None:
    pools = example_pools(200, np.random.default_rng(1))
    in_thousandths = pools._replace(features=pools.features * np.array([1000, 1, 1], dtype=np.float32))
    one, other = fit_linear(pools, l2=0.1), fit_linear(in_thousandths, l2=0.1)
    assert one[0] == pytest.approx(other[0] * 1000, rel=1e-3)
