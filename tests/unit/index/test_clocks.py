"""Units of time that nobody wrote down: guessed by magnitude, and told where they do not fit together."""

import numpy as np
import numpy.typing as npt
import pytest

from index.builder.clocks import clocks, per_second, time_warnings

NOW, YEAR, DAY = 1_700_000_000, 365 * 86_400, 86_400


def since(first: int, last: int, n: int = 500) -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(first, last, n)


SECONDS = since(NOW - YEAR, NOW)


def test_times_of_one_unit_share_a_clock() -> None:
    earlier = since(NOW - 20 * YEAR, NOW - 15 * YEAR)
    assert clocks([SECONDS, earlier, None, np.empty(0, dtype=np.int64)]) == [1, 1, 0, 0]


@pytest.mark.parametrize("factor", [1 / 86_400, 1 / 3600, 1 / 60, 1000, 10**6, 10**9])
def test_other_units_are_other_clocks(factor: float) -> None:
    other = (SECONDS * factor).astype(np.int64)
    assert clocks([SECONDS, other, SECONDS, other]) == [1, 2, 1, 2]
    told = list(time_warnings({"follows": SECONDS, "likes": other}, 30.0 * DAY))
    assert any("follows about" in words and "likes about" in words for words in told)


def test_fitting_times_and_half_lives_are_not_talked_about() -> None:
    assert list(time_warnings({"follows": SECONDS, "likes": since(NOW - YEAR, NOW), "knows": None}, 30.0 * DAY)) == []


@pytest.mark.parametrize(("half_life", "said"), [(30.0, "alone counts"), (1e12, "no age shows")])
def test_a_half_life_in_another_unit_is_told(half_life: float, said: str) -> None:
    assert [said in words for words in time_warnings({"likes": SECONDS}, half_life)] == [True]


@pytest.mark.parametrize(("factor", "found"), [(1, 1.0), (10**3, 1e3), (10**6, 1e6), (10**9, 1e9), (1 / 86_400, None)])
def test_the_unit_of_unix_times_is_told_by_their_size(factor: float, found: float | None) -> None:
    times = (SECONDS * factor).astype(np.int64)
    assert per_second(times) == found
    told = list(time_warnings({"likes": times}, 30.0 * DAY * factor))
    assert any("no Unix times" in words for words in told) == (found is None)
    assert per_second(None) is None


@pytest.mark.parametrize("stray", [NOW * 1000, 253_402_300_799])
def test_a_stray_time_is_told(stray: int) -> None:
    told = list(time_warnings({"likes": np.append(SECONDS, stray)}, 30.0 * DAY))
    assert len(told) == 1
    assert f"{float(stray):.4g}" in told[0]
