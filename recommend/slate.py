"""From a plan and its candidates to a slate: filter, add what has a bonus, merge, fill up."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.layout import ListQuery
from bundle.space import CandidateLists
from index.search.protocol import Hits
from recommend.diversity import diversified
from recommend.merge import Draw, RankedList, draw, interleaved
from recommend.plan import Plan, Variety, list_query
from recommend.popular import popular_picks
from recommend.profile import NOBODY
from recommend.reasons import reasons_of
from recommend.rescoring import FeaturesByEngine, rescored
from recommend.stored_lists import HEAD_LENGTH, ListHead
from recommend.types import (
    ELSEWHERE,
    LIST,
    NO_MODE,
    NO_MODES,
    NO_PICKS,
    RECIPROCAL,
    SEARCH,
    Fallback,
    Modes,
    Picks,
    Slate,
    in_sorted,
)

# The head of a list, by space, candidate type, which of the lists, cluster, and the weight of its scores.
HeadOf = Callable[[str, str, ListQuery, int, float], ListHead]

# Candidates of a stored list that are read beyond a mode's share: about as many as a user follows of one cluster.
LIST_MARGIN = 24
# Of more followers of a user only the most popular ones get the bonus of following back; of more that the user has by
# other relations, those that gain most.
MOST_WITH_BONUS = 4096


def slate_from_lists(plan: Plan, version: str, head_of: HeadOf) -> Slate | None:
    """Merge the stored lists of the plan's modes; None when exclusions leave them too short to fill the slate, or
    the cluster of a mode has no list."""
    if plan.lists is None:
        return None
    first, clusters = plan.lists.first, plan.modes.clusters
    if clusters.min() < first or clusters.max() >= first + len(plan.lists.rows):
        return None
    for stored in _stored_lists(plan, plan.lists, head_of):
        lists = _with_bonuses(plan, stored)
        unwanted = plan.exclusions.among([ranked.rows for ranked in lists])
        draws = draw(lists, plan.modes.shares.tolist(), plan.k, unwanted)
        # While no list was read past where it was cut, reading on down the lists would change nothing.
        if all(ranked.whole or not one.exhausted for ranked, one in zip(lists, draws, strict=True)):
            full = sum([len(one.rows) for one in draws]) == plan.k
            return _slate(plan, version, lists, draws, plan.fallback) if full else None
    return None


def slate_from_hits(plan: Plan, version: str, hits: Sequence[Hits], by_engine: FeaturesByEngine | None = None) -> Slate:
    """Merge the answers of the searcher, one for each of the plan's queries; for `by_engine` see
    `recommend.rescoring.inputs_of`."""
    lists = _with_bonuses(plan, [RankedList(one.rows.tolist(), one.scores.tolist(), SEARCH) for one in hits])
    if plan.strategy.rescoring is not None:
        lists = [rescored(plan, plan.strategy.rescoring, ranked, by_engine) for ranked in lists]
    fallback: Fallback | None = "deeper_search" if plan.lists is not None and plan.fallback is None else plan.fallback
    draws = draw(lists, plan.modes.shares.tolist() if len(plan.modes) else [1.0], plan.k)
    return _slate(plan, version, lists, draws, fallback, by_engine)


def popular_slate(plan: Plan, version: str) -> Slate:
    """The most popular eligible candidates."""
    return _slate(plan, version, [], [], plan.fallback)


def _slate(
    plan: Plan,
    version: str,
    lists: Sequence[RankedList],
    draws: Sequence[Draw],
    fallback: Fallback | None,
    by_engine: FeaturesByEngine | None = None,
) -> Slate:
    picks = interleaved(lists, draws, range(len(draws)) if len(plan.modes) else [NO_MODE] * len(draws))
    popular = _popular(plan, picks) if len(picks) < plan.k else NO_PICKS
    if len(popular):
        picks = picks.followed_by(popular)
        fallback = fallback if plan.strategy.merge == "popular" else "popular"
    k = plan.k
    if plan.variety is not None:
        k, picks = plan.variety.k, _varied(plan, plan.variety, picks)
        counts = tuple(picks.modes.count(mode) for mode in range(len(draws)))
    else:
        counts = tuple(len(one.rows) for one in draws)
    return Slate(
        space=plan.space,
        version=version,
        candidate_type=plan.candidate_type,
        relation=plan.relation.entry.name,
        strategy=plan.name,
        weights=plan.weights,
        picks=picks,
        modes=Modes(plan.modes.clusters, plan.modes.shares, counts) if len(plan.modes) else NO_MODES,
        exclusions=plan.exclusions,
        known=plan.profile.row is not None,
        fallback=fallback,
        short=len(picks) < k,
        reasons=reasons_of(plan, picks, by_engine) if plan.explain else (),
    )


def _varied(plan: Plan, variety: Variety, picks: Picks) -> Picks:
    """The answer, chosen from the plan's candidates."""
    rows = np.array(picks.rows, dtype=np.int64)
    vectors = plan.space.entities[plan.candidate_type].scored_embeddings(rows)
    assignment = plan.space.clusters.assignment.get(plan.candidate_type)
    clusters = None if assignment is None else assignment[rows].astype(np.int64)
    return diversified(picks, vectors, clusters, variety.k, variety.diversity, variety.max_per_cluster)


def _popular(plan: Plan, picks: Picks) -> Picks:
    """Popular candidates for the places that are left, none if everyone eligible is in the slate already."""
    eligible = plan.exclusions.left_of(len(plan.space.entities[plan.candidate_type]))
    missing = min(plan.k, eligible) - len(picks)
    return popular_picks(plan.relation, plan.exclusions, max(0, missing), frozenset(picks.rows))


def _stored_lists(plan: Plan, lists: CandidateLists, head_of: HeadOf) -> Iterator[list[RankedList]]:
    """The modes' lists: first as much as should do, then the whole."""
    length = lists.rows.shape[1]
    reach = int(plan.k * float(plan.modes.shares[0])) + LIST_MARGIN
    if reach <= HEAD_LENGTH:
        yield _list_heads(plan, length, head_of)
    elif reach < length:
        yield _cut_lists(plan, lists, reach)
    yield _cut_lists(plan, lists, length)


def _list_heads(plan: Plan, length: int, head_of: HeadOf) -> list[RankedList]:
    space, query, weight = plan.space.name, list_query(plan.strategy), plan.weights.mode
    clusters = plan.modes.clusters.tolist()
    heads = [head_of(space, plan.candidate_type, query, cluster, weight) for cluster in clusters]
    return [
        RankedList(head.rows, head.scores, LIST, whole=len(head.rows) == length, encoded=head.encoded) for head in heads
    ]


def _cut_lists(plan: Plan, lists: CandidateLists, reach: int) -> list[RankedList]:
    clusters = plan.modes.clusters - lists.first
    rows, scores = lists.rows[clusters, :reach], lists.scores[clusters, :reach]
    whole = reach == lists.rows.shape[1]
    weighted = (np.float32(plan.weights.mode) * scores).tolist()
    return [RankedList(one, by_mode, LIST, whole=whole) for one, by_mode in zip(rows.tolist(), weighted, strict=True)]


def _with_bonuses(plan: Plan, lists: Sequence[RankedList]) -> Sequence[RankedList]:
    """Where following back counts, or what the user has by other relations, add these to every list and let the bonus
    reorder it."""
    followers, elsewhere = _followers(plan), _elsewhere(plan)
    if not len(followers) and not len(elsewhere):
        return lists
    rows = np.union1d(followers, elsewhere)
    bonus = plan.profile.elsewhere.bonus_of(rows, plan.weights)
    bonus[in_sorted(rows, followers)] += np.float32(plan.weights.reciprocity)
    scores = plan.space.entities[plan.candidate_type].scored[rows] @ plan.queries().T
    sources = dict.fromkeys(elsewhere.tolist(), ELSEWHERE) | dict.fromkeys(followers.tolist(), RECIPROCAL)
    return [
        _with_bonus(ranked, rows, scores[:, mode] + bonus, plan.reach)._replace(sources=sources)
        for mode, ranked in enumerate(lists)
    ]


def _followers(plan: Plan) -> Integer[npt.NDArray[np.integer], " n"]:
    """Eligible candidates that have an edge of the relation to the user, ascending; of very many the most popular."""
    if plan.weights.reciprocity <= 0:
        return NOBODY
    followers = plan.profile.followers(plan.relation)
    return _worth_most(plan, followers, np.zeros(len(followers), dtype=np.float32))


def _elsewhere(plan: Plan) -> Integer[npt.NDArray[np.integer], " n"]:
    """Eligible candidates that the user has by other relations and that gain by it, ascending; of very many those that
    gain most, among equals the most popular."""
    rows = plan.profile.elsewhere.rows
    bonus = plan.profile.elsewhere.bonus_of(rows, plan.weights)
    return _worth_most(plan, rows[bonus > 0], bonus[bonus > 0])


def _worth_most(
    plan: Plan, rows: Integer[npt.NDArray[np.integer], " n"], bonus: Float32[npt.NDArray[np.float32], " n"]
) -> Integer[npt.NDArray[np.integer], " kept"]:
    kept = plan.exclusions.keeps(rows)
    rows, bonus = rows[kept], bonus[kept]
    if len(rows) <= MOST_WITH_BONUS:
        return rows
    degrees = plan.relation.sources.indptr[rows + 1] - plan.relation.sources.indptr[rows]
    return np.sort(rows[np.lexsort((rows, -degrees, -bonus))[:MOST_WITH_BONUS]])


def _with_bonus(
    ranked: RankedList,
    added: Integer[npt.NDArray[np.integer], " added"],
    scores: Float32[npt.NDArray[np.float32], " added"],
    n: int,
) -> RankedList:
    """The best `n` of the list and of those `added`, ascending, together."""
    own = np.array(ranked.rows, dtype=np.int64)
    others = np.flatnonzero(~in_sorted(own, added))
    rows = np.concatenate([own[others], added])
    merged = np.concatenate([np.array(ranked.scores, dtype=np.float32)[others], scores])
    order = np.lexsort((rows, -merged))[:n]
    return ranked._replace(rows=rows[order].tolist(), scores=merged[order].tolist(), encoded=())
