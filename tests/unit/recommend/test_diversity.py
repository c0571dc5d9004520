"""Diversity: what MMR takes is what a plain loop takes, less alike the more is asked for, and never short for it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import QueryError
from bundle.space import Space
from recommend.diversity import POOL_LEAST, diversified, pool_of
from recommend.recommender import Recommender
from recommend.types import LiveEdges, Picks, RecommendRequest, Slate
from tests.support.service_bundle import STRATEGIES, user_ids

USERS = user_ids()
NAMES = ["auto", *STRATEGIES]


def _ask(recommender: Recommender, user: str | None = USERS[5], **fields: Any) -> Slate:
    return recommender.recommend(RecommendRequest(user=user, **fields))


def picks_of(n: int) -> Picks:
    """A pool of `n`: rows that are not their places."""
    rows = tuple(range(100, 100 + n))
    return Picks(rows, tuple(-float(row) for row in rows), (-1,) * n, tuple(range(n)), (1,) * n)


def plain(vectors: np.ndarray, clusters: np.ndarray, k: int, diversity: float, cap: int | None) -> list[int]:
    """The same by the words of the definition, one product at a time."""
    n, order = len(vectors), list[int]()

    def cosine(i: int, j: int) -> float:
        return float(vectors[i] @ vectors[j] / (np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])))

    while len(order) < min(k, n):
        left = [i for i in range(n) if i not in order]
        full = [c for c in set(clusters.tolist()) if cap and sum(clusters[i] == c for i in order) >= cap]
        allowed = [i for i in left if clusters[i] not in full] or left
        worth = {
            i: (1 - diversity) * (1 - i / max(1, n - 1)) - diversity * max((cosine(i, j) for j in order), default=-1.0)
            for i in allowed
        }
        order.append(min(allowed, key=lambda i: (-round(worth[i], 9), i)))
    return order


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 15),
    k=st.integers(1, 12),
    diversity=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    cap=st.sampled_from([None, 1, 2]),
)
def test_it_takes_what_the_definition_takes(seed: int, n: int, k: int, diversity: float, cap: int | None) -> None:
    rng = np.random.default_rng(seed)
    vectors, clusters = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)
    found = diversified(picks_of(n), vectors, clusters, k, diversity, cap)
    assert [row - 100 for row in found.rows] == plain(vectors, clusters, k, diversity, cap)
    assert [-score for score in found.scores] == list(found.rows)


@pytest.mark.parametrize(("k", "pool"), [(1, POOL_LEAST), (20, 100), (50, 250), (200, 500), (900, 900)])
def test_the_pool_grows_with_what_is_asked_for(k: int, pool: int) -> None:
    assert pool_of(k) == pool


def spread(space: Space, slate: Slate) -> float:
    """The mean cosine of two of the candidates."""
    vectors = space.entities[slate.candidate_type].embeddings[slate.rows]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    products = vectors @ vectors.T
    return float((products.sum() - len(vectors)) / (len(vectors) * (len(vectors) - 1)))


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_less_alike_the_more_it_is_asked_for(recommender: Recommender, space: Space, name: str) -> None:
    slates = [_ask(recommender, strategy=name, k=10, diversity=share) for share in (0.0, 0.3, 1.0)]
    alike = [spread(space, slate) for slate in slates]
    assert alike[2] < alike[0]
    assert alike[1] <= alike[0] + 1e-6
    assert all(len(set(slate.rows.tolist())) == 10 and not slate.short for slate in slates)
    assert slates[0].rows.tolist() == _ask(recommender, strategy=name, k=10).rows.tolist()
    assert slates[1].rows[0] == slates[0].rows[0] or name in ("mixture", "centroids", "medoids")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cap", [1, 2])
def test_a_cap_on_clusters_is_kept(recommender: Recommender, space: Space, name: str, cap: int) -> None:
    slate = _ask(recommender, strategy=name, k=6, max_per_cluster=cap)
    pool = _ask(recommender, strategy=name, k=pool_of(6))
    of_slate, of_pool = (space.clusters.assignment["user"][one.rows].tolist() for one in (slate, pool))
    # Where the pool has too few clusters the cap is lifted, when each of them has its share.
    within = sum(min(cap, of_pool.count(cluster)) for cluster in set(of_pool))
    assert len(of_slate) == 6
    assert all(of_slate[:within].count(cluster) <= cap for cluster in set(of_slate))
    assert within >= 6 or set(of_slate) == set(of_pool)


def test_an_answer_is_not_short_for_a_cap(recommender: Recommender, space: Space) -> None:
    n_clusters = len(space.clusters.centroids)
    slate = _ask(recommender, strategy="popular", k=3 * n_clusters, max_per_cluster=1)
    assert len(slate.picks) == 3 * n_clusters
    first = space.clusters.assignment["user"][slate.rows[:n_clusters]]
    assert len(set(first.tolist())) == n_clusters


def test_a_mixture_says_how_many_each_interest_gave(recommender: Recommender) -> None:
    slate = _ask(recommender, strategy="centroids", k=10, diversity=0.5)
    assert sum(slate.modes.budgets) == 10
    assert list(slate.modes.budgets) == [slate.picks.modes.count(mode) for mode in range(len(slate.modes))]


def test_reasons_and_newcomers_go_with_it(recommender: Recommender, space: Space) -> None:
    inline = LiveEdges(added={"follows": tuple(USERS[:3])})
    slate = _ask(recommender, user=None, engagements=inline, k=8, diversity=0.7, max_per_cluster=3, explain=True)
    assert len(slate.picks) == len(slate.reasons) == 8
    assert np.bincount(space.clusters.assignment["user"][slate.rows]).max() <= 3


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"diversity": 1.5}, id="more than all"),
        pytest.param({"diversity": -0.1}, id="less than nothing"),
        pytest.param({"max_per_cluster": 0}, id="no candidate of a cluster"),
        pytest.param({"max_per_cluster": 2, "relation": "uses"}, id="a type without clusters"),
    ],
)
def test_what_cannot_be_is_refused(recommender: Recommender, fields: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="diversity|max_per_cluster"):
        _ask(recommender, **fields)
