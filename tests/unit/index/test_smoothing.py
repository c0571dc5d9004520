"""Mixtures smoothed over neighbours: the formula on a world small enough to work out by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from bundle.csr import Csr, concatenated
from index.builder.mixtures import Counting
from index.builder.smoothing import Smoothing
from index.builder.smoothing import smooth as smooth_blocks

# Users 0, 1, 2 look the same way, user 3 the other way, and user 4, who engaged with nothing, as user 0 does.
USERS = np.array([[1, 0.0], [2, 0.02], [1, -0.03], [-1, 0.5], [1, 0.001]], dtype=np.float32)
MIXTURES = Csr(
    np.array([0, 1, 2, 3, 4, 4], dtype=np.int64),
    np.array([0, 1, 2, 3], dtype=np.int32),
    np.ones(4, dtype=np.float32),
)


def smooth(mixtures: Csr, users: npt.NDArray[np.float32], smoothing: Smoothing, counting: Counting) -> Csr:
    return concatenated([*smooth_blocks(mixtures, users, smoothing, counting)])


def shares(csr: Csr, user: int) -> dict[int, float]:
    return dict(zip(csr.row(user).tolist(), csr.row_weights(user).tolist(), strict=True))


def test_a_user_takes_a_share_of_the_neighbours_modes() -> None:
    smoothed = smooth(MIXTURES, USERS, Smoothing(neighbours=2, share=0.4), Counting(modes=4, n_clusters=4))
    assert shares(smoothed, 0) == pytest.approx({0: 0.6, 1: 0.2, 2: 0.2})


def test_the_heaviest_modes_are_kept_and_sum_to_one() -> None:
    smoothed = smooth(MIXTURES, USERS, Smoothing(neighbours=2, share=0.4), Counting(modes=2, n_clusters=4))
    assert shares(smoothed, 0) == pytest.approx({0: 0.75, 1: 0.25})


def test_who_engaged_with_nothing_still_has_no_mixture() -> None:
    smoothed = smooth(MIXTURES, USERS, Smoothing(neighbours=2, share=0.4), Counting(modes=4, n_clusters=4))
    assert shares(smoothed, 4) == {}


def test_no_share_changes_nothing() -> None:
    assert [*smooth_blocks(MIXTURES, USERS, Smoothing(2, 0.0), Counting(4, 4))] == [MIXTURES]


def test_more_neighbours_than_users_are_all_users() -> None:
    smoothed = smooth(MIXTURES, USERS, Smoothing(neighbours=50, share=0.3), Counting(modes=4, n_clusters=4))
    assert shares(smoothed, 0) == pytest.approx({0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1})
