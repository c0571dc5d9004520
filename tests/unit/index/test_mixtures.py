"""Mixtures built in blocks: the same as eq. 3 user by user, whatever the blocks, weights and times."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.csr import Csr, concatenated, csr_from_sorted
from index.builder import mixtures
from index.builder.mixtures import Counting, Engagements, build_mixtures, summed
from recommend.mixtures import mixture_of

N_USERS, N_TARGETS, N_CLUSTERS = 12, 30, 5


def engaged(
    pairs: list[tuple[int, int]],
    cluster_of: npt.NDArray[np.int32],
    weight: float = 1.0,
    *,
    time: npt.NDArray[np.int64] | None = None,
    weights: npt.NDArray[np.float32] | None = None,
    clock: int = 0,
) -> Engagements:
    """(user, target) edges by user, with what each carries."""
    users, targets = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    order = np.argsort(users, kind="stable")
    own = None if weights is None else weights[order]
    csr = csr_from_sorted(users[order], targets[order].astype(np.int32), N_USERS, own)
    return Engagements(csr, cluster_of, weight, None if time is None else time[order], clock)


def mixtures_of(engagements: list[Engagements], n_users: int, counting: Counting) -> Csr:
    return concatenated([*build_mixtures(engagements, n_users, counting)])


def row(csr: Csr, user: int) -> dict[int, float]:
    return dict(zip(csr.row(user).tolist(), csr.row_weights(user).tolist(), strict=True))


pairs_of_rows = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_TARGETS - 1)), max_size=120)


@settings(max_examples=60, deadline=None)
@given(
    first=pairs_of_rows,
    second=pairs_of_rows,
    weight=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    block=st.sampled_from([1, 7, 1000]),
)
def test_blocks_agree_with_the_formula_user_by_user(
    first: list[tuple[int, int]], second: list[tuple[int, int]], weight: float, block: int
) -> None:
    cluster_of = (np.arange(N_TARGETS) % (N_CLUSTERS + 1) - 1).astype(np.int32)  # every sixth target is in none
    engagements = [engaged(first, cluster_of), engaged(second, cluster_of, weight)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtures, "BLOCK_EDGES", block)
        built = mixtures_of(engagements, N_USERS, Counting(3, N_CLUSTERS))
    for user in range(N_USERS):
        targets = [t for u, t in first if u == user], [t for u, t in second if u == user]
        weights = np.array([1.0] * len(targets[0]) + [weight] * len(targets[1]), dtype=np.float32)
        clusters, shares = mixture_of(cluster_of[np.array(targets[0] + targets[1], dtype=np.int64)], weights, 3)
        kept = shares > 0
        assert built.row(user).tolist() == clusters[kept].tolist()
        np.testing.assert_allclose(built.row_weights(user), shares[kept], rtol=1e-5)


def test_an_older_engagement_counts_less() -> None:
    item = engaged([(0, 0), (0, 1)], np.array([0, 1], dtype=np.int32), time=np.array([1000, 1010]))
    counting = Counting(2, 2, half_life=10.0)
    assert row(mixtures_of([item], 1, counting), 0) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_times_of_seconds_since_1970_lose_nothing() -> None:
    times = np.array([1_700_000_000, 1_700_000_000 + 86_400])
    item = engaged([(0, 0), (0, 1)], np.array([0, 1], dtype=np.int32), time=times)
    counting = Counting(2, 2, half_life=86_400.0)
    assert row(mixtures_of([item], 1, counting), 0) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_edge_weights_count_when_asked() -> None:
    weights = np.array([3, 1], dtype=np.float32)
    item = engaged([(0, 0), (0, 1)], np.array([0, 1], dtype=np.int32), weights=weights)
    assert row(mixtures_of([item], 1, Counting(2, 2)), 0) == pytest.approx({0: 0.5, 1: 0.5})
    assert row(mixtures_of([item], 1, Counting(2, 2, edge_weights=True)), 0) == pytest.approx({0: 0.75, 1: 0.25})


def test_nobody_engaged_with_anything() -> None:
    built = mixtures_of([], 3, Counting(2, 2))
    assert built.indptr.tolist() == [0, 0, 0, 0]
    assert len(built.indices) == 0


def test_equal_modes_go_to_the_lower_cluster() -> None:
    item = engaged([(0, 2), (0, 1), (0, 0)], np.array([2, 1, 0], dtype=np.int32))
    assert mixtures_of([item], 1, Counting(2, 3)).row(0).tolist() == [0, 1]


SECOND, DAY = 1, 86_400
YEAR_2023, YEAR_9999 = 1_700_000_000, 253_402_300_799
INT64 = np.iinfo(np.int64)


def timed(times: list[tuple[int, int, int]], clock: int = 0) -> Engagements:
    """(user, target, time) of one relation; target t lies in cluster t."""
    pairs, clusters = [(user, target) for user, target, _ in times], np.arange(N_CLUSTERS, dtype=np.int32)
    return engaged(pairs, clusters, time=np.array([at for *_, at in times]), clock=clock)


@pytest.mark.parametrize("half_life", [5e-324, 1e-9, 30.0, 30.0 * DAY, 1e18, 1.7e308])
@pytest.mark.parametrize("stray", [YEAR_2023 * 1000, YEAR_9999, INT64.max, 0, INT64.min])
def test_no_half_life_and_no_stray_time_takes_all_interests_of_a_user(half_life: float, stray: int) -> None:
    """A half-life in days over seconds, or one time of somebody else in milliseconds: 199 of 200 lost everything."""
    usual = [(user, user % 2 + i, YEAR_2023 - user * 30 * DAY - i) for user in range(1, N_USERS) for i in range(3)]
    with np.errstate(all="raise"):
        built = mixtures_of([timed([(0, 0, stray), *usual])], N_USERS, Counting(3, N_CLUSTERS, half_life=half_life))
    assert built.degrees().min() >= 1
    assert built.weights is not None
    assert np.isfinite(built.weights).all()
    assert built.weights.min() > 0
    totals = np.add.reduceat(built.weights, built.indptr[:-1])
    np.testing.assert_allclose(totals, 1.0, rtol=1e-5)


def test_ages_count_from_the_user_s_own_newest_engagement() -> None:
    """The same shares as from the newest of all, where those are numbers: eq. 3 divides by the sum."""
    long_ago = [(0, 0, 1000), (0, 1, 1010)]
    today = [(1, 0, 10**6), (1, 1, 10**6 + 10)]
    built = mixtures_of([timed([*long_ago, *today])], 2, Counting(2, N_CLUSTERS, half_life=10.0))
    assert row(built, 0) == row(built, 1) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_what_counts_nothing_sets_no_clock() -> None:
    """The newest engagement with a target outside all clusters, or of weight 0, does not age the others."""
    counted = timed([(0, 0, 0), (0, 1, 10)])
    outside = engaged([(0, 0)], np.array([-1], dtype=np.int32), time=np.array([10**9]))
    nothing = engaged([(0, 2)], np.arange(3, dtype=np.int32), 0.0, time=np.array([10**9]))
    built = mixtures_of([counted, outside, nothing], 1, Counting(3, N_CLUSTERS, half_life=10.0))
    assert row(built, 0) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_relations_in_other_units_have_clocks_of_their_own() -> None:
    seconds = timed([(0, 0, YEAR_2023), (0, 1, YEAR_2023 - DAY)], clock=1)
    milliseconds = timed([(0, 2, YEAR_2023 * 1000), (0, 3, (YEAR_2023 - DAY) * 1000)], clock=2)
    built = mixtures_of([seconds, milliseconds], 1, Counting(4, N_CLUSTERS, half_life=float(DAY)))
    shares = row(built, 0)
    assert shares[0] == shares[2] == pytest.approx(2 * shares[1])


def test_shares_too_small_for_a_float_are_no_modes() -> None:
    weights = np.array([3e38, 1e-38], dtype=np.float32)
    item = engaged([(0, 0), (0, 1)], np.array([0, 1], dtype=np.int32), weights=weights)
    assert row(mixtures_of([item], 1, Counting(2, 2, edge_weights=True)), 0) == {0: 1.0}


def test_a_sum_does_not_depend_on_who_else_is_in_the_block() -> None:
    rng = np.random.default_rng(1)
    keys, weights = rng.integers(0, 40, 5000), np.exp(rng.normal(0, 5, 5000))
    everybody, together = summed(keys, weights)
    for key, of_all in zip(everybody.tolist(), together.tolist(), strict=True):
        assert summed(keys[keys == key], weights[keys == key])[1].tolist() == [of_all]
