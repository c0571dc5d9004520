"""What `/recommend` promises, asked of the functions behind it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from bundle.csr import csr_from_pairs
from bundle.errors import QueryError
from bundle.manifest import QueryWeights, Strategy
from bundle.space import Bundle, Space
from index.search.open import exact_searchers
from recommend.recommender import Recommender
from recommend.stored_lists import HEAD_LENGTH
from recommend.types import NO_MODE, LiveEdges, RecommendRequest, Slate
from tests.support.service_bundle import STRATEGIES, user_ids

USERS = user_ids()
NAMES = ["auto", *STRATEGIES]
LONELY = USERS[-1]  # trained, but without a single edge


def _ask(recommender: Recommender, user: str | None = USERS[5], **fields: object) -> Slate:
    return recommender.recommend(RecommendRequest(user=user, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_k_distinct_candidates_without_self_and_seen(recommender: Recommender, space: Space, name: str) -> None:
    slate = _ask(recommender, strategy=name, k=50)
    rows = set(slate.rows.tolist())
    assert len(slate.picks) == len(rows) == 50
    assert not rows & {5, *space.relations["follows"].targets.row(5).tolist()}
    assert slate.fallback is None
    assert not slate.short


@pytest.mark.parametrize("name", NAMES)
def test_equal_requests_give_equal_answers(recommender: Recommender, name: str) -> None:
    assert list(_ask(recommender, strategy=name).picks) == list(_ask(recommender, strategy=name).picks)


@pytest.mark.parametrize("name", NAMES)
def test_every_eligible_candidate_when_k_asks_for_more(recommender: Recommender, space: Space, name: str) -> None:
    slate = _ask(recommender, strategy=name, k=1000)
    seen = {5, *space.relations["follows"].targets.row(5).tolist()}
    assert sorted(slate.rows.tolist()) == sorted(set(range(len(USERS))) - seen)
    assert slate.short


def test_single_query_is_the_documented_sum(toy: Bundle, space: Space) -> None:
    weights = QueryWeights(user=0.3, fold_in=0.7, relation=2, popularity=0.1)
    slate = _ask(_with_strategy(toy, "sum", Strategy(merge="single", weights=weights)), strategy="sum", k=10)
    follows, users = space.relations["follows"], space.entities["user"]
    mean = users.embeddings[follows.targets.row(5)].mean(axis=0)
    query = np.append(0.3 * users.embeddings[5] + 0.7 * mean + 2 * follows.forward, 0.1)
    scores = users.vectors @ query
    scores[[5, *follows.targets.row(5)]] = -np.inf
    best = np.argsort(-scores)[:10]
    assert slate.rows.tolist() == best.tolist()
    assert [pick.score for pick in slate.picks] == pytest.approx(scores[best].tolist(), rel=1e-4)


def test_budgets_follow_the_mixture(recommender: Recommender, space: Space) -> None:
    slate = _ask(recommender, strategy="centroids", k=20)
    modes = [pick.mode for pick in slate.picks]
    assert slate.modes.budgets == tuple(modes.count(mode) for mode in range(len(slate.modes)))
    assert np.abs(np.array(slate.modes.budgets) - 20 * slate.modes.shares).max() < 1
    assert slate.modes.shares.sum() == pytest.approx(1)


def test_every_prefix_of_a_mixture_keeps_its_proportions(recommender: Recommender) -> None:
    slate = _ask(recommender, strategy="centroids", k=40)
    modes = np.array([pick.mode for pick in slate.picks])
    for length in range(1, 41):
        counts = np.bincount(modes[:length], minlength=len(slate.modes))
        assert np.abs(counts - length * np.array(slate.modes.budgets) / 40).max() <= 1.5


def test_stored_lists_and_search_agree(recommender: Recommender) -> None:
    plan = recommender.plan(RecommendRequest(user=USERS[5], strategy="centroids", k=20))
    listed, searched = recommender.at_once(plan), recommender.search([plan])[0]
    assert listed is not None
    assert listed.rows.tolist() == searched.rows.tolist()
    assert {pick.source for pick in listed.picks} == {"list"}


@pytest.mark.parametrize("k", [20, HEAD_LENGTH + 50])
def test_a_cluster_without_a_list_is_searched_and_given_no_other_one_s(recommender: Recommender, k: int) -> None:
    plan = recommender.plan(RecommendRequest(user=USERS[5], strategy="centroids", k=k))
    assert plan.lists is not None
    assert recommender.at_once(plan) is not None
    for first in (int(plan.modes.clusters.min()) + 1, int(plan.modes.clusters.max()) - len(plan.lists.rows)):
        assert recommender.at_once(structs.replace(plan, lists=replace(plan.lists, first=first))) is None


def test_stored_lists_show_what_their_candidates_are(recommender: Recommender) -> None:
    slate = _ask(recommender, strategy="centroids", k=20)
    clusters = slate.modes.clusters.tolist()
    told = zip(slate.ids(), slate.picks, strict=True)
    expected = [{"id": external, "score": pick.score, "mode": clusters[pick.mode]} for external, pick in told]
    assert [json.loads(encoded) for encoded in slate.picks.encoded] == expected
    assert not _ask(recommender, strategy="mixture", k=20).picks.encoded


def test_a_slate_longer_than_the_heads_of_the_lists_begins_alike(recommender: Recommender) -> None:
    heads, whole = (_ask(recommender, strategy="centroids", k=k) for k in (20, HEAD_LENGTH + 50))
    by_mode = [[pick.row for pick in slate.picks if pick.mode == 0] for slate in (heads, whole)]
    assert by_mode[0] == by_mode[1][: len(by_mode[0])]


def test_emptied_lists_are_searched_deeper(recommender: Recommender, space: Space) -> None:
    lists = space.clusters.lists["user", "centroid"].rows
    clusters = space.clusters.interests[0].mixtures.row(5)[:3]
    exclude = tuple(USERS[row] for row in np.unique(lists[clusters])[3:])
    slate = _ask(recommender, strategy="centroids", k=20, exclude=exclude)
    assert len(slate.picks) == 20
    assert slate.fallback == "deeper_search"
    assert not set(slate.ids()) & set(exclude)


def test_unknown_user_without_engagements_gets_popular(recommender: Recommender, space: Space) -> None:
    slate = _ask(recommender, user="12345", strategy="mixture", k=10)
    assert slate.fallback == "popular"
    assert slate.rows.tolist() == space.relations["follows"].popular[:10].tolist()
    assert {pick.mode for pick in slate.picks} == {NO_MODE}


def test_inline_engagements_stand_for_an_unknown_user(recommender: Recommender, space: Space) -> None:
    followed = tuple(USERS[row] for row in space.relations["follows"].targets.row(5).tolist())
    inline = LiveEdges(added={"follows": followed})
    for name in ("fold_in", "mixture"):
        known, unknown = _ask(recommender, strategy=name, exclude=(USERS[5],)), None
        unknown = _ask(recommender, user=None, engagements=inline, strategy=name, exclude=(USERS[5],))
        assert unknown.rows.tolist() == known.rows.tolist()
        assert unknown.fallback is None
    assert _ask(recommender, user=None, engagements=inline, strategy="unimodal").fallback == "fold_in"


def test_a_known_user_without_edges_is_answered_from_the_trained_vector(recommender: Recommender) -> None:
    for name in ("fold_in", "mixture", "centroids"):
        slate = _ask(recommender, user=LONELY, strategy=name)
        assert slate.fallback == "user_vector"
        assert len(slate.picks) == 20
    assert _ask(recommender, user=LONELY, strategy="unimodal").fallback is None


def test_live_follow_is_excluded_and_shifts_the_mixture(recommender: Recommender, space: Space) -> None:
    before = _ask(recommender, strategy="mixture", k=20)
    own = set(before.modes.clusters.tolist())
    other = next(c for c in range(8) if c not in own)
    rows = np.flatnonzero(space.clusters.assignment["user"] == other)[:30]
    live = LiveEdges(added={"follows": tuple(USERS[row] for row in rows.tolist())})
    after = recommender.recommend(RecommendRequest(user=USERS[5], strategy="mixture", k=20), live)
    assert after.modes.clusters[0] == other
    assert not set(after.rows.tolist()) & set(rows.tolist())
    fold_in = RecommendRequest(user=USERS[5], strategy="fold_in")
    assert recommender.recommend(fold_in, live).rows.tolist() != recommender.recommend(fold_in).rows.tolist()


def test_unfollowed_is_eligible_again_and_blocked_never(recommender: Recommender, space: Space) -> None:
    followed = USERS[int(space.relations["follows"].targets.row(5)[0])]
    everyone = RecommendRequest(user=USERS[5], k=1000)
    assert followed not in recommender.recommend(everyone).ids()
    unfollow = LiveEdges(removed={"follows": (followed,)})
    assert followed in recommender.recommend(everyone, unfollow).ids()
    block = LiveEdges(removed={"follows": (followed,)}, blocked={"user": (followed,)})
    assert followed not in recommender.recommend(everyone, block).ids()
    seen = RecommendRequest(user=USERS[5], k=1000, exclude_seen=False)
    assert followed in recommender.recommend(seen).ids()
    assert followed not in recommender.recommend(seen, block).ids()
    assert USERS[5] not in recommender.recommend(seen).ids()


def test_followers_are_candidates_and_their_bonus_counts(toy: Bundle, space: Space) -> None:
    weights = QueryWeights(user=1, relation=1, reciprocity=1000)
    slate = _ask(_with_strategy(toy, "bonus", Strategy(merge="single", weights=weights)), strategy="bonus", k=50)
    follows = space.relations["follows"]
    followers = set(follows.sources.row(5).tolist()) - set(follows.targets.row(5).tolist())
    assert followers
    first = list(slate.picks)[: len(followers)]
    assert {pick.row for pick in first} == followers
    assert {pick.source for pick in first} == {"reciprocal"}
    assert len(slate.picks) == 50


def test_candidates_of_another_type(recommender: Recommender) -> None:
    slate = _ask(recommender, relation="uses", strategy="blend", k=10)
    assert slate.candidate_type == "hashtag"
    assert len(slate.picks) == 10
    assert _ask(recommender, candidate_type="hashtag").relation == "uses"


def test_live_ids_of_another_version_are_passed_over(recommender: Recommender) -> None:
    live = LiveEdges(added={"follows": ("999",), "gone": ("1",)}, blocked={"user": ("998",), "gone": ("1",)})
    request = RecommendRequest(user=USERS[5], strategy="fold_in")
    assert recommender.recommend(request, live).rows.tolist() == recommender.recommend(request).rows.tolist()


@pytest.mark.parametrize(
    "fields",
    [
        {"k": 0},
        {"strategy": "best"},
        {"relation": "likes"},
        {"space": "other"},
        {"relation": "uses", "candidate_type": "user"},
        {"user_type": "hashtag"},
        {"candidate_type": "list"},
    ],
)
def test_questions_without_an_answer_are_refused(recommender: Recommender, fields: dict[str, object]) -> None:
    with pytest.raises(QueryError):
        _ask(recommender, **fields)


@pytest.mark.parametrize("name", NAMES)
def test_users_by_row_get_what_their_requests_would_get(recommender: Recommender, name: str) -> None:
    lists = recommender.for_users(np.arange(300), name, 10, relation="follows")
    assert len(lists) == 300
    for row in range(0, 300, 25):
        assert lists[row].tolist() == _ask(recommender, user=USERS[row], strategy=name, k=10).rows.tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_may_be_given_itself(recommender: Recommender, name: str) -> None:
    users = np.arange(20)
    by_name, by_value = (
        recommender.for_users(users, asked, 10, relation="follows") for asked in (name, STRATEGIES[name])
    )
    assert [rows.tolist() for rows in by_value] == [rows.tolist() for rows in by_name]


def test_a_name_that_is_no_strategy_is_refused_for_rows_too(recommender: Recommender) -> None:
    with pytest.raises(QueryError, match="no such strategy"):
        recommender.for_users(np.arange(2), "best", 10, relation="follows")


def test_a_slate_says_whether_training_knows_the_user(recommender: Recommender) -> None:
    assert _ask(recommender).known
    for nobody in ("12345", "no id at all", ""):
        slate = _ask(recommender, user=nobody)
        assert not slate.known
        assert slate.fallback == "popular"


def _followed_back(space: Space) -> QueryWeights:
    return QueryWeights(fold_in=1.0, relation=1.0, reciprocity=100.0)


def test_followers_that_only_the_request_knows_come_first_for_somebody_new(toy: Bundle, space: Space) -> None:
    recommender = _with_strategy(toy, "back", Strategy(merge="single", weights=_followed_back(space)))
    followers = (USERS[17], USERS[3], "no such user")
    engaged = LiveEdges(added={"follows": (USERS[40],)})
    slate = recommender.recommend(
        RecommendRequest(user="stranger", engagements=engaged, followers=followers, strategy="back")
    )
    assert set(slate.ids()[:2]) == {USERS[17], USERS[3]}
    assert [pick.source for pick in slate.picks][:3] == ["reciprocal", "reciprocal", "search"]


def test_followers_in_the_request_add_to_those_in_training(toy: Bundle, space: Space) -> None:
    recommender = _with_strategy(toy, "back", Strategy(merge="single", weights=_followed_back(space)))
    trained = set(space.relations["follows"].sources.row(5).tolist()) - set(
        space.relations["follows"].targets.row(5).tolist()
    )
    new = next(row for row in range(len(USERS)) if row not in {5, *trained} and row not in _seen(space, 5))
    slate = _ask(recommender, strategy="back", followers=(USERS[new],), k=50)
    assert set(slate.rows[: len(trained) + 1].tolist()) == {*trained, new}


def test_followers_make_no_sense_between_two_types(recommender: Recommender) -> None:
    with pytest.raises(QueryError, match="followers fits a relation between entities of one type"):
        _ask(recommender, relation="uses", followers=(USERS[1],))


def test_auto_may_be_another_strategy_for_somebody_new(toy: Bundle) -> None:
    recommender = _with_strategy(toy, "for_newcomers", Strategy(merge="single", weights=QueryWeights(fold_in=1.0)))
    engaged = LiveEdges(added={"follows": (USERS[40],)})
    assert _ask(recommender).strategy == "blend"
    assert _ask(recommender, user="stranger", engagements=engaged).strategy == "for_newcomers"
    assert _ask(recommender, user=None, engagements=engaged).strategy == "for_newcomers"
    assert _ask(recommender, user=None, engagements=engaged, strategy="fold_in").strategy == "fold_in"


def test_auto_is_a_plain_mixture_for_a_relation_that_nothing_was_measured_on(recommender: Recommender) -> None:
    assert _ask(recommender, relation="uses").strategy == "mixture"
    assert _ask(recommender, relation="uses", strategy="blend").strategy == "blend"


def test_newcomers_by_row_get_what_a_request_would_get(recommender: Recommender, toy: Bundle) -> None:
    strategy = Strategy(merge="single", weights=QueryWeights(fold_in=1.0, relation=1.0, reciprocity=0.5))
    engaged = csr_from_pairs(np.array([0, 0], dtype=np.int32), np.array([9, 40], dtype=np.int32), 1)
    followers = csr_from_pairs(np.array([0], dtype=np.int32), np.array([17], dtype=np.int32), 1)
    by_row = recommender.for_newcomers(engaged, followers, strategy, 10, relation="follows")
    asked = _with_strategy(toy, "same", strategy).recommend(
        RecommendRequest(
            engagements=LiveEdges(added={"follows": (USERS[9], USERS[40])}),
            followers=(USERS[17],),
            strategy="same",
            k=10,
        )
    )
    assert [rows.tolist() for rows in by_row] == [asked.rows.tolist()]


def _seen(space: Space, row: int) -> set[int]:
    return set(space.relations["follows"].targets.row(row).tolist())


def _with_strategy(toy: Bundle, name: str, strategy: Strategy) -> Recommender:
    """The toy version with one more strategy, which is what `auto` means for newcomers."""
    space = toy.space()
    entry = space.entry.model_copy(
        update={"strategies": {**space.entry.strategies, name: strategy}, "auto_newcomer": name}
    )
    changed = replace(toy, spaces={space.name: replace(space, entry=entry)})
    return Recommender(changed, exact_searchers(changed))
