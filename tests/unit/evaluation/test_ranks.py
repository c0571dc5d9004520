"""Filtered ranks against a count by hand: ties at their mean, known pairs removed, NaN never good."""

import numpy as np
import pytest

from evaluation.links import mean_ranks, metrics, random_metrics

NONE = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def rank(scores: list[float], truth: int, known: list[int]) -> float:
    pairs = np.zeros(len(known), dtype=np.int64), np.array(known, dtype=np.int64)
    return float(mean_ranks(np.array([scores], dtype=np.float32), np.array([truth]), pairs)[0])


def test_the_best_score_ranks_first() -> None:
    assert rank([0.1, 0.9, 0.3], 1, []) == 1


def test_known_answers_do_not_count_against_the_one_asked() -> None:
    assert rank([0.9, 0.8, 0.7, 0.1], 2, [0, 1, 2]) == 1


def test_ties_take_their_mean_rank() -> None:
    assert rank([1.0, 1.0, 1.0, 0.0], 0, []) == 2


def test_a_constant_model_ranks_in_the_middle() -> None:
    assert rank([0.0] * 101, 7, []) == 51


def test_a_score_that_is_no_number_never_looks_good() -> None:
    assert rank([float("nan")] * 10, 3, []) == 11
    assert rank([float("nan"), 1.0, 0.5], 1, []) == 2


def test_metrics_of_known_ranks() -> None:
    summary = metrics(np.array([1.0, 2.0, 10.0, 20.0]))
    assert (summary.hits_at_1, summary.hits_at_3, summary.hits_at_10) == (0.25, 0.5, 0.75)
    assert summary.mrr == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 20) / 4)


def test_the_random_baseline_is_the_expectation_of_shuffled_ranks() -> None:
    rng = np.random.default_rng(1)
    candidates = np.array([5, 50, 500])
    drawn = np.concatenate([rng.integers(1, c + 1, 20_000) for c in candidates]).astype(np.float64)
    expected, simulated = random_metrics(candidates), metrics(drawn)
    assert expected.mrr == pytest.approx(simulated.mrr, rel=0.03)
    assert expected.hits_at_10 == pytest.approx(simulated.hits_at_10, rel=0.03)
