"""What is asked and what is answered: requests in the client's ids, slates in rows.

What every request makes anew is a `msgspec.Struct`: a frozen dataclass takes five times as long to make.
"""

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias
from weakref import ref

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from bundle.ids import ABSENT, IdTable
from bundle.manifest import QueryWeights
from bundle.space import Space
from index.search.eligible import Bitmap, count_of, has
from recommend.filters import Filter

Rows: TypeAlias = Int64[npt.NDArray[np.int64], " n"]

Effect: TypeAlias = Literal["added", "removed", "blocked"]

AUTO = "auto"
NO_MODE = -1
# Up to FEW rows are compared one by one, which is faster than a set; from MANY on a look-up is worth remembering.
FEW, MANY = 8, 256

# How far down the ladder an answer had to go: the deepest rung that was used.
Fallback = Literal["deeper_search", "fold_in", "user_vector", "popular"]
# What speaks for a candidate: recommend/reasons.py.
ReasonKind = Literal["near", "followed_by", "follows_you", "elsewhere", "near_followers", "taste", "popular"]
# Where a candidate comes from; a slate holds positions in this tuple.
SOURCES = ("list", "search", "reciprocal", "elsewhere", "popular")
LIST, SEARCH, RECIPROCAL, ELSEWHERE, POPULAR = range(5)


@dataclass(frozen=True, slots=True)
class LiveEdges:
    """A user's edges that are newer than the bundle, in external ids, so that any version can read them.

    `added` and `removed` map a relation to target ids; `blocked` maps an entity type to ids. `times` says when what was
    `added` was, in step: seconds since 1970, inf for now. Of a relation that it does not have all are of now.
    """

    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blocked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict, compare=False)
    _rows: dict[tuple[Effect, str], tuple["ref[IdTable]", Rows]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _parts: dict[tuple[Effect, str], tuple["ref[IdTable]", list[Rows]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.blocked)

    def rows(self, effect: Effect, name: str, ids: IdTable) -> Rows:
        """The rows of what was added, removed or blocked under `name`, less those that `ids` has not.

        Where they are many they are found once: a store keeps the edges of such a user between requests. Another
        version's ids are looked up anew, and the weak reference lets go of the version before.
        """
        found = self.row_of_each(effect, name, ids)
        return np.compress(found != ABSENT, found)

    def row_of_each(self, effect: Effect, name: str, ids: IdTable) -> Rows:
        """The same, and `ABSENT` for those that `ids` has not."""
        kept = self._rows.get((effect, name))
        if kept is not None and kept[0]() is ids:
            return kept[1]
        externals = self._of(effect, name)
        rows = ids.rows(externals)
        if len(externals) >= MANY:
            self._rows[effect, name] = ref(ids), rows
        return rows

    def look_up(self, effect: Effect, name: str, ids: IdTable) -> Generator[None, None, None]:
        """Find the rows of many in steps, between which others may have their turn, so that they are there when they
        are asked for. Who does so meanwhile takes steps of the same work.
        """
        externals, kept = self._of(effect, name), self._rows.get((effect, name))
        if len(externals) < MANY or (kept is not None and kept[0]() is ids):
            return
        parts = self._parts.get((effect, name))
        if parts is None or parts[0]() is not ids:
            parts = self._parts[effect, name] = ref(ids), []
        found = parts[1]
        while (start := MANY * len(found)) < len(externals):
            found.append(ids.rows(externals[start : start + MANY]))
            yield
        self._rows[effect, name] = ref(ids), np.concatenate(found)
        self._parts.pop((effect, name), None)

    def _of(self, effect: Effect, name: str) -> tuple[str, ...]:
        externals: tuple[str, ...] = getattr(self, effect).get(name, ())
        return externals

    def times_of(self, name: str) -> tuple[float, ...]:
        """When each of what was added under a relation was."""
        return self.times.get(name) or (math.inf,) * len(self.added.get(name, ()))

    def merged(self, other: "LiveEdges") -> "LiveEdges":
        """Both sets of edges together; rows that were found of these are there of both."""
        if not other:
            return self
        if not self:
            return other
        both = LiveEdges(
            _joined(self.added, other.added),
            _joined(self.removed, other.removed),
            _joined(self.blocked, other.blocked),
            {name: self.times_of(name) + other.times_of(name) for name in {**self.times, **other.times}},
        )
        for (effect, name), (known, rows) in list(self._rows.items()):
            ids = known()
            if ids is not None:
                both._rows[effect, name] = known, np.concatenate([rows, ids.rows(other._of(effect, name))])
        return both


NO_LIVE_EDGES = LiveEdges()


def _joined(one: Mapping[str, tuple[str, ...]], two: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    if not one or not two:
        return one or two
    return {name: one.get(name, ()) + two.get(name, ()) for name in {**one, **two}}


class RecommendRequest(msgspec.Struct, frozen=True):
    """One question. `None` takes the bundle's default; `strategy` may be "auto".

    `engagements` are edges of this request alone: they represent a user nobody has seen, or add to one who is known.
    `followers` have an edge of the relation to the user, besides those that training knows, `unfollowers` have it no
    more. `depth` overrides how far the searcher looks. `filter` says which candidates are allowed. `explain` asks for
    reasons, `diversity` (0 to 1) and `max_per_cluster` for an answer that repeats itself less.
    """

    user: str | None = None
    engagements: LiveEdges = NO_LIVE_EDGES
    k: int = 20
    space: str | None = None
    user_type: str | None = None
    candidate_type: str | None = None
    relation: str | None = None
    strategy: str = AUTO
    modes: int | None = None
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = True
    depth: int | None = None
    followers: tuple[str, ...] = ()
    unfollowers: tuple[str, ...] = ()
    filter: Filter | None = None
    explain: bool = False
    diversity: float = 0.0
    max_per_cluster: int | None = None

    @property
    def varied(self) -> bool:
        """Whether the answer is to be chosen from more candidates than it has."""
        return self.diversity != 0 or self.max_per_cluster is not None


class Picks(msgspec.Struct, frozen=True):
    """The candidates of a slate, in step: rows, scores, the mode that chose each (position, or `NO_MODE`), its rank
    in that mode's list, and where it comes from (position in `SOURCES`). `encoded` is each as an answer shows it, where
    that is at hand, else nothing.
    """

    rows: tuple[int, ...]
    scores: tuple[float, ...]
    modes: tuple[int, ...]
    ranks: tuple[int, ...]
    sources: tuple[int, ...]
    encoded: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator["Pick"]:
        sources = [SOURCES[source] for source in self.sources]
        return map(Pick, self.rows, self.scores, self.modes, self.ranks, sources)

    def followed_by(self, others: "Picks") -> "Picks":
        """These candidates, then `others`."""
        return Picks(
            self.rows + others.rows,
            self.scores + others.scores,
            self.modes + others.modes,
            self.ranks + others.ranks,
            self.sources + others.sources,
        )


NO_PICKS = Picks((), (), (), (), ())


class Pick(NamedTuple):
    """One candidate of a slate; see `Picks`."""

    row: int
    score: float
    mode: int
    rank: int
    source: str


class Modes(msgspec.Struct, frozen=True):
    """The interests a slate was drawn from, heaviest first: clusters, their shares of the slate, their budgets."""

    clusters: Int32[npt.NDArray[np.int32], " modes"]
    shares: Float32[npt.NDArray[np.float32], " modes"]
    budgets: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.clusters)


NO_MODES = Modes(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))


class Exclusions(msgspec.Struct, frozen=True):
    """Rows that must not be in the answer: `seen` ascending (often a long mapped row), `others` a few more, and where
    not all rows are candidates, or the request has a filter, all that the bitmap does not keep.
    """

    seen: Int64[npt.NDArray[np.int64], " seen"]
    others: tuple[int, ...]
    eligible: Bitmap | None = None

    def keeps(self, rows: Integer[npt.NDArray[np.integer], " n"]) -> Bool[npt.NDArray[np.bool_], " n"]:
        """True for each of `rows` that may be in the answer."""
        kept = ~in_sorted(rows, self.seen)
        if self.eligible is not None:
            kept &= has(self.eligible, rows)
        if len(self.others) > FEW:
            return kept & ~np.isin(rows, self.others)
        for row in self.others:
            kept &= rows != row
        return kept

    def among(self, columns: Iterable[Sequence[int]]) -> set[int]:
        """Those of them that are in `columns`; where they are few simply all of them, which is faster."""
        if len(self.seen) <= MANY and self.eligible is None:
            return {*self.seen.tolist(), *self.others}
        rows = np.fromiter(chain.from_iterable(columns), dtype=np.int64)
        return set(rows[~self.keeps(rows)].tolist())

    def rows(self) -> Int64[npt.NDArray[np.int64], " n"]:
        """Those that are listed, perhaps one of them twice, in no order: a search gets the bitmap beside them."""
        return np.concatenate([self.seen, np.array(self.others, dtype=np.int64)])

    def count(self) -> int:
        """How many different rows are listed."""
        return len(np.unique(self.rows()))

    def left_of(self, n: int) -> int:
        """How many of `n` rows may be in the answer."""
        if self.eligible is None:
            return n - self.count()
        listed = np.unique(self.rows())
        return count_of(self.eligible) - int(np.count_nonzero(has(self.eligible, listed)))


def in_sorted(
    rows: Integer[npt.NDArray[np.integer], " n"], ascending: Integer[npt.NDArray[np.integer], " m"]
) -> Bool[npt.NDArray[np.bool_], " n"]:
    """Whether each of `rows` is in `ascending`, by binary search."""
    if not len(ascending):
        return np.zeros(len(rows), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ascending, rows), len(ascending) - 1)
    present: npt.NDArray[np.bool_] = ascending[positions] == rows
    return present


class Engaged(NamedTuple):
    """One of the user's engagements, and its share of a candidate's score."""

    entity_type: str
    row: int
    share: float


class Reason(msgspec.Struct, frozen=True):
    """One reason for a candidate: its share of the score, engagements by name, of how many, by which relation."""

    kind: ReasonKind
    share: float
    because: tuple[Engaged, ...] = ()
    count: int = 0
    via: str | None = None


class Slate(msgspec.Struct, frozen=True):
    """The answer, best first. In a mixture the modes alternate so that every prefix keeps their proportions.

    `known` says whether training knows the user, `fallback` that the strategy alone could not answer, `short` that
    fewer than k are eligible. `reasons` are those of each candidate, where they were asked for.
    """

    space: Space
    version: str
    candidate_type: str
    relation: str
    strategy: str
    weights: QueryWeights
    picks: Picks
    modes: Modes
    exclusions: Exclusions
    known: bool
    fallback: Fallback | None = None
    short: bool = False
    reasons: tuple[tuple[Reason, ...], ...] = ()

    @property
    def rows(self) -> Int64[npt.NDArray[np.int64], " n"]:
        """The candidates' rows, best first."""
        return np.array(self.picks.rows, dtype=np.int64)

    def ids(self) -> list[str]:
        """The candidates' external ids, best first."""
        return self.space.entities[self.candidate_type].ids.externals(self.rows)
