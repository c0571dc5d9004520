"""Why each candidate is in the answer: the user's own engagements that speak for it, and their shares of its score.

near            near what the user engaged with, the most telling of it by name
followed_by     so many of those whom the user follows (`via` which relation) engage with it, some of them by name
follows_you     it has an edge of the relation to the user
elsewhere       the user has it already, by another relation (`via` which)
near_followers  near those who follow the user
taste           near the user's trained vector, which is more than can be named
popular         liked by everybody: in-degree, length, the relation's own vector

The shares of one candidate are those of the parts of its score that are positive, and sum to 1. A query's score is a
sum of such parts. The score of a network is no sum: the part of a kind is what the score loses when the inputs of the
kind say nothing (their mean; no edge, no path). What is true and had no part in the score is told with a share of 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Int64

from bundle.manifest import Feature, Rescoring
from bundle.space import Relation
from recommend.plan import Plan
from recommend.rescoring import FEATURES, FIRST_PATH, Features, FeaturesByEngine, inputs_of, network_scores
from recommend.types import NO_MODE, POPULAR, Engaged, Picks, Reason, ReasonKind, Rows, in_sorted

# Names in one reason.
NAMED = 3
# Of more engagements than this an even sample is looked at, as in rescoring.
MOST_LOOKED_AT = 512
LEAST_SHARE = 0.005
KINDS: tuple[ReasonKind, ...] = (
    "near",
    "followed_by",
    "follows_you",
    "elsewhere",
    "near_followers",
    "taste",
    "popular",
)
# The inputs of a network by the kind of reason that they are; those that say only who the user is are of none.
INPUTS: dict[ReasonKind, tuple[Feature, ...]] = {
    "near": (
        "fold_in",
        "damped_fold_in",
        "nearest_target",
        "three_nearest_targets",
        "soft_nearest_target",
        "following_targets",
        "damped_following_targets",
        "walk",
        "root_walk",
    ),
    "followed_by": ("followed_by_targets", "damped_followed_by_targets", "other_relations"),
    "follows_you": ("reciprocity",),
    "elsewhere": ("elsewhere", "recency"),
    "near_followers": (
        "followers",
        "nearest_follower",
        "followed_by_followers",
        "damped_followed_by_followers",
        "following_followers",
        "damped_following_followers",
    ),
    "taste": ("user",),
    "popular": ("relation", "length", "in_degree", "out_degree"),
}
Parts = Float64[npt.NDArray[np.float64], "kinds picks"]
Matrix = Float32[npt.NDArray[np.float32], "engagements picks"]


class _Engagements(NamedTuple):
    """What the user engages with: type, row, cluster (-1: none), whether the query was made from it, its vector."""

    types: list[str]
    rows: Int64[npt.NDArray[np.int64], " n"]
    clusters: Int64[npt.NDArray[np.int64], " n"]
    used: Bool[npt.NDArray[np.bool_], " n"]
    vectors: Float32[npt.NDArray[np.float32], "n d"]


def reasons_of(plan: Plan, picks: Picks, by_engine: FeaturesByEngine | None = None) -> tuple[tuple[Reason, ...], ...]:
    """For each candidate its reasons, the weightiest first; `plan.own` is what the user engages with.

    For `by_engine` see `recommend.rescoring.inputs_of`.
    """
    if not len(picks):
        return ()
    rows = np.array(picks.rows, dtype=np.int64)
    rescoring = plan.strategy.rescoring if len(plan.profile.targets) else None
    follower = in_sorted(rows, plan.profile.followers(plan.relation))
    if rescoring is None:
        parts = _query_parts(plan, picks, rows, follower)
    else:
        parts = _network_parts(rescoring, inputs_of(plan, rescoring, rows, by_engine))
    fallen_back = np.array(picks.sources) == POPULAR
    parts[:, fallen_back] = np.array([kind == "popular" for kind in KINDS], dtype=np.float64)[:, None]
    positive = np.maximum(parts, 0.0)
    shares = positive / np.maximum(positive.sum(axis=0), np.finfo(np.float64).tiny)
    engaged = _engagements(plan)
    telling = _telling(plan, picks, rows, engaged, rescoring)
    return tuple(
        _reasons(plan, int(row), bool(follower[i]), dict(zip(KINDS, shares[:, i].tolist(), strict=True)), named)
        for i, (row, named) in enumerate(zip(rows, _named(engaged, telling), strict=True))
    )


def _query_parts(plan: Plan, picks: Picks, rows: Rows, follower: Bool[npt.NDArray[np.bool_], " picks"]) -> Parts:
    """The parts of `q·t`: the query's terms, and the bonus of following back."""
    table, weights, dim = plan.space.entities[plan.candidate_type], plan.weights, plan.space.entry.dim
    vectors = table.scored[rows].astype(np.float64)
    parts = np.zeros((len(KINDS), len(rows)))
    if plan.popular:
        return parts
    modes = np.array(picks.modes)
    queries = plan.queries().astype(np.float64)[np.where(modes == NO_MODE, 0, modes)]
    total = np.einsum("nd,nd->n", queries, vectors)
    taste = np.zeros(len(rows))
    if weights.user and plan.profile.vector is not None:
        taste = weights.user * (vectors[:, :dim] @ plan.profile.vector)
    popular = weights.relation * (vectors[:, :dim] @ plan.relation.forward)
    popular += (queries[:, dim:] * vectors[:, dim:]).sum(axis=1)
    if plan.lists is not None:  # stored lists answer the mode's vector alone
        taste, popular = taste * 0, popular * 0
    parts[KINDS.index("near")] = total - taste - popular
    # With a weight below 0 what is far from the user's vector gains by it: that is in the score, and is no reason.
    parts[KINDS.index("taste")] = taste if weights.user > 0 else 0.0
    parts[KINDS.index("popular")] = popular
    parts[KINDS.index("follows_you")] = weights.reciprocity * follower
    parts[KINDS.index("elsewhere")] = plan.profile.elsewhere.bonus_of(rows, weights)
    return parts


def _network_parts(rescoring: Rescoring, features: Features) -> Parts:
    """What the network's score loses by the inputs of each kind."""
    scores = network_scores(rescoring, features).astype(np.float64)
    means = np.zeros(len(FEATURES), dtype=np.float32)
    for name, mean in zip(rescoring.features, rescoring.mean, strict=True):
        position = FEATURES.index(name)
        means[position] = 0.0 if name == "reciprocity" or position >= FIRST_PATH else mean
    parts = np.zeros((len(KINDS), len(features)))
    for i, kind in enumerate(KINDS):
        silent = features.copy()
        positions = [FEATURES.index(name) for name in INPUTS[kind]]
        silent[:, positions] = means[positions]
        parts[i] = scores - network_scores(rescoring, silent)
    return parts


def _engagements(plan: Plan) -> _Engagements:
    """Those that the query was made from first, then others, each entity once whatever relations lead to it."""
    space, dim = plan.space, plan.space.entry.dim
    used = {relation.entry.name for relation, _ in plan.profile.represented_by}
    types: list[str] = []
    rows, clusters, marks = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    vectors = [np.empty((0, dim), dtype=np.float32)]
    named: dict[str, Rows] = {}
    for relation, targets in sorted(plan.own, key=lambda pair: pair[0].entry.name not in used):
        name = relation.entry.target
        before = named.get(name, np.empty(0, np.int64))
        some = _sample(np.setdiff1d(targets, before))
        named[name] = np.union1d(before, some)
        assignment = space.clusters.assignment.get(name)
        types += [name] * len(some)
        rows.append(some)
        clusters.append(np.full(len(some), -1, np.int64) if assignment is None else assignment[some].astype(np.int64))
        marks.append(np.full(len(some), relation.entry.name in used))
        vectors.append(space.entities[name].scored_embeddings(some))
    joined = (np.concatenate(rows), np.concatenate(clusters), np.concatenate(marks), np.concatenate(vectors))
    return _Engagements(types, *joined)


def _sample(rows: Rows) -> Rows:
    if len(rows) <= MOST_LOOKED_AT:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_LOOKED_AT).astype(np.int64)]


def _telling(
    plan: Plan, picks: Picks, rows: Rows, engaged: _Engagements, rescoring: Rescoring | None
) -> Float64[npt.NDArray[np.float64], "engagements picks"]:
    """How much each engagement says for each candidate, 0 or more: its product with it, by a network its cosine.

    Of a candidate that an interest chose, the engagements of that interest, where there are any.
    """
    vectors = plan.space.entities[plan.candidate_type].scored_embeddings(rows)
    products = (engaged.vectors @ vectors.T).astype(np.float64)
    if rescoring is not None:
        lengths = np.linalg.norm(engaged.vectors, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
        products /= np.maximum(lengths, 1e-9)
    telling = np.maximum(products, 0.0)
    inside = np.repeat(engaged.used[:, None], len(rows), axis=1)
    for i, mode in enumerate(picks.modes):
        if mode != NO_MODE:
            own = engaged.clusters == plan.modes.clusters[mode]
            inside[:, i] = own if own.any() else inside[:, i]
    return telling * inside


def _named(
    engaged: _Engagements, telling: Float64[npt.NDArray[np.float64], "engagements picks"]
) -> Iterator[tuple[Engaged, ...]]:
    """For each candidate the engagements that say most for it, and what share of all that is said they have."""
    totals = telling.sum(axis=0)
    for i, total in enumerate(totals.tolist()):
        order = np.argsort(-telling[:, i], kind="stable")[:NAMED].tolist()
        yield tuple(
            Engaged(engaged.types[at], int(engaged.rows[at]), float(telling[at, i] / total))
            for at in order
            if telling[at, i] > 0
        )


def _reasons(
    plan: Plan, row: int, follower: bool, share: dict[ReasonKind, float], near: tuple[Engaged, ...]
) -> tuple[Reason, ...]:
    """The reasons of one candidate."""
    found = [*_followed_by(plan, row, share["followed_by"]), *_elsewhere(plan, row, share["elsewhere"])]
    if near and (share["near"] >= LEAST_SHARE or share["popular"] < 1.0):
        because = tuple(one._replace(share=one.share * share["near"]) for one in near)
        found.append(Reason("near", share["near"], because))
    if follower:
        found.append(Reason("follows_you", share["follows_you"]))
    told = {reason.kind for reason in found}
    found += [Reason(kind, share[kind]) for kind in KINDS if kind not in told and share[kind] >= LEAST_SHARE]
    return tuple(sorted(found, key=lambda reason: -reason.share))


def _followed_by(plan: Plan, row: int, share: float) -> Iterator[Reason]:
    """Whom the user follows, by each relation within the user's type, who engage with the candidate."""
    theirs = plan.relation.sources.row(row)
    circles = [
        (relation, targets[in_sorted(targets.astype(theirs.dtype), theirs)])  # a hub's list is not copied
        for relation, targets in plan.own
        if relation.entry.target == plan.relation.entry.source
    ]
    total = sum(len(both) for _, both in circles)
    for relation, both in circles:
        if len(both):
            of_all = share * len(both) / total
            yield Reason("followed_by", of_all, _rarest(plan.relation, both, of_all), len(both), relation.entry.name)


def _elsewhere(plan: Plan, row: int, share: float) -> Iterator[Reason]:
    """By which other relations the user has the candidate: `share` divided as these tell of the relation asked for."""
    asked = plan.relation.entry
    having = [
        other.entry.name
        for other, targets in plan.own
        if other is not plan.relation and other.entry.target == asked.target and in_sorted(np.array([row]), targets)[0]
    ]
    told = [asked.elsewhere.get(name, 0.0) for name in having]
    for name, part in zip(having, told, strict=True):
        yield Reason("elsewhere", share * part / max(sum(told), np.finfo(np.float64).tiny), via=name)


def _rarest(relation: Relation, rows: Rows, share: float) -> tuple[Engaged, ...]:
    """Some of them: those who engage with the least say most."""
    degrees = relation.targets.indptr[rows + 1] - relation.targets.indptr[rows]
    few = rows[np.argsort(degrees, kind="stable")[:NAMED]]
    return tuple(Engaged(relation.entry.source, int(row), share / len(rows)) for row in few.tolist())
