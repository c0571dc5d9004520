"""What a user has by other relations: candidates with a bonus, of trained and of live engagements, and a reason."""

from dataclasses import replace

import numpy as np
import pytest

from bundle.manifest import QueryWeights, Strategy
from bundle.space import Bundle, Space
from index.search.open import exact_searchers
from recommend.elsewhere import DatedRows
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
    assert found.terms_of(everyone)[0] == pytest.approx(np.log1p(1000 * np.array(shares)), rel=1e-5)
    assert len(profile_of_row(viewing, viewing.relation("views"), 5, NO_LIVE_EDGES, 0).elsewhere.rows) == 0


def test_what_is_newer_counts_for_more(viewing: Space) -> None:
    """The share over one and the number of newer engagements; of a relation without times nothing."""
    views, times = viewing.relation("views"), viewing.relation("views").times
    assert times is not None
    rows, own = views.targets.row(5), times[views.targets.indptr[5] : views.targets.indptr[6]]
    found = profile_of_row(viewing, viewing.relation("follows"), 5, NO_LIVE_EDGES, 0).elsewhere
    wanted = np.zeros(N_USERS)
    wanted[rows] = [0.3 / (1 + np.count_nonzero(own > time)) for time in own]
    assert found.recencies_of(np.arange(N_USERS)) == pytest.approx(wanted)
    assert found.terms_of(rows)[1] == pytest.approx(np.log1p(1000 * wanted[rows]), rel=1e-5)


def test_live_engagements_have_their_place_among_the_trained_ones(viewing: Space) -> None:
    views, times = viewing.relation("views"), viewing.relation("views").times
    assert times is not None
    own = times[views.targets.indptr[5] : views.targets.indptr[6]]
    rows = views.targets.row(5)
    new = next(row for row in range(N_USERS) if row not in rows)
    for at, newer in ((1.6e9, len(own)), (float(own.max()), 0), (2e9, 0), (np.inf, 0)):
        live = LiveEdges(added={"views": (USERS[new],)}, times={"views": (at,)})
        found = profile_of_row(viewing, viewing.relation("follows"), 5, live, 0).elsewhere
        assert found.recencies_of(np.array([new])) == pytest.approx(0.3 / (1 + newer))
        # What is done again is new.
        again = LiveEdges(added={"views": (USERS[rows[0]],)}, times={"views": (at,)})
        found = profile_of_row(viewing, viewing.relation("follows"), 5, again, 0).elsewhere
        older = np.count_nonzero(own > max(at, own[0]))
        assert found.recencies_of(rows[:1]) == pytest.approx(0.3 / (1 + older))


def test_two_weights_make_one_bonus_which_is_never_below_nothing(recommender: Recommender, viewing: Space) -> None:
    views = had(viewing, 5, "views")[0]
    found = profile_of_row(viewing, viewing.relation("follows"), 5, NO_LIVE_EDGES, 0).elsewhere
    rows = np.arange(N_USERS)
    share, recency = found.terms_of(rows)
    for elsewhere, weight in ((0.5, 0.2), (-1.0, 1.2), (0.5, -1.0), (-1.0, -1.0)):
        weights = QueryWeights(user=1.0, relation=1.0, elsewhere=elsewhere, recency=weight)
        wanted = np.maximum(elsewhere * share + weight * recency, 0)
        assert found.bonus_of(rows, weights) == pytest.approx(wanted, abs=1e-5)
    lately = Strategy(merge="single", weights=QueryWeights(user=1.0, relation=1.0, recency=1000.0))
    lists = recommender.for_users(np.array([5]), lately, len(views), relation="follows")
    eligible = [row for row in views if row not in had(viewing, 5, "follows")[0] | {5}]
    assert set(lists[0][: len(eligible)].tolist()) == set(eligible)
    assert (np.diff(recency[lists[0][: len(eligible)]]) <= 1e-6).all()


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
    follows, others = viewing.relation("follows"), {"views": DatedRows(np.array([7, 300]), None)}
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


def test_of_very_much_what_gains_most_gets_the_bonus_and_of_equals_the_most_popular(
    recommender: Recommender, viewing: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recommend.slate.MOST_WITH_BONUS", 3)
    views, visits, follows = had(viewing, 5, "views", "visits", "follows")
    degrees = viewing.relation("follows").sources.degrees()
    gain = {row: 0.3 * (row in views) + 0.05 * (row in visits) for row in (views | visits) - follows - {5}}
    eligible = sorted(gain, key=lambda row: (-gain[row], -degrees[row], row))
    slate = recommender.recommend(RecommendRequest(user=USERS[5], k=4, strategy="first"))
    rows = slate.picks.rows[:3]
    assert [pick.source for pick in slate.picks] == ["elsewhere"] * 3 + ["search"]
    assert set(rows) == set(eligible[:3])
