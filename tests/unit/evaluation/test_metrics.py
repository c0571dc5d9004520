"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest

from evaluation.metrics import (
    bootstrap,
    coverage,
    diversity,
    exposure,
    gini,
    hit_ranks,
    ndcg,
    recall,
    reciprocal_rank,
)


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


LISTED = rows(7, 3, 9, 1)
RELEVANT = rows(1, 3, 8)  # 3 is second, 1 is fourth, 8 is not listed
RANKS = hit_ranks(LISTED, RELEVANT)


def test_hits_are_positions_from_zero() -> None:
    assert RANKS.tolist() == [1, 3]


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 1 / 3), (4, 2 / 3), (100, 2 / 3)])
def test_recall_is_the_share_of_relevant_rows_found(k: int, expected: float) -> None:
    assert recall(RANKS, len(RELEVANT), k) == pytest.approx(expected)


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 0.5
    assert ndcg(RANKS, 3, 4) == pytest.approx(gain / ideal)


def test_ndcg_of_a_perfect_list_is_one() -> None:
    assert ndcg(hit_ranks(rows(5, 6, 1), rows(5, 6)), 2, 10) == pytest.approx(1.0)


def test_reciprocal_rank_looks_at_the_first_hit() -> None:
    assert reciprocal_rank(RANKS, 3) == 0.5
    assert reciprocal_rank(hit_ranks(LISTED, rows(100)), 1) == 0.0


def test_a_user_without_relevant_rows_is_not_a_number() -> None:
    nothing = hit_ranks(LISTED, rows())
    assert math.isnan(recall(nothing, 0, 10))
    assert math.isnan(ndcg(nothing, 0, 10))
    assert math.isnan(reciprocal_rank(nothing, 0))


def test_diversity_is_one_between_orthogonal_vectors_and_zero_between_parallel_ones() -> None:
    vectors = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    assert diversity(rows(0, 1), vectors, 10) == pytest.approx(1.0)
    assert diversity(rows(0, 2), vectors, 10) == pytest.approx(0.0)
    assert diversity(rows(0, 1, 2), vectors, 10) == pytest.approx(2 / 3)
    assert math.isnan(diversity(rows(0), vectors, 10))


def test_coverage_and_gini_of_exposure() -> None:
    equal = exposure([rows(0, 1), rows(2, 3)], 4, k=2)
    assert coverage(equal) == 1.0
    assert gini(equal) == pytest.approx(0.0)
    one_has_all = exposure([rows(2), rows(2)], 4, k=2)
    assert coverage(one_has_all) == 0.25
    assert gini(one_has_all) == pytest.approx(0.75)  # (n - 1) / n


def test_exposure_counts_the_first_k_alone() -> None:
    assert exposure([rows(0, 1)], 2, k=1).tolist() == [1, 0]


def test_a_bootstrap_interval_holds_the_mean_and_leaves_nan_out() -> None:
    values = np.array([0.0, 1.0, np.nan, 1.0, 0.0])
    interval = bootstrap(values, 1)
    assert interval.n == 4
    assert interval.mean == 0.5
    assert interval.low < 0.5 < interval.high


def test_a_bootstrap_interval_has_about_the_width_of_two_standard_errors() -> None:
    values = np.random.default_rng(2).random(1000)
    interval = bootstrap(values, 1)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(1000), rel=0.1)


def test_a_bootstrap_of_nobody_is_not_a_number() -> None:
    interval = bootstrap(np.array([np.nan]), 1)
    assert interval.n == 0
    assert math.isnan(interval.mean)
