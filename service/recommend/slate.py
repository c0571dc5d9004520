"""From a plan and what was found to a slate: filter, add those who follow the user, merge, fill up."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from bundle.space import CandidateLists
from index.search.protocol import Hits
from service.recommend.closer import look_closer
from service.recommend.merge import Column, Drawn, draw, interleaved
from service.recommend.plan import Plan
from service.recommend.popular import popular_picks
from service.recommend.types import LIST, NO_MODES, RECIPROCAL, SEARCH, Fallback, Picks, Slate, in_sorted

ALONE = np.ones(1, dtype=np.float32)
NOBODY = np.empty(0, dtype=np.int32)
LIST_MARGIN = 48
MAX_FOLLOWERS_SCORED = 4096


def slate_from_lists(plan: Plan, version: str) -> Slate | None:
    """Merge the stored lists of the plan's modes; None when exclusions leave them too short to fill the slate."""
    if plan.lists is None:
        return None
    length = plan.lists.rows.shape[1]
    for reach in sorted({min(length, plan.k + LIST_MARGIN), length}):
        columns = _with_followers(plan, _list_columns(plan, plan.lists, reach))
        drawn = draw(columns, plan.modes.shares, plan.k)
        # While no column was read past where it was cut, reading on down the lists would change nothing.
        if all(column.whole or not one.exhausted for column, one in zip(columns, drawn, strict=True)):
            full = sum(len(one.positions) for one in drawn) == plan.k
            return _slate(plan, version, columns, drawn, plan.fallback) if full else None
    return None


def slate_from_hits(plan: Plan, version: str, hits: Sequence[Hits]) -> Slate:
    """Merge the answers of the searcher, one for each of the plan's queries."""
    columns = _with_followers(plan, [_hit_column(found) for found in hits])
    if plan.strategy.rescoring is not None:
        columns = [look_closer(plan, plan.strategy.rescoring, column) for column in columns]
    fallback: Fallback | None = "deeper_search" if plan.lists is not None and plan.fallback is None else plan.fallback
    drawn = draw(columns, plan.modes.shares if len(plan.modes) else ALONE, plan.k)
    return _slate(plan, version, columns, drawn, fallback)


def popular_slate(plan: Plan, version: str) -> Slate:
    """The most popular eligible candidates."""
    return _slate(plan, version, [], [], plan.fallback)


def _slate(
    plan: Plan, version: str, columns: Sequence[Column], drawn: Sequence[Drawn], fallback: Fallback | None
) -> Slate:
    picks = _picked(plan, columns, drawn)
    filled = None
    if len(picks) < plan.k:
        filled = _fill(plan, picks)
        picks = _joined(picks, filled)
    if filled and plan.strategy.merge != "popular":
        fallback = "popular"
    counts = tuple(len(one.positions) for one in drawn)
    return Slate(
        space=plan.space,
        version=version,
        candidate_type=plan.candidate_type,
        relation=plan.relation.entry.name,
        strategy=plan.name,
        weights=plan.weights,
        picks=picks,
        modes=dataclasses.replace(plan.modes, budgets=counts) if len(plan.modes) else NO_MODES,
        exclusions=plan.exclusions,
        fallback=fallback,
        short=len(picks) < plan.k,
    )


def _picked(plan: Plan, columns: Sequence[Column], drawn: Sequence[Drawn]) -> Picks:
    """What was drawn, the modes alternating."""
    if not drawn:
        return popular_picks(plan.relation, plan.exclusions, 0)
    counts = [len(one.positions) for one in drawn]
    order = interleaved(counts)
    parts = [(column, one.positions) for column, one in zip(columns, drawn, strict=True)]
    modes = np.repeat(np.arange(len(counts)) if len(plan.modes) else np.array([-1]), counts)
    return Picks(
        np.concatenate([column.rows[positions] for column, positions in parts])[order],
        np.concatenate([column.scores[positions] for column, positions in parts])[order],
        modes[order],
        np.concatenate([column.ranks[positions] for column, positions in parts])[order],
        np.concatenate([column.sources[positions] for column, positions in parts])[order],
    )


def _fill(plan: Plan, picks: Picks) -> Picks:
    """Popular candidates for the places that are left, unless everyone eligible is in the slate already."""
    eligible = len(plan.space.entities[plan.candidate_type]) - plan.exclusions.count()
    missing = min(plan.k, eligible) - len(picks)
    return popular_picks(plan.relation, plan.exclusions, max(0, missing), frozenset(picks.rows.tolist()))


def _joined(one: Picks, two: Picks) -> Picks:
    return Picks(
        np.concatenate([one.rows, two.rows]),
        np.concatenate([one.scores, two.scores]),
        np.concatenate([one.modes, two.modes]),
        np.concatenate([one.ranks, two.ranks]),
        np.concatenate([one.sources, two.sources]),
    )


def _list_columns(plan: Plan, lists: CandidateLists, reach: int) -> list[Column]:
    clusters, whole = plan.modes.clusters, reach == lists.rows.shape[1]
    rows = lists.rows[clusters, :reach].astype(np.int64)
    kept = plan.exclusions.keeps(rows.ravel()).reshape(rows.shape)
    scores = lists.scores[clusters, :reach] * np.float32(plan.weights.mode)
    sources = np.full(reach, LIST, dtype=np.uint8)
    ranks = [np.flatnonzero(kept[mode]) for mode in range(len(rows))]
    return [Column(rows[mode][at], scores[mode][at], at, sources[: len(at)], whole) for mode, at in enumerate(ranks)]


def _hit_column(hits: Hits) -> Column:
    count = len(hits.rows)
    return Column(hits.rows.astype(np.int64), hits.scores, np.arange(count), np.full(count, SEARCH, dtype=np.uint8))


def _with_followers(plan: Plan, columns: Sequence[Column]) -> Sequence[Column]:
    """Where following back counts, add the user's followers to every column and let the bonus reorder it."""
    followers = _followers(plan)
    if not len(followers):
        return columns
    scores = plan.space.entities[plan.candidate_type].vectors[followers] @ plan.queries().T
    bonus = np.float32(plan.weights.reciprocity)
    return [_with_bonus(column, followers, scores[:, mode] + bonus, plan.reach) for mode, column in enumerate(columns)]


def _followers(plan: Plan) -> Int32[npt.NDArray[np.int32], " n"]:
    """Eligible candidates that have an edge of the relation to the user, ascending; of very many the most popular."""
    entry, row = plan.relation.entry, plan.profile.row
    if plan.weights.reciprocity <= 0 or row is None or entry.source != entry.target:
        return NOBODY
    followers = plan.relation.sources.row(row)
    followers = followers[plan.exclusions.keeps(followers)]
    if len(followers) <= MAX_FOLLOWERS_SCORED:
        return followers
    degrees = np.diff(plan.relation.sources.indptr)[followers]
    return np.sort(followers[np.argsort(-degrees, kind="stable")[:MAX_FOLLOWERS_SCORED]])


def _with_bonus(
    column: Column,
    followers: Int32[npt.NDArray[np.int32], " followers"],
    scores: Float32[npt.NDArray[np.float32], " followers"],
    n: int,
) -> Column:
    """The best `n` of the column and the followers together."""
    others = np.flatnonzero(~in_sorted(column.rows, followers))
    rows = np.concatenate([column.rows[others], followers])
    merged = np.concatenate([column.scores[others], scores])
    sources = np.concatenate([column.sources[others], np.full(len(followers), RECIPROCAL, dtype=np.uint8)])
    order = np.lexsort((rows, -merged))[:n]
    return Column(rows[order], merged[order], np.arange(len(order)), sources[order], column.whole)
