"""The recommender: one loaded version, its searchers, and answers for one user or for thousands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import islice

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.csr import Csr
from bundle.errors import QueryError
from bundle.manifest import Neighbours, Strategy
from bundle.space import Bundle, Relation, Space
from engine import available
from index.search.protocol import Hits, Searcher
from recommend.compiled import Compiled, Features, Person, Pieces, Prepared, Question, Served, Sought
from recommend.elsewhere import DatedLists
from recommend.filters import FilterCache
from recommend.neighbours import of_neighbours
from recommend.plan import Plan, make_plan, plan_newcomer, plan_user
from recommend.profile import Profile
from recommend.protocol import Lists, Users
from recommend.rescoring import features_of
from recommend.slate import popular_slate, slate_from_hits, slate_from_lists
from recommend.stored_lists import HEADS_KEPT, Encode, read_head
from recommend.types import NO_LIVE_EDGES, LiveEdges, RecommendRequest, Slate, in_sorted

# No bound names: several are taken together.
Batch = Float32[npt.NDArray[np.float32], "_ width"]
Excluded = Integer[npt.NDArray[np.integer], " _"]
Rows = Integer[npt.NDArray[np.integer], " _"]

# Plans of an evaluation that are searched in one call.
PLANS_AT_ONCE = 256
# Plans with fewer exclusions than this are searched together, whatever the number: see `_together`.
EXCLUDED_STEP = 64
NO_OTHERS: Mapping[str, DatedLists] = {}


class Recommender:
    """Answers from one version. Keeps nothing of a request but what its filter came to; safe to share between threads.

    `searchers` are keyed by space and candidate type. `encode` makes of a stored candidate what the asker's answers
    show; without it slates have rows and scores alone. `pieces` are what stands around the parts of a candidate there:
    with them `ask` lets the engine answer, where there is one. Lists of rows it answers without them.
    """

    def __init__(
        self,
        bundle: Bundle,
        searchers: Mapping[tuple[str, str], Searcher],
        encode: Encode | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self.bundle = bundle
        self._pieces = pieces
        self._searchers = searchers
        if pieces:
            self._compiled  # noqa: B018 - made now, not when the first request waits for it
        self.filters = FilterCache()
        self._head_of = lru_cache(maxsize=HEADS_KEPT)(partial(read_head, bundle, encode))

    @cached_property
    def _compiled(self) -> Compiled | None:
        return Compiled(self.bundle, self._pieces, self._searchers) if available() else None

    def recommend(self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES) -> Slate:
        """The candidates for one user. Raises QueryError for a request that this version cannot answer."""
        plan = self.plan(request, live)
        return self.at_once(plan) or self.search([plan])[0]

    def ask(
        self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES, *, share: float | None = None
    ) -> Slate | Served | Plan | Question:
        """The answer, where no search is needed, else what to give to `answers`; a `Slate` where it is to be explained.

        With a `share` the engine's own searcher, which takes no longer than the rest, is asked at once, to this share
        of its depth. Raises QueryError for a request that this version cannot answer.
        """
        prepared = self.prepared(request, live, share=share)
        return self.asked(request, live, prepared, b"" if prepared is None else prepared.run())

    def prepared(
        self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES, *, share: float | None = None
    ) -> Prepared | None:
        """The first half of `ask`: the engine's call, where the engine covers the request."""
        if not self._pieces or self._compiled is None or request.explain or request.varied or request.unfollowers:
            return None
        return self._compiled.prepared(request, live, self.filters, share)

    def asked(
        self, request: RecommendRequest, live: LiveEdges, prepared: Prepared | None, reply: bytes
    ) -> Slate | Served | Plan | Question:
        """The second half of `ask`: what the engine's `reply` says, where there is one."""
        found = None
        if prepared is not None and self._compiled is not None:
            found = self._compiled.finished(prepared, reply)
        if found is not None:
            return found
        plan = self.plan(request, live)
        return self.at_once(plan) or plan

    def answers(self, asked: Sequence[Plan | Question]) -> list[Slate | Served]:
        """The answers to what `ask` left to be searched, in order."""
        slates = iter(self.search([one for one in asked if isinstance(one, Plan)]))
        served = iter(self._answer_questions([one for one in asked if isinstance(one, Question)]))
        return [next(slates) if isinstance(one, Plan) else next(served) for one in asked]

    def for_users(self, users: Users, strategy: Strategy | str, k: int, *, relation: str) -> Lists:
        """See `RowRecommender`: rows of the version's first space. The path of `recommend`, searched in batches."""
        space = self.bundle.space()
        chosen, people = space.relation(relation), users.tolist()
        return self._lists(
            chosen,
            [Person(user) for user in people],
            strategy,
            k,
            lambda i: plan_user(space, chosen, people[i], strategy, k),
        )

    def for_newcomers(
        self,
        engagements: Csr,
        followers: Csr,
        strategy: Strategy | str,
        k: int,
        *,
        relation: str,
        others: Mapping[str, DatedLists] = NO_OTHERS,
    ) -> Lists:
        """See `RowRecommender`: rows of the version's first space.

        Row i of `others` is what person i engaged with by other relations, each by its name.
        """
        space = self.bundle.space()
        chosen = space.relation(relation)
        also = [{name: rows.row(i) for name, rows in others.items()} for i in range(len(engagements))]
        people = [Person(-1, engagements.row(i), followers.row(i), also[i]) for i in range(len(engagements))]

        def plan(i: int) -> Plan:
            return plan_newcomer(space, chosen, engagements.row(i), followers.row(i), strategy, k, also[i])

        return self._lists(chosen, people, strategy, k, plan)

    def features(self, relation: Relation, profile: Profile, candidates: Rows) -> Features:
        """See `recommend.rescoring.features_of`: of the version's first space, by the engine where there is one."""
        space = self.bundle.space()
        if self._compiled is None:
            return features_of(space, relation, profile, candidates)
        return self._compiled.features(space, relation, profile, candidates)

    def of_neighbours(self, relation: Relation, profile: Profile, wanted: Neighbours) -> Rows:
        """What the likest users have and the one of `profile` has not, in the version's first space: see
        `recommend.neighbours.of_neighbours`."""
        space = self.bundle.space()
        if self._compiled is not None:
            return self._compiled.of_neighbours(space, relation, profile, wanted)
        known = profile.targets
        if relation.entry.source == relation.entry.target and profile.row is not None:
            known = np.union1d(known, profile.row)
        return of_neighbours(space, relation, profile, wanted, lambda rows: ~in_sorted(rows, known))

    def with_space(self, space: Space) -> "Recommender":
        """A recommender over the same searchers and `space` instead of the version's own of that name."""
        spaces = {**self.bundle.spaces, space.name: space}
        return Recommender(replace(self.bundle, spaces=spaces), self._searchers)

    def starting_with(self, name: str) -> "Recommender":
        """A recommender over the same searchers, of which the space called `name` is the first. Raises QueryError."""
        spaces = {name: self.bundle.space(name), **self.bundle.spaces}
        return Recommender(replace(self.bundle, spaces=spaces), self._searchers)

    def plan(self, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES) -> Plan:
        """What will be looked for; cheap. Raises QueryError, so that `search` need not."""
        plan = make_plan(self.bundle.space(request.space), request, live, self.filters)
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
        queries = [plan.queries() for plan in plans]
        excluded = [plan.exclusions.rows() for plan in plans]
        found = self._hits(plans, queries, excluded)
        by_engine = None if self._compiled is None else self._compiled.features
        return [
            slate_from_hits(plan, self.bundle.version, hits, by_engine) for plan, hits in zip(plans, found, strict=True)
        ]

    def _answer_questions(self, asked: Sequence[Question]) -> list[Slate | Served]:
        if not asked or self._compiled is None:
            return []
        found = self._hits(asked, [one.queries for one in asked], [one.excluded for one in asked])
        answers = [self._compiled.answer(one, hits) for one, hits in zip(asked, found, strict=True)]
        return [
            self.search([self.plan(one.request, one.live)])[0] if answer is None else answer
            for one, answer in zip(asked, answers, strict=True)
        ]

    def searcher(self, space: str, candidate_type: str) -> Searcher:
        """The searcher over one type. Raises QueryError when the version has no index for it."""
        try:
            return self._searchers[space, candidate_type]
        except KeyError:
            known = ", ".join(sorted(name for owner, name in self._searchers if owner == space))
            raise QueryError(f"this version has no index of that type in this space; it has: {known}") from None

    def _hits(
        self, asked: Sequence[Plan | Sought], queries: Sequence[Batch], excluded: Sequence[Excluded]
    ) -> list[list[Hits]]:
        """What is found for each of the queries of each plan."""
        found: list[list[Hits]] = [[] for _ in asked]
        for group in _together(asked, excluded):
            first = asked[group[0]]
            each = [excluded[position] for position in group for _ in queries[position]]
            hits = iter(
                self.searcher(first.space.name, first.candidate_type).search(
                    np.concatenate([queries[position] for position in group]),
                    first.reach,
                    depth=first.depth,
                    exclude=each,
                    eligible=first.eligible,
                )
            )
            for position in group:
                found[position] = list(islice(hits, len(queries[position])))
        return found

    def _lists(
        self,
        relation: Relation,
        people: Sequence[Person],
        strategy: Strategy | str,
        k: int,
        plan: Callable[[int], Plan],
    ) -> Lists:
        """The rows of each person's answer: by the engine, where it covers them, or by the plan for each."""
        if self._compiled is None or k < 1 or not people:
            return self._planned(map(plan, range(len(people))))
        space = self.bundle.space()
        by = self._compiled.chosen(space, relation, strategy, known=people[0].row >= 0)
        rows: list[Rows | None] = []
        for start in range(0, len(people), PLANS_AT_ONCE):
            some = people[start : start + PLANS_AT_ONCE]
            asked = [self._compiled.ask_rows(space, relation, person, by, k) for person in some]
            sought = [one for one in asked if isinstance(one, Sought)]
            hits = self._hits(sought, [one.queries for one in sought], [one.excluded for one in sought])
            found = map(self._compiled.answer_rows, sought, hits)
            rows += [next(found) if isinstance(one, Sought) else one for one in asked]
        others = iter(self._planned(plan(i) for i, one in enumerate(rows) if one is None))
        return [next(others) if one is None else one for one in rows]

    def _planned(self, plans: Iterable[Plan]) -> Lists:
        """The rows of each plan's slate, in order; some hundred plans are searched together."""
        remaining, rows = iter(plans), []
        while batch := list(islice(remaining, PLANS_AT_ONCE)):
            at_once = [self.at_once(plan) for plan in batch]
            searched = iter(self.search([plan for plan, slate in zip(batch, at_once, strict=True) if slate is None]))
            rows += [(next(searched) if slate is None else slate).rows for slate in at_once]
        return rows


def _together(asked: Sequence[Plan | Sought], excluded: Sequence[Excluded]) -> list[list[int]]:
    """Positions of the plans that one call of one searcher can answer.

    A searcher looks as far for all queries of a call as the one with the most exclusions needs, so users with
    very many are searched apart from those with few.
    """
    groups: dict[tuple[str, str, int, int | None, int, int], list[int]] = {}
    for position, (plan, rows) in enumerate(zip(asked, excluded, strict=True)):
        step = (len(rows) // EXCLUDED_STEP).bit_length()
        key = (plan.space.name, plan.candidate_type, plan.reach, plan.depth, step, id(plan.eligible))
        groups.setdefault(key, []).append(position)
    return list(groups.values())
