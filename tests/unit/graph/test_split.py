"""Splits: the exact permutation, and exact order statistics without sorting."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph import split
from graph.split import TEST, TRAIN, VALID, BatchedTimes, random_parts, time_parts, value_at


def batched(values: list[int]) -> BatchedTimes:
    array = np.array(values, dtype=np.int64)
    return BatchedTimes(lambda: (array[start : start + 3] for start in range(0, len(array), 3)))


@pytest.mark.parametrize("count", [0, 1, 9, 10, 1001, 70_000])
def test_random_parts_follow_the_permutation(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "_CHUNK", 1000)
    parts = random_parts(tmp_path, count, 0.1, seed=5)
    order = np.random.default_rng(5).permutation(count)
    test = int(0.1 * count)
    assert np.array_equal(np.flatnonzero(parts == TEST), np.sort(order[:test]))
    assert np.array_equal(np.flatnonzero(parts == VALID), np.sort(order[test : test + test // 2]))


int64s = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(int64s | st.integers(-3, 3) | st.integers(10**6, 10**6 + 10**5), min_size=1, max_size=30), st.data())
def test_value_at_agrees_with_sorting(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))
    found = sorted(values)[rank]
    assert value_at(batched(values), rank) == (found, sum(value < found for value in values))


def test_edges_of_one_time_stay_together(tmp_path: Path) -> None:
    times = [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    parts = time_parts(tmp_path, batched(times), len(times), 0.2)
    assert parts.tolist() == [TRAIN] * 6 + [VALID] + [TEST] * 3


def test_too_few_edges_to_hold_any_out(tmp_path: Path) -> None:
    assert time_parts(tmp_path, batched([3, 1, 2]), 3, 0.1).tolist() == [TRAIN] * 3
