"""What the engine computes for learning is what Python says: loss and gradient of a network that rescores."""

import numpy as np
import pytest

from evaluation.learning.loss import Examples
from evaluation.learning.rescoring import compiled_loss, fit_network, mean_network, network_loss
from recommend.rescoring import FEATURES, network_scores


def _examples(seed: int, pools: int, n_features: int) -> Examples:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 40, pools)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positive = np.concatenate([np.arange(size) < rng.integers(1, size) for size in sizes])
    features = rng.normal(size=(len(positive), n_features)).astype(np.float32)
    features[:, 0] += positive  # something to learn
    importance = rng.choice([1.0, 2.0], positive.sum())
    return Examples(features, starts, positive, importance)


@pytest.mark.parametrize("n_features", [1, 8, 26])
@pytest.mark.parametrize("hidden", [1, 5, 16, 33])
def test_the_loss_and_its_gradient_are_those_of_the_definition(level: str, hidden: int, n_features: int) -> None:
    examples = _examples(hidden, 60, n_features)
    packed = np.random.default_rng(1).normal(size=hidden * (n_features + 2))
    loss, gradient = network_loss(packed, examples.features, examples, hidden)
    found, of_engine = compiled_loss(packed, examples.features, examples, hidden)
    assert found == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(of_engine, gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


def test_scores_far_apart_neither_overflow_nor_vanish(level: str) -> None:
    examples = _examples(3, 20, 4)
    packed = 10.0 * np.random.default_rng(2).normal(size=16 * 6)
    loss, gradient = network_loss(packed, examples.features, examples, 16)
    found, of_engine = compiled_loss(packed, examples.features, examples, 16)
    assert found == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(of_engine, gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max())


def test_what_is_learnt_ranks_alike_with_and_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples(5, 300, len(FEATURES))
    networks = [fit_network(examples, np.random.default_rng(7))]
    monkeypatch.setattr("engine.available", lambda: False)
    networks.append(fit_network(examples, np.random.default_rng(7)))
    losses = []
    for one in networks:
        x = (examples.features - np.array(one.mean, dtype=np.float32)) * np.array(one.scale, dtype=np.float32)
        packed = np.concatenate([np.ravel(one.hidden), one.bias, one.out])
        losses.append(network_loss(packed, x, examples, len(one.bias))[0])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize(
    "broken",
    [
        {"starts": np.array([0, 3, 99], dtype=np.int64)},
        {"starts": np.array([0, 5, 3], dtype=np.int64)},
        {"starts": np.array([0], dtype=np.int64)},
        {"positive": np.zeros(8, dtype=np.bool_)},
        {"positive": np.ones(8, dtype=np.bool_)},
        {"importance": np.ones(7)},
    ],
)
def test_pools_that_do_not_fit_are_refused(broken: dict[str, np.ndarray]) -> None:
    positive = np.array([1, 0, 0, 0, 1, 1, 0, 0], dtype=np.bool_)
    starts = np.array([0, 4, 8], dtype=np.int64)
    examples = Examples(np.zeros((8, 3), dtype=np.float32), starts, positive, np.ones(3))
    with pytest.raises(ValueError, match="do not fit"):
        compiled_loss(np.zeros(10), examples.features, examples._replace(**broken), 2)


def test_a_network_of_another_width_is_refused() -> None:
    examples = _examples(6, 3, 4)
    with pytest.raises(ValueError, match="network does not fit"):
        compiled_loss(np.zeros(13), examples.features, examples, 2)


def test_the_mean_of_networks_scores_as_they_do_in_the_mean() -> None:
    examples, rng = _examples(6, 40, len(FEATURES)), np.random.default_rng(1)
    networks = [fit_network(examples, rng, hidden=4) for _ in range(3)]
    scores = [network_scores(one, examples.features) for one in networks]
    assert not np.allclose(scores[0], scores[1], atol=1e-3)  # each began elsewhere
    one = mean_network(networks)
    assert len(one.bias) == 12
    np.testing.assert_allclose(network_scores(one, examples.features), np.mean(scores, axis=0), rtol=1e-4, atol=1e-4)
