"""What a user has by other relations: candidates with a bonus, of trained and of live engagements, and a reason."""

from dataclasses import replace

import numpy as np
import pytest

from bundle.manifest import QueryWeights, Strategy
from bundle.space import Bundle, Space
from index.search.open import exact_searchers
from recommend.plan import plan_newcomer
from recommend.profile import NOBODY, profile_of_row
from recommend.recommender import Recommender
from recommend.types import NO_LIVE_EDGES, LiveEdges, RecommendRequest
from tests.support.service_bundle import N_USERS, user_ids, with_views

USERS = user_ids()
ALONE = Strategy(merge="single", weights=QueryWeights(user=1.0, relation=1.0))
FIRST = Strategy(merge="single", weights=QueryWeights(user=1.0, relation=1.0, elsewhere=1000.0))


@pytest.fixture(scope="module")
def viewing(toy: Bundle) -> Space:
    space = with_views(toy.space(), "views", "visits")
    strategies = {**space.entry.strategies, "alone": ALONE, "first": FIRST}
    return replace(space, entry=space.entry.model_copy(update={"strategies": strategies}))


@pytest.fixture(scope="module")
def recommender(toy: Bundle, viewing: Space) -> Recommender:
    return Recommender(replace(toy, spaces={viewing.name: viewing}), exact_searchers(toy))


def had(space: Space, user: int, *names: str) -> list[set[int]]:
    return [set(space.relation(name).targets.row(user).tolist()) for name in names]


def test_each_relation_adds_its_share(viewing: Space) -> None:
    views, visits = had(viewing, 5, "views", "visits")
    found = profile_of_row(viewing, viewing.relation("follows"), 5, NO_LIVE_EDGES, 0).elsewhere
    everyone = np.arange(N_USERS)
    shares = [0.3 * (row in views) + 0.05 * (row in visits) for row in everyone.tolist()]
    assert found.shares_of(everyone) == pytest.approx(shares)
    assert found.terms_of(everyone) == pytest.approx(np.log1p(1000 * np.array(shares)), rel=1e-5)
    assert len(profile_of_row(viewing, viewing.relation("views"), 5, NO_LIVE_EDGES, 0).elsewhere.rows) == 0


def test_what_the_user_has_elsewhere_joins_the_candidates(recommender: Recommender, viewing: Space) -> None:
    views, visits, follows = had(viewing, 5, "views", "visits", "follows")
    eligible = (views | visits) - follows - {5}
    k = len(eligible)
    slate = recommender.recommend(RecommendRequest(user=USERS[5], k=k, strategy="first"))
    assert set(slate.picks.rows) == eligible
    both = views & visits & eligible
    assert set(slate.picks.rows[: len(both)]) == both
    without = recommender.recommend(RecommendRequest(user=USERS[5], k=k, strategy="alone"))
    assert set(without.picks.rows) != eligible
    # It is no filter: the rest is there, in the order of the query alone.
    rest = recommender.recommend(RecommendRequest(user=USERS[5], k=N_USERS, strategy="first")).picks.rows[k:]
    whole = recommender.recommend(RecommendRequest(user=USERS[5], k=N_USERS, strategy="alone")).picks.rows
    assert [row for row in whole if row not in eligible] == list(rest)


def test_live_engagements_count_as_trained_ones_and_removed_ones_do_not(
    recommender: Recommender, viewing: Space
) -> None:
    views, visits, follows = had(viewing, 5, "views", "visits", "follows")
    new = next(row for row in range(N_USERS) if row not in views | visits | follows | {5})
    live = LiveEdges(added={"views": (USERS[new],)}, removed={"views": tuple(USERS[row] for row in views)})
    k = len((visits - follows) | {new})
    rows = recommender.recommend(RecommendRequest(user=USERS[5], k=k, strategy="first"), live).picks.rows
    assert set(rows) == (visits - follows - {5}) | {new}
    newcomer = RecommendRequest(user="nobody", k=5, strategy="first", engagements=live)
    assert recommender.recommend(newcomer).picks.rows[0] == new


def test_a_newcomer_is_asked_for_by_rows(recommender: Recommender, viewing: Space) -> None:
    follows, others = viewing.relation("follows"), {"views": np.array([7, 300])}
    plan = plan_newcomer(viewing, follows, np.array([3], dtype=np.int32), NOBODY, FIRST, 2, others)
    assert sorted(recommender.search([plan])[0].picks.rows) == [7, 300]


def test_the_reason_names_every_relation_by_which_the_user_has_it(recommender: Recommender, viewing: Space) -> None:
    views, visits, follows = had(viewing, 5, "views", "visits", "follows")
    for strategy in ("first", "alone"):
        slate = recommender.recommend(RecommendRequest(user=USERS[5], k=60, strategy=strategy, explain=True))
        for row, reasons in zip(slate.picks.rows, slate.reasons, strict=True):
            told = {reason.via: reason.share for reason in reasons if reason.kind == "elsewhere"}
            assert set(told) == {name for name, rows in (("views", views), ("visits", visits)) if row in rows}
            assert all((share > 0) == (strategy == "first") for share in told.values())
            if strategy == "first" and len(told) == 2:
                assert told["views"] == pytest.approx(6 * told["visits"])


def test_of_very_much_the_most_popular_gets_the_bonus(
    recommender: Recommender, viewing: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recommend.slate.MOST_WITH_BONUS", 3)
    views, visits, follows = had(viewing, 5, "views", "visits", "follows")
    degrees = viewing.relation("follows").sources.degrees()
    eligible = sorted((views | visits) - follows - {5}, key=lambda row: (-degrees[row], row))
    rows = recommender.recommend(RecommendRequest(user=USERS[5], k=3, strategy="first")).picks.rows
    assert set(rows) == set(eligible[:3])
