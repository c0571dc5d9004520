"""The recommender: one loaded version, its searchers, and answers for one user or for thousands."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice

import numpy as np

from bundle.csr import Csr
from bundle.errors import QueryError
from bundle.manifest import Strategy
from bundle.space import Bundle, Space
from index.search.protocol import Hits, Searcher
from recommend.plan import Plan, make_plan, plan_newcomer, plan_user
from recommend.protocol import Lists, Users
from recommend.slate import popular_slate, slate_from_hits, slate_from_lists
from recommend.stored_lists import HEADS_KEPT, Encode, read_head
from recommend.types import NO_LIVE_EDGES, LiveEdges, RecommendRequest, Slate

# Plans of an evaluation that are searched in one call.
PLANS_AT_ONCE = 256
# Plans with fewer exclusions than this are searched together, whatever the number: see `_together`.
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

    def for_users(self, users: Users, strategy: Strategy | str, k: int, *, relation: str) -> Lists:
        """See `RowRecommender`: rows of the version's first space. The path of `recommend`, searched in batches."""
        space = self.bundle.space()
        chosen = space.relation(relation)
        return self._rows(plan_user(space, chosen, user, strategy, k) for user in users.tolist())

    def for_newcomers(
        self, engagements: Csr, followers: Csr, strategy: Strategy | str, k: int, *, relation: str
    ) -> Lists:
        """See `RowRecommender`: rows of the version's first space."""
        space = self.bundle.space()
        chosen = space.relation(relation)
        return self._rows(
            plan_newcomer(space, chosen, engagements.row(i), followers.row(i), strategy, k)
            for i in range(len(engagements))
        )

    def with_space(self, space: Space) -> "Recommender":
        """A recommender over the same searchers and `space` instead of the version's own of that name."""
        spaces = {**self.bundle.spaces, space.name: space}
        return Recommender(replace(self.bundle, spaces=spaces), self._searchers)

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

    def searcher(self, space: str, candidate_type: str) -> Searcher:
        """The searcher over one type. Raises QueryError when the version has no index for it."""
        try:
            return self._searchers[space, candidate_type]
        except KeyError:
            known = ", ".join(sorted(name for owner, name in self._searchers if owner == space))
            raise QueryError(f"this version has no index of that type in this space; it has: {known}") from None

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

    def _rows(self, plans: Iterable[Plan]) -> Lists:
        """The rows of each plan's slate, in order; some hundred plans are searched together."""
        remaining, rows = iter(plans), []
        while batch := list(islice(remaining, PLANS_AT_ONCE)):
            at_once = [self.at_once(plan) for plan in batch]
            searched = iter(self.search([plan for plan, slate in zip(batch, at_once, strict=True) if slate is None]))
            rows += [(next(searched) if slate is None else slate).rows for slate in at_once]
        return rows


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
