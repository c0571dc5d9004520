"""The recommender: one loaded version, its searchers, and answers for one user or for thousands."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer

from bundle.csr import Csr
from bundle.errors import QueryError
from bundle.manifest import Strategy
from bundle.space import Bundle, Relation, Space
from index.search.protocol import Hits, Searcher
from recommend.plan import Plan, choose_relation, make_plan, modes_wanted, plan_for
from recommend.profile import NO_ROWS, profile_of_newcomer, profile_of_row
from recommend.slate import popular_slate, slate_from_hits, slate_from_lists
from recommend.stored_lists import HEADS_KEPT, Encode, read_head
from recommend.types import NO_LIVE_EDGES, Exclusions, LiveEdges, RecommendRequest, Slate

ROWS_AT_ONCE = 256
EVALUATED = "evaluated"  # the name of a strategy that has none yet
EXCLUDED_STEP = 64


class Recommender:
    """Answers from one version. Keeps nothing of a request; safe to share between threads.

    `searchers` are keyed by space and candidate type. `encode` makes of a stored candidate what the asker's answers
    show; without it slates have rows and scores alone.
    """

    def __init__(
        self, bundle: Bundle, searchers: Mapping[tuple[str, str], Searcher], encode: Encode | None = None
    ) -> None:
        self.bundle = bundle
        self._searchers = searchers
        self._head_of = lru_cache(maxsize=HEADS_KEPT)(partial(read_head, bundle, encode))

    def recommend(self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES) -> Slate:
        """The candidates for one user. Raises QueryError for a request that this version cannot answer."""
        plan = self.plan(request, live)
        return self.at_once(plan) or self.search([plan])[0]

    def plan(self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES) -> Plan:
        """What will be looked for; cheap. Raises QueryError, so that `search` need not."""
        plan = make_plan(self.bundle.space(request.space), request, live)
        if not plan.popular:
            self.searcher(plan.space.name, plan.candidate_type)
        return plan

    def at_once(self, plan: Plan) -> Slate | None:
        """The answer, where no search is needed: popularity, or the merge of stored lists; else None."""
        if plan.popular:
            return popular_slate(plan, self.bundle.version)
        return slate_from_lists(plan, self.bundle.version, self._head_of)

    def search(self, plans: Sequence[Plan]) -> list[Slate]:
        """The answers to several plans, with one call of a searcher for all that it can take together."""
        slates: list[Slate | None] = [None] * len(plans)
        for positions in _together(plans):
            group = [plans[position] for position in positions]
            for position, slate in zip(positions, self._search_group(group), strict=True):
                slates[position] = slate
        return [slate for slate in slates if slate is not None]

    def _search_group(self, plans: Sequence[Plan]) -> Iterator[Slate]:
        first = plans[0]
        searcher = self.searcher(first.space.name, first.candidate_type)
        queries = [plan.queries() for plan in plans]
        excluded = [plan.exclusions.rows() for plan in plans]
        each = [rows for rows, asked in zip(excluded, queries, strict=True) for _ in asked]
        hits: list[Hits] = searcher.search(np.concatenate(queries), first.reach, depth=first.depth, exclude=each)
        start = 0
        for plan, asked in zip(plans, queries, strict=True):
            stop = start + len(asked)
            yield slate_from_hits(plan, self.bundle.version, hits[start:stop])
            start = stop

    def searcher(self, space: str, candidate_type: str) -> Searcher:
        """The searcher over one type. Raises QueryError when the version has no index for it."""
        try:
            return self._searchers[space, candidate_type]
        except KeyError:
            known = ", ".join(sorted(name for owner, name in self._searchers if owner == space))
            raise QueryError(f"this version has no index of that type in this space; it has: {known}") from None

    def recommend_rows(
        self,
        user_rows: Integer[npt.NDArray[np.integer], " users"],
        strategy: Strategy,
        k: int,
        *,
        space: str | None = None,
        relation: str | None = None,
        exclude_seen: bool = True,
        depth: int | None = None,
    ) -> Iterator[Slate]:
        """Slates for many users of this version by row, in order: the path of `recommend`, searched in batches."""
        chosen = self.bundle.space(space)
        edge = choose_relation(chosen, RecommendRequest(relation=relation))
        for start in range(0, len(user_rows), ROWS_AT_ONCE):
            rows = user_rows[start : start + ROWS_AT_ONCE].tolist()
            yield from self._answer([_plan_row(chosen, edge, row, strategy, k, exclude_seen, depth) for row in rows])

    def recommend_newcomers(
        self,
        engagements: Csr,
        followers: Csr,
        strategy: Strategy,
        k: int,
        *,
        space: str | None = None,
        relation: str | None = None,
    ) -> Iterator[Slate]:
        """Slates for people whom this version does not know, in order: rows i of `engagements` and of `followers`
        are all that is known of one.
        """
        chosen = self.bundle.space(space)
        edge = choose_relation(chosen, RecommendRequest(relation=relation))
        for start in range(0, len(engagements), ROWS_AT_ONCE):
            plans = []
            for i in range(start, min(start + ROWS_AT_ONCE, len(engagements))):
                targets, known = engagements.row(i).astype(np.int64), followers.row(i).astype(np.int64)
                profile = profile_of_newcomer(chosen, edge, targets, known, modes_wanted(chosen, strategy, None))
                plans.append(plan_for(chosen, edge, profile, Exclusions(targets, ()), EVALUATED, strategy, k, None))
            yield from self._answer(plans)

    def _answer(self, plans: Sequence[Plan]) -> Iterator[Slate]:
        at_once = [self.at_once(plan) for plan in plans]
        searched = iter(self.search([plan for plan, slate in zip(plans, at_once, strict=True) if slate is None]))
        return (slate if slate is not None else next(searched) for slate in at_once)


def _plan_row(
    space: Space, relation: Relation, row: int, strategy: Strategy, k: int, exclude_seen: bool, depth: int | None
) -> Plan:
    n_modes = modes_wanted(space, strategy, None)
    profile = profile_of_row(space, relation, row, NO_LIVE_EDGES, n_modes)
    own = (row,) if relation.entry.source == relation.entry.target else ()
    seen = profile.targets if exclude_seen else NO_ROWS
    return plan_for(space, relation, profile, Exclusions(seen, own), EVALUATED, strategy, k, depth)


def _together(plans: Sequence[Plan]) -> list[list[int]]:
    """Positions of the plans that one call of one searcher can answer.

    A searcher looks as far for all queries of a call as the one with the most exclusions needs, so users with
    very many are searched apart from those with few.
    """
    groups: dict[tuple[str, str, int, int | None, int], list[int]] = {}
    for position, plan in enumerate(plans):
        excluded = (len(plan.exclusions.seen) + len(plan.exclusions.others)) // EXCLUDED_STEP
        key = (plan.space.name, plan.candidate_type, plan.reach, plan.depth, excluded.bit_length())
        groups.setdefault(key, []).append(position)
    return list(groups.values())
