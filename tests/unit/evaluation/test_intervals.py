"""Intervals against published figures and against counting."""

import math

import numpy as np
import pytest

from evaluation.intervals import paired, unpaired, wilson
from evaluation.metrics import Interval, bootstrap


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_wilson_s(hits: int, n: int, low: float, high: float) -> None:
    interval = wilson(hits / n, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(1 - hits / n, n)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_the_share_of_nobody_is_not_a_number() -> None:
    assert all(map(math.isnan, wilson(0.5, 0)[:3]))


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe (1998), Interval estimation for the difference between independent proportions, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 10), 0.6075, 1.0),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_difference_of_two_shares_is_newcombe_s(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    interval = unpaired(wilson(second[0] / second[1], second[1]), wilson(first[0] / first[1], first[1]))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_a_paired_difference_leaves_out_whom_either_does_not_know() -> None:
    before, after = np.array([0.1, np.nan, 0.3, 0.5]), np.array([0.2, 0.9, np.nan, 0.6])
    interval = paired(before, after, 1)
    assert (interval.mean, interval.low, interval.high, interval.n) == pytest.approx((0.1, 0.1, 0.1, 2))


def test_pairs_are_told_apart_where_separate_samples_are_not() -> None:
    """Users differ by .3, both versions alike; the second is .02 better for each, give or take .05."""
    rng = np.random.default_rng(3)
    before = rng.uniform(0, 1, 400)
    after = before + 0.02 + rng.normal(0, 0.05, 400)
    together = paired(before, after, 1)
    apart = unpaired(*(bootstrap(values, 1) for values in (before, after)))
    assert together.mean == pytest.approx(apart.mean)
    assert 0 < together.low < together.mean < together.high
    assert apart.low < 0 < apart.high
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.05 / math.sqrt(400), rel=0.15)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).uniform(0, 1, (2, 50))
    assert paired(*values, 7) == paired(*values, 7)


def test_a_difference_from_nothing_known_is_not_a_number() -> None:
    unknown = Interval(math.nan, math.nan, math.nan, 0)
    assert math.isnan(unpaired(unknown, wilson(0.5, 10)).mean)
