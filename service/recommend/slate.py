"""From a plan and what was found to a slate: filter, add those who follow the user, merge, fill up."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from bundle.space import CandidateLists
from index.search.protocol import Hits
from service.recommend.exclusions import in_sorted
from service.recommend.merge import Column, draw, interleave
from service.recommend.plan import Plan
from service.recommend.popular import popular_picks
from service.recommend.types import NO_MODES, Fallback, Pick, Slate

ALONE = np.ones(1, dtype=np.float32)
NOBODY = np.empty(0, dtype=np.int32)
LIST_MARGIN = 16
MAX_FOLLOWERS_SCORED = 4096


def slate_from_lists(plan: Plan, version: str) -> Slate | None:
    """Merge the stored lists of the plan's modes; None when exclusions leave them too short to fill the slate."""
    if plan.lists is None:
        return None
    length = plan.lists.rows.shape[1]
    for reach in sorted({min(length, 2 * plan.k + LIST_MARGIN), length}):
        columns = _with_followers(plan, _list_columns(plan, plan.lists, reach))
        # A column of k candidates cannot run dry, so reading further down the list would change nothing.
        if reach == length or min(len(column.rows) for column in columns) >= plan.k:
            drawn = draw(columns, plan.modes.shares, plan.k)
            return _slate(plan, version, drawn, plan.fallback) if sum(map(len, drawn)) == plan.k else None
    return None


def slate_from_hits(plan: Plan, version: str, hits: Sequence[Hits]) -> Slate:
    """Merge the answers of the searcher, one for each of the plan's queries."""
    columns = _with_followers(plan, [_column(found) for found in hits])
    fallback: Fallback | None = "deeper_search" if plan.lists is not None and plan.fallback is None else plan.fallback
    return _slate(plan, version, draw(columns, plan.modes.shares if len(plan.modes) else ALONE, plan.k), fallback)


def popular_slate(plan: Plan, version: str) -> Slate:
    """The most popular eligible candidates."""
    return _slate(plan, version, [], plan.fallback)


def _slate(plan: Plan, version: str, drawn: Sequence[Sequence[Pick]], fallback: Fallback | None) -> Slate:
    picks = interleave(drawn) if drawn else []
    missing = plan.k - len(picks)
    if missing:
        filled = _fill(plan, picks, missing)
        picks += filled
        if filled and plan.strategy.merge != "popular":
            fallback = "popular"
    modes = dataclasses.replace(plan.modes, budgets=tuple(map(len, drawn))) if len(plan.modes) else NO_MODES
    return Slate(
        space=plan.space,
        version=version,
        candidate_type=plan.candidate_type,
        relation=plan.relation.entry.name,
        strategy=plan.name,
        weights=plan.weights,
        picks=tuple(picks),
        modes=modes,
        excluded=len(plan.exclusions.rows()),
        fallback=fallback,
        short=len(picks) < plan.k,
    )


def _fill(plan: Plan, picks: Sequence[Pick], missing: int) -> list[Pick]:
    """Popular candidates for the places that are left, unless everyone eligible is in the slate already."""
    eligible = len(plan.space.entities[plan.candidate_type]) - len(plan.exclusions.rows())
    if len(picks) >= eligible:
        return []
    return popular_picks(plan.relation, plan.exclusions, missing, frozenset(pick.row for pick in picks))


def _list_columns(plan: Plan, lists: CandidateLists, reach: int) -> list[Column]:
    rows = lists.rows[plan.modes.clusters, :reach]
    kept = plan.exclusions.keeps(rows.ravel()).reshape(rows.shape)
    scores = lists.scores[plan.modes.clusters, :reach] * np.float32(plan.weights.mode)
    columns = []
    for mode in range(len(rows)):
        ranks = np.flatnonzero(kept[mode])
        columns.append(Column(rows[mode][ranks].tolist(), scores[mode][ranks].tolist(), ranks.tolist(), "list"))
    return columns


def _column(hits: Hits) -> Column:
    return Column(hits.rows.tolist(), hits.scores.tolist(), range(len(hits.rows)), "search")


def _with_followers(plan: Plan, columns: Sequence[Column]) -> Sequence[Column]:
    """Where following back counts, add the user's followers to every column and let the bonus reorder it."""
    followers = _followers(plan)
    if not len(followers) or plan.queries is None:
        return columns
    vectors = plan.space.entities[plan.candidate_type].vectors[followers]
    scores = vectors @ plan.queries.T
    return [
        _with_bonus(column, followers, scores[:, mode], plan.weights.reciprocity, plan.k)
        for mode, column in enumerate(columns)
    ]


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
    followers: Int32[npt.NDArray[np.int32], " n"],
    scores: Float32[npt.NDArray[np.float32], " n"],
    bonus: float,
    k: int,
) -> Column:
    """The best `k` of the column and the followers together, each follower's score raised by `bonus`."""
    rows = np.array(column.rows, dtype=np.int64)
    others = np.flatnonzero(~in_sorted(rows, followers))
    merged_rows = np.concatenate([rows[others], followers])
    own = np.array(column.scores, dtype=np.float32)[others]
    merged = np.concatenate([own, scores + np.float32(bonus)])
    order = np.lexsort((merged_rows, -merged))[:k]
    return Column(
        merged_rows[order].tolist(),
        merged[order].tolist(),
        range(len(order)),
        column.source,
        frozenset(followers.tolist()),
    )
