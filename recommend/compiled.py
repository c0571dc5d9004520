"""Requests answered by the compiled engine: the two calls that make an answer, in JSON or as rows.

The functions of `plan`, `slate`, `merge` and `rescoring` are the judge of what comes out, and answer what is not
covered here: requests to be explained or varied, or of users who have lost followers since, types without an index,
answers that need more popular candidates than are stored, everything where there is no engine.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, Integer

import engine
from bundle.errors import QueryError
from bundle.manifest import Neighbours, Strategy
from bundle.space import Bundle, EntityTable, Relation, Space
from engine.native import Ids, Shape
from engine.native import Relation as RelationHandle
from engine.native import Space as SpaceHandle
from engine.native import Strategy as StrategyHandle
from index.search.eligible import Bitmap
from index.search.native import NativeSearcher
from index.search.protocol import Hits, Searcher
from recommend.ages import NO_TIME, live_times
from recommend.elsewhere import DatedRows
from recommend.filters import FilterCache
from recommend.handles import SpaceHandles
from recommend.plan import choose_relation, choose_strategy, modes_wanted
from recommend.profile import Profile, changed, known_rows
from recommend.types import Fallback, LiveEdges, RecommendRequest

# What the engine numbers, in its order: Fallback (plan.h), Outcome (answer.h).
FALLBACKS: tuple[Fallback | None, ...] = (None, "deeper_search", "fold_in", "user_vector", "popular")
ANSWERED, SEARCH = 0, 1
EXCLUDE_SEEN, CHANGED, AS_ROWS = 1, 2, 4
# What comes before a reply's content: see request.cpp.
HEAD = 12
# The user of more edges than this is answered on the search thread: counting the paths takes longer than handing over.
FEW_EDGES = 20_000
# Forms of requests that are remembered: more than clients have. What one is made of is theirs to say, so it is bounded.
FORMS_KEPT = 256

NO_QUERIES = np.empty((0, 0), dtype=np.float32)

Pieces = tuple[bytes, bytes, bytes, bytes]
Ranked = Int32[npt.NDArray[np.int32], " _"]
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "n features"]
NO_PIECES: Pieces = (b"", b"", b"", b"")
NO_OTHERS: Mapping[str, DatedRows] = {}


class Arguments(NamedTuple):
    """What both calls are told of a request."""

    space: SpaceHandle
    relation: RelationHandle
    strategy: StrategyHandle
    shape: Shape
    user: int
    k: int
    modes: int
    flags: int
    edges: npt.NDArray[np.int64] | None
    unwanted: npt.NDArray[np.int64] | None
    followers: npt.NDArray[np.int64] | None
    eligible: Bitmap | None


class Served(msgspec.Struct, frozen=True):
    """An answer as JSON: the candidates are an array; the rest is as in `Slate`."""

    version: str
    candidates: memoryview
    strategy: str
    known: bool
    fallback: Fallback | None
    short: bool
    searched: bool


class Sought(msgspec.Struct, frozen=True):
    """What has to be searched: a plan of the engine's. `arguments` ask it once more, when the searcher has answered."""

    space: Space
    candidate_type: str
    reach: int
    depth: int | None
    queries: Float32[npt.NDArray[np.float32], "q width"]
    excluded: Int32[npt.NDArray[np.int32], " n"]
    arguments: Arguments

    @property
    def eligible(self) -> Bitmap | None:
        """The rows that the version and the request's filter keep; None where these are all."""
        return self.arguments.eligible


class Question(Sought, frozen=True):
    """What a request needs to be searched."""

    request: RecommendRequest
    live: LiveEdges
    strategy: str
    known: bool


class Prepared(msgspec.Struct, frozen=True):
    """A request on its way to the engine: `run` is the call, and `finished` wants its reply."""

    run: Callable[[], bytes]
    searches: bool  # by the engine's own searcher, within the call; else it takes a few microseconds
    reduced: bool  # whether less deep than measured
    request: RecommendRequest
    live: LiveEdges
    space: Space
    candidate_type: str
    strategy: Strategy
    name: str
    queries: npt.NDArray[np.float32]
    arguments: Arguments


class Way(NamedTuple):
    """How a request is answered: a strategy by its name, its handle, how many interests it draws from, and whether
    that takes a search or stored lists have it.
    """

    name: str
    strategy: Strategy
    handle: StrategyHandle
    n_modes: int
    searches: bool


class Form(NamedTuple):
    """What many requests ask for alike: everything but of whom, how many, and what is ruled out."""

    space: Space
    relation: Relation
    table: EntityTable  # of the candidates
    searcher: NativeSearcher | None  # the engine's own
    opened: SpaceHandles
    handle: RelationHandle
    ids: Ids
    known: Way  # for users whom training knows
    new: Way  # for all others
    lists: tuple[memoryview, ...]  # where the lists end that an answer reads

    @property
    def within_one_type(self) -> bool:
        """Whether the relation is between entities of one type."""
        return self.relation.entry.source == self.relation.entry.target

    def edges_of(self, row: int) -> int:
        """The trained edges that an answer to the user of `row` reads; none for -1."""
        found = 0
        if row >= 0:
            for ends in self.lists:
                found += ends[row + 1] - ends[row]
        return found


class Chosen(NamedTuple):
    """A strategy and its handle."""

    strategy: Strategy
    handle: StrategyHandle


class Person(NamedTuple):
    """Who is recommended to: a row, or -1 and all that is known of somebody new: engagements, followers, and by name
    engagements of other relations.
    """

    row: int
    engagements: Int32[npt.NDArray[np.int32], " n"] | None = None
    followers: Int32[npt.NDArray[np.int32], " m"] | None = None
    others: Mapping[str, DatedRows] = NO_OTHERS


class Compiled:
    """A version as the engine sees it. Keeps nothing of a request but its form and the ids excluded last; safe between
    threads.

    `pieces` are what stands before a candidate's id, score and mode, and after it: without them `ask` is not for use.
    `searchers` are by space and type of the candidates.
    """

    def __init__(self, bundle: Bundle, pieces: Pieces | None, searchers: Mapping[tuple[str, str], Searcher]) -> None:
        """Raises EngineUnavailable."""
        self._native = engine.native()
        self._version, self._searchers, self._bundle = bundle.version, searchers, bundle
        self._spaces = {name: SpaceHandles(self._native, space) for name, space in bundle.spaces.items()}
        self._shape: Shape = self._native.shape(*(pieces or NO_PIECES))
        self._forms: dict[tuple[object, ...], Form] = {}
        # The ids that were excluded last, of which type, and their rows.
        self._last_excluded: tuple[tuple[str, ...], tuple[str, str], Int64[npt.NDArray[np.int64], " n"]] | None = None

    def prepared(
        self, request: RecommendRequest, live: LiveEdges, filters: FilterCache, share: float | None
    ) -> Prepared | None:
        """The call that answers, or tells what has to be searched; None where the engine does not cover it. Raises
        QueryError.

        With a `share` the engine's own searcher is asked within it, to this share of its depth.
        """
        form = self._form(request)
        if form is None or request.k < 1:
            return None
        if request.followers and not form.within_one_type:
            raise QueryError("followers fits a relation between entities of one type; this one has two")
        space, relation, table = form.space, form.relation, form.table
        user = self._row(form.ids, request.user)
        name, strategy, handle, n_modes, searches = form.known if user >= 0 else form.new
        edges, kept = live.merged(request.engagements), request.filter
        eligible = table.candidates if kept is None else filters.bitmap(space, relation, table, kept)
        flags, is_told = request.exclude_seen * EXCLUDE_SEEN, bool(edges)
        if is_told:
            flags += changed(space, relation, edges) * CHANGED
        arguments = Arguments(
            form.opened.handle,
            form.handle,
            handle,
            self._shape,
            user,
            request.k,
            n_modes,
            flags,
            _edge_rows(space, edges) if is_told else None,
            self._unwanted(space, relation, edges, request.exclude) if is_told or request.exclude else None,
            _known(space, relation.entry.source, request.followers) if request.followers else None,
            eligible,
        )
        queries, ours, reduced = NO_QUERIES, form.searcher, False
        if share is not None and ours is not None and self._is_quick(form, ours, user, n_modes, eligible):
            run = partial(self._native.answer, *arguments, ours.handle, *ours.effort(request.depth, share))
            reduced = share < 1.0 and not ours.exact
        else:
            queries = np.empty((max(1, n_modes), space.entry.width), dtype=np.float32)
            run, searches = partial(self._native.begin, *arguments, queries), False
        return Prepared(run, searches, reduced, request, live, space, table.name, strategy, name, queries, arguments)

    def _is_quick(self, form: Form, searcher: NativeSearcher, user: int, queries: int, eligible: Bitmap | None) -> bool:
        """Whether a search is soon done. Few that a filter keeps are better scored one by one, as `search` does."""
        if searcher.takes_long(max(1, queries)) or not (eligible is None or searcher.exact):
            return False
        return form.edges_of(user) <= FEW_EDGES

    def _form(self, request: RecommendRequest) -> Form | None:
        """What the request asks for; None where there is no searcher for it. Raises QueryError."""
        asked = (
            *(request.space, request.relation, request.user_type, request.candidate_type),
            *(request.strategy, request.modes),
        )
        form = self._forms.get(asked)
        if form is None:
            form = self._new_form(request)
            if form is not None:
                if len(self._forms) >= FORMS_KEPT:
                    self._forms.clear()
                self._forms[asked] = form
        return form

    def _new_form(self, request: RecommendRequest) -> Form | None:
        space = self._bundle.space(request.space)
        relation = choose_relation(space, request)
        entry = relation.entry
        searcher = self._searchers.get((space.name, entry.target))
        if searcher is None:
            return None
        opened = self._spaces[space.name]

        def way(row: int | None) -> Way:
            name, strategy = choose_strategy(space, relation, request.strategy, row)
            n_modes = modes_wanted(space, strategy, request.modes)
            searches = not (n_modes and strategy.precomputed)
            return Way(name, strategy, opened.strategy(name, strategy, entry), n_modes, searches)

        return Form(
            space,
            relation,
            space.entities[entry.target],
            searcher if isinstance(searcher, NativeSearcher) else None,
            opened,
            opened.relations[entry.name],
            opened.ids[entry.source],
            way(0),
            way(None),
            _lists_read(space, relation),
        )

    def finished(self, prepared: Prepared, reply: bytes) -> Served | Question | None:
        """The answer, or what has to be searched for it; None where the engine does not cover it."""
        user = prepared.arguments.user
        if reply[0] == ANSWERED:
            return self._served(reply, prepared.name, user)
        if reply[0] != SEARCH:
            return None
        sought = _sought(
            *(prepared.space, prepared.candidate_type, prepared.strategy, prepared.queries, prepared.arguments), reply
        )
        return Question(
            **sought,
            depth=prepared.request.depth,
            request=prepared.request,
            live=prepared.live,
            strategy=prepared.name,
            known=user >= 0,
        )

    def answer(self, question: Question, hits: Sequence[Hits]) -> Served | None:
        """The answer from what was found for each of the question's queries; None where that is not covered."""
        reply = self._finish(question, hits)
        return self._served(reply, question.strategy, 0 if question.known else -1) if reply[0] == ANSWERED else None

    def chosen(self, space: Space, relation: Relation, asked: Strategy | str, known: bool) -> Chosen:
        """The strategy that is meant, for people `known` to training or not. Raises QueryError."""
        name, strategy = choose_strategy(space, relation, asked, 0 if known else None)
        return Chosen(strategy, self._spaces[space.name].strategy(name, strategy, relation.entry))

    def ask_rows(self, space: Space, relation: Relation, person: Person, by: Chosen, k: int) -> Ranked | Sought | None:
        """The rows of the candidates of `recommend`, or what has to be searched; None where that is not covered."""
        entry, opened = relation.entry, self._spaces[space.name]
        new, n_modes = person.engagements is not None, modes_wanted(space, by.strategy)
        if new and n_modes and (person.others or space.entry.clusters.relation_weights.get(entry.name, 1.0) <= 0):
            return None  # interests are those of the relation asked for, whether it counts for them or not
        arguments = Arguments(
            opened.handle,
            opened.relations[entry.name],
            by.handle,
            self._shape,
            person.row,
            k,
            n_modes,
            EXCLUDE_SEEN | AS_ROWS | new * CHANGED,
            None if person.engagements is None else _added(space, relation, person.engagements, person.others),
            None,
            None if person.followers is None else person.followers.astype(np.int64),
            space.entities[entry.target].candidates,
        )
        queries = np.empty((max(1, arguments.modes), space.entry.width), dtype=np.float32)
        reply = self._native.begin(*arguments, queries)
        if reply[0] == SEARCH:
            return Sought(**_sought(space, entry.target, by.strategy, queries, arguments, reply), depth=None)
        return _rows(reply)

    def answer_rows(self, sought: Sought, hits: Sequence[Hits]) -> Ranked | None:
        """The rows, from what was found for each of the queries; None where that is not covered."""
        return _rows(self._finish(sought, hits))

    def features(self, space: Space, relation: Relation, profile: Profile, candidates: Rows) -> Features:
        """See `recommend.rescoring.features_of`."""
        return self._spaces[space.name].features(relation, profile, candidates)

    def of_neighbours(self, space: Space, relation: Relation, profile: Profile, wanted: Neighbours) -> Ranked:
        """See `Recommender.of_neighbours`."""
        return self._spaces[space.name].of_neighbours(relation, profile, wanted)

    def _finish(self, sought: Sought, hits: Sequence[Hits]) -> bytes:
        if len(hits) == 1:
            rows, scores = hits[0]
        else:
            rows, scores = np.concatenate([one.rows for one in hits]), np.concatenate([one.scores for one in hits])
        ends = np.cumsum([len(one.rows) for one in hits], dtype=np.int64)
        return self._native.finish(*sought.arguments, sought.queries, rows, scores, ends)

    def _served(self, reply: bytes, strategy: str, user: int) -> Served:
        return Served(
            self._version,
            memoryview(reply)[HEAD:],
            strategy,
            user >= 0,
            FALLBACKS[reply[1]],
            bool(reply[2]),
            bool(reply[3]),
        )

    def _unwanted(
        self, space: Space, relation: Relation, live: LiveEdges, exclude: tuple[str, ...]
    ) -> Int64[npt.NDArray[np.int64], " n"] | None:
        """Rows that the request or the user has ruled out."""
        target = relation.entry.target
        parts = [self._excluded(space, target, exclude)] if exclude else []
        if target in live.blocked:
            parts.append(live.rows("blocked", target, space.entities[target].ids))
        return np.concatenate(parts) if parts else None

    def _excluded(self, space: Space, entity_type: str, exclude: tuple[str, ...]) -> Int64[npt.NDArray[np.int64], " n"]:
        """The rows of the ids that a request excludes: looked up once for all users of a batch, who share the tuple."""
        last = self._last_excluded
        if last is not None and last[0] is exclude and last[1] == (space.name, entity_type):
            return last[2]
        handle = self._spaces[space.name].ids[entity_type]
        rows = np.fromiter((self._row(handle, one) for one in exclude), dtype=np.int64, count=len(exclude))
        rows = known_rows(rows)
        self._last_excluded = exclude, (space.name, entity_type), rows
        return rows

    def _row(self, ids: Ids, user: str | None) -> int:
        if user is None:
            return -1
        try:
            return self._native.find_id(ids, user.encode())
        except UnicodeEncodeError:  # a lone surrogate is no text, so nobody has it as an id
            return -1


def _sought(
    space: Space,
    candidate_type: str,
    strategy: Strategy,
    queries: npt.NDArray[np.float32],
    arguments: Arguments,
    reply: bytes,
) -> dict[str, Any]:
    """The fields of `Sought` but the depth."""
    pool = 0 if strategy.rescoring is None else strategy.rescoring.pool
    return {
        "space": space,
        "candidate_type": candidate_type,
        "reach": max(arguments.k, pool),
        "queries": queries[: int.from_bytes(reply[8:HEAD], "little")],
        "excluded": np.frombuffer(reply, dtype=np.int32, offset=HEAD),
        "arguments": arguments,
    }


def _rows(reply: bytes) -> Ranked | None:
    return np.frombuffer(reply, dtype=np.int32, offset=HEAD) if reply[0] == ANSWERED else None


def _added(
    space: Space, relation: Relation, targets: Rows, others: Mapping[str, DatedRows]
) -> Int64[npt.NDArray[np.int64], "n 4"]:
    """Edges to `targets`, and to `others`, as the engine is told of live ones; without a time as new as can be."""
    told = [(relation, targets, None), *((space.relations[name], *one) for name, one in others.items())]
    parts = []
    for one, rows, times in told:
        edges = np.ones((len(rows), 4), dtype=np.int64)
        edges[:, 0], edges[:, 2], edges[:, 3] = one.position, rows, NO_TIME if times is None else times
        parts.append(edges)
    return np.concatenate(parts)


def _edge_rows(space: Space, live: LiveEdges) -> Int64[npt.NDArray[np.int64], "n 4"]:
    """The live edges that this version knows both ends of: the relation's position, 1 added or 0 removed, the row, and
    when on the relation's clock, where the version counts by age.
    """
    parts = [np.empty((0, 4), dtype=np.int64)]
    for group, added in ((live.added, 1), (live.removed, 0)):
        for name in group:
            relation = space.relations.get(name)
            if relation is None:
                continue
            if added and relation.times is not None:
                rows, when = live_times(space, relation, live)
            else:
                rows = live.rows("added" if added else "removed", name, space.entities[relation.entry.target].ids)
                when = np.full_like(rows, NO_TIME)
            parts.append(
                np.column_stack([np.full_like(rows, relation.position), np.full_like(rows, added), rows, when])
            )
    return np.concatenate(parts)


def _lists_read(space: Space, relation: Relation) -> tuple[memoryview, ...]:
    """Of the edges by user that an answer reads the ends of their lists. Read so, they are Python's own integers at
    once: they are asked for at every request.
    """
    entry = relation.entry
    lists = [relation.targets]
    if entry.source == entry.target:
        lists.append(relation.sources)
    lists += [space.relations[name].targets for name in entry.elsewhere]
    return tuple([one.indptr.data for one in lists])


def _known(space: Space, entity_type: str, ids: tuple[str, ...]) -> Int64[npt.NDArray[np.int64], " n"]:
    return known_rows(space.entities[entity_type].ids.rows(ids))
