"""Reasons: every candidate of every strategy has them; they name the user's own engagements, with the right shares."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from bundle.manifest import QueryWeights, Rescoring, Strategy
from bundle.space import Bundle, Space
from index.search.open import exact_searchers
from recommend.filters import FilterCache
from recommend.plan import make_plan
from recommend.reasons import _engagements
from recommend.recommender import Recommender
from recommend.types import NO_LIVE_EDGES, LiveEdges, Reason, RecommendRequest, Slate
from tests.support.service_bundle import N_USERS, STRATEGIES, user_ids

USERS = user_ids()
NETWORK = Rescoring(
    pool=60,
    features=("user", "fold_in", "nearest_target", "reciprocity", "followed_by_targets", "in_degree", "user_in_degree"),
    mean=(0.0, 0.0, 0.2, 0.1, 0.0, 1.0, 1.0),
    scale=(1.0,) * 7,
    hidden=((0.2, 0.5, 0.4, 2.0, 1.0, 0.3, 5.0), (0.1, 0.2, 0.1, 0.5, 0.2, 0.1, 1.0)),
    bias=(50.0, 30.0),
    out=(1.0, 0.5),
)


@pytest.fixture(scope="module")
def explained(toy: Bundle) -> Recommender:
    """The toy version with a network over all kinds of inputs beside its strategies."""
    space = toy.space()
    rescored = Strategy(merge="single", weights=QueryWeights(user=1, fold_in=1, reciprocity=1), rescoring=NETWORK)
    entry = space.entry.model_copy(update={"strategies": {**space.entry.strategies, "network": rescored}})
    return Recommender(replace(toy, spaces={"main": replace(space, entry=entry)}), exact_searchers(toy))


def _ask(recommender: Recommender, user: str | None = USERS[5], **fields: Any) -> Slate:
    return recommender.recommend(RecommendRequest(user=user, explain=True, **fields))


def of_kind(reasons: tuple[Reason, ...], kind: str) -> list[Reason]:
    return [reason for reason in reasons if reason.kind == kind]


@pytest.mark.parametrize("strategy", [*STRATEGIES, "network"])
def test_every_candidate_has_reasons_whose_shares_sum_to_one(explained: Recommender, strategy: str) -> None:
    slate = _ask(explained, strategy=strategy)
    assert len(slate.reasons) == len(slate.picks) == 20
    for reasons in slate.reasons:
        shares = [reason.share for reason in reasons]
        assert sum(shares) == pytest.approx(1, abs=0.02)
        assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("strategy", [*(name for name in STRATEGIES if name != "popular"), "network"])
def test_near_names_what_the_user_engaged_with_and_nothing_else(
    explained: Recommender, space: Space, strategy: str
) -> None:
    followed = set(space.relations["follows"].targets.row(5).tolist())
    used = set(space.relations["uses"].targets.row(5).tolist())
    for reasons in _ask(explained, strategy=strategy).reasons:
        near = of_kind(reasons, "near")
        assert len(near) == 1
        assert 1 <= len(near[0].because) <= 3
        assert all(one.row in (followed if one.entity_type == "user" else used) for one in near[0].because)
        assert sum(one.share for one in near[0].because) <= near[0].share + 1e-6


def test_the_parts_of_a_query_are_its_terms(explained: Recommender, space: Space) -> None:
    slate, users, follows = _ask(explained, strategy="blend"), space.entities["user"], space.relations["follows"]
    weights = STRATEGIES["blend"].weights
    mean = users.embeddings[follows.targets.row(5)].mean(axis=0)
    for row, reasons in zip(slate.picks.rows, slate.reasons, strict=True):
        own, target = users.embeddings[5], users.embeddings[row]
        parts = {
            "taste": weights.user * own @ target,
            "near": weights.fold_in * mean @ target,
            "popular": weights.relation * follows.forward @ target + weights.popularity * users.vectors[row, -1],
            "follows_you": weights.reciprocity * (row in follows.sources.row(5)),
        }
        total = sum(max(part, 0.0) for part in parts.values())
        for kind, part in parts.items():
            told = sum(reason.share for reason in of_kind(reasons, kind))
            assert told == pytest.approx(max(part, 0.0) / total, abs=0.006), kind


def test_what_is_far_from_the_user_s_vector_is_not_told_to_be_near_it(explained: Recommender) -> None:
    space = explained.bundle.space()
    away = Strategy(merge="single", weights=QueryWeights(user=-1, fold_in=0.2, relation=1, popularity=1))
    entry = space.entry.model_copy(update={"strategies": {**space.entry.strategies, "away": away}})
    bundle = replace(explained.bundle, spaces={"main": replace(space, entry=entry)})
    slate = _ask(Recommender(bundle, exact_searchers(bundle)), strategy="away")
    assert any(reasons for reasons in slate.reasons)
    assert not [reason for reasons in slate.reasons for reason in of_kind(reasons, "taste")]


def test_followers_and_those_whom_the_user_follows_are_told_as_they_are(explained: Recommender, space: Space) -> None:
    follows = space.relations["follows"]
    own = set(follows.targets.row(5).tolist())
    for strategy in ("unimodal", "network", "popular"):
        slate = _ask(explained, strategy=strategy, k=60)
        for row, reasons in zip(slate.picks.rows, slate.reasons, strict=True):
            assert bool(of_kind(reasons, "follows_you")) == (row in follows.sources.row(5))
            both = own & set(follows.sources.row(row).tolist())
            told = [reason for reason in of_kind(reasons, "followed_by") if reason.via]
            assert [reason.count for reason in told] == ([len(both)] if both else [])
            assert all(one.row in both for reason in told for one in reason.because)


def test_a_network_s_shares_are_what_its_score_loses(explained: Recommender) -> None:
    slate = _ask(explained, strategy="network", k=60)
    kinds = {reason.kind for reasons in slate.reasons for reason in reasons if reason.share > 0}
    assert {"near", "taste", "follows_you", "followed_by", "popular"} <= kinds
    unmoved = {"near_followers"}  # the network has no such input
    assert not unmoved & {reason.kind for reasons in slate.reasons for reason in reasons}


def test_candidates_of_another_type_are_explained_by_whoever_engages_with_them(
    explained: Recommender, space: Space
) -> None:
    uses, follows = space.relations["uses"], space.relations["follows"]
    slate = _ask(explained, relation="uses", strategy="fold_in")
    counts = []
    for row, reasons in zip(slate.picks.rows, slate.reasons, strict=True):
        both = set(follows.targets.row(5).tolist()) & set(uses.sources.row(row).tolist())
        told = [reason for reason in of_kind(reasons, "followed_by") if reason.via]
        assert [(reason.count, reason.via) for reason in told] == ([(len(both), "follows")] if both else [])
        counts.append(len(both))
    assert max(counts) > 0


def test_live_engagements_are_named(explained: Recommender, space: Space) -> None:
    live = LiveEdges(added={"follows": (USERS[77],)})
    request = RecommendRequest(user=None, engagements=live, strategy="fold_in", explain=True)
    for reasons in explained.recommend(request).reasons:
        assert [one.row for one in of_kind(reasons, "near")[0].because] == [77]


def test_what_two_relations_lead_to_is_named_once(space: Space) -> None:
    follows = space.relations["follows"]
    viewed = replace(follows, entry=follows.entry.model_copy(update={"name": "viewed"}))
    plan = make_plan(space, RecommendRequest(user=USERS[5], explain=True), NO_LIVE_EDGES, FilterCache())
    followed = follows.targets.row(5).astype(np.int64)
    twice = msgspec.structs.replace(plan, own=((follows, followed), (viewed, np.append(followed, N_USERS - 1))))
    assert sorted(_engagements(twice).rows.tolist()) == sorted({*followed.tolist(), N_USERS - 1})


def test_somebody_without_engagements_is_told_of_popularity(explained: Recommender) -> None:
    assert {reason.kind for reasons in _ask(explained, user="nobody").reasons for reason in reasons} == {"popular"}


def test_reasons_are_made_only_where_they_are_asked_for(explained: Recommender) -> None:
    plain = explained.recommend(RecommendRequest(user=USERS[5], strategy="blend"))
    asked = _ask(explained, strategy="blend")
    assert plain.reasons == ()
    assert plain.picks.rows == asked.picks.rows


def test_no_share_is_no_number(explained: Recommender) -> None:
    for strategy in [*STRATEGIES, "network"]:
        for user in (USERS[0], USERS[-1], None):
            slate = _ask(explained, user=user, strategy=strategy, k=5)
            assert np.isfinite([reason.share for reasons in slate.reasons for reason in reasons]).all()
