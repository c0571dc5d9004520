"""Mixtures built in blocks: the same as eq. 3 user by user, whatever the blocks, weights and times."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.csr import Csr
from bundle.prepared import Edges
from index.builder import mixtures
from index.builder.mixtures import Counting, Engagements, build_mixtures, newest_time
from recommend.mixtures import mixture_of

N_USERS, N_TARGETS, N_CLUSTERS = 12, 30, 5


def edges_of(pairs: list[tuple[int, int]], **more: npt.NDArray[np.generic]) -> Edges:
    array = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Edges(np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1]), **more)  # type: ignore[arg-type]


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
    engagements = [Engagements(edges_of(first), cluster_of), Engagements(edges_of(second), cluster_of, weight)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtures, "BLOCK_EDGES", block)
        built = build_mixtures(engagements, N_USERS, Counting(3, N_CLUSTERS))
    for user in range(N_USERS):
        targets = [t for u, t in first if u == user], [t for u, t in second if u == user]
        weights = np.array([1.0] * len(targets[0]) + [weight] * len(targets[1]), dtype=np.float32)
        clusters, shares = mixture_of(cluster_of[np.array(targets[0] + targets[1], dtype=np.int64)], weights, 3)
        kept = shares > 0
        assert built.row(user).tolist() == clusters[kept].tolist()
        np.testing.assert_allclose(built.row_weights(user), shares[kept], rtol=1e-5)


def test_an_older_engagement_counts_less() -> None:
    edges = edges_of([(0, 0), (0, 1)], time=np.array([1000, 1010], dtype=np.int64))
    item = Engagements(edges, np.array([0, 1], dtype=np.int32))
    counting = Counting(2, 2, half_life=10.0, newest=newest_time([item]))
    assert row(build_mixtures([item], 1, counting), 0) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_times_of_seconds_since_1970_lose_nothing() -> None:
    edges = edges_of([(0, 0), (0, 1)], time=np.array([1_700_000_000, 1_700_000_000 + 86_400], dtype=np.int64))
    item = Engagements(edges, np.array([0, 1], dtype=np.int32))
    counting = Counting(2, 2, half_life=86_400.0, newest=newest_time([item]))
    assert row(build_mixtures([item], 1, counting), 0) == pytest.approx({1: 2 / 3, 0: 1 / 3})


def test_edge_weights_count_when_asked() -> None:
    item = Engagements(
        edges_of([(0, 0), (0, 1)], weight=np.array([3, 1], dtype=np.float32)), np.array([0, 1], dtype=np.int32)
    )
    assert row(build_mixtures([item], 1, Counting(2, 2)), 0) == pytest.approx({0: 0.5, 1: 0.5})
    assert row(build_mixtures([item], 1, Counting(2, 2, edge_weights=True)), 0) == pytest.approx({0: 0.75, 1: 0.25})


def test_a_symmetric_relation_counts_for_both_ends() -> None:
    item = Engagements(edges_of([(0, 1)]), np.array([0, 1], dtype=np.int32), symmetric=True)
    built = build_mixtures([item], 2, Counting(2, 2))
    assert (row(built, 0), row(built, 1)) == ({1: 1.0}, {0: 1.0})


def test_nobody_engaged_with_anything() -> None:
    built = build_mixtures([], 3, Counting(2, 2))
    assert built.indptr.tolist() == [0, 0, 0, 0]
    assert len(built.indices) == 0


def test_equal_modes_go_to_the_lower_cluster() -> None:
    item = Engagements(edges_of([(0, 2), (0, 1), (0, 0)]), np.array([2, 1, 0], dtype=np.int32))
    assert build_mixtures([item], 1, Counting(2, 3)).row(0).tolist() == [0, 1]
