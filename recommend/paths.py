"""Exact counts of the paths of two edges between a user and the candidates, and walks of three: inputs of rescoring.

For a user u, a candidate t and one relation, whose edges are written u→t:

followed_by_targets    u→w→t    w, whom u has as a target, has t as one
followed_by_followers  u←w→t    w, who has u as a target, has t as one
following_targets      u→w←t    t has a target w of u
following_followers    u←w←t    t has as a target w, who has u as one

each as a number of such w and damped, where w counts one over the edges that w has in the path's direction; all 0 where
the relation's ends differ in type. The `walk` is the share of three random steps from u that end in t, u→i←v→t:
`Σ_i Σ_v 1 / (sources of i · targets of v)`, RP3β before its damping (Paudel et al., 2017), here not divided by u's own
edges; `root_walk` is the same with the roots of both numbers. `other_relations` are damped paths of two edges
u·x·t, each in either direction, of which at least one is of another relation: a friend who listens to t, a hashtag of
both. `elsewhere` is no path but an edge: the share of `recommend/elsewhere.py`.

Lists are cut: of the w (or i) of one side, those with the shortest lists come first, until their lists together have
more than MOST_READ entries; hubs, which say least, are left out first. Of a candidate's sources the walk reads an even
sample of at most MOST_SOURCES, which stands for all.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Complex64, Float32, Int32, Int64, Integer

from bundle.csr import Csr
from bundle.space import Relation, Space
from recommend.profile import Profile

# Entries of lists that are read for each side of a user.
MOST_READ = 1 << 15
MOST_SOURCES = 256
N_PATHS = 12
# Ways over other relations that are counted, in the version's order of relations.
MOST_WAYS = 16
NO_LENGTHS = np.empty(0, dtype=np.int64)
NO_ENTRIES = np.empty(0, dtype=np.int32)
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "paths candidates"]
# What comes to an entity by the walk, as the real part, and by the root walk, as the imaginary one: summed in one pass.
Masses = Complex64[npt.NDArray[np.complex64], " _"]
# Of the paths of two edges: the four directions, and those over other relations.
N_SIDES = 5


class _Scratch(threading.local):
    """Arrays of zeros as long as a type has entities, lent to one call at a time and given back as zeros."""

    def __init__(self) -> None:
        self._slots: dict[int, npt.NDArray[np.int32]] = {}
        self._masses: dict[int, Masses] = {}

    def slots(self, n: int) -> npt.NDArray[np.int32]:
        if n not in self._slots:
            self._slots[n] = np.zeros(n, dtype=np.int32)
        return self._slots[n]

    def masses(self, n: int) -> Masses:
        if n not in self._masses:
            self._masses[n] = np.zeros(n, dtype=np.complex64)
        return self._masses[n]


_scratch = _Scratch()


class _Lists(NamedTuple):
    """Rows of an adjacency laid end to end: the entries, and how many come from each row."""

    entries: Int32[npt.NDArray[np.int32], " _"]
    lengths: Int64[npt.NDArray[np.int64], " rows"]


def path_features(space: Space, relation: Relation, profile: Profile, candidates: Rows) -> Features:
    """The eight counts, in the order above, plain and then damped, the walks, and what there is over other relations,
    a column for each candidate.

    Candidates are distinct. Over other relations a user goes by trained edges alone.
    """
    out = np.zeros((N_PATHS, len(candidates)), dtype=np.float32)
    first = _read(relation.sources, profile.targets)
    read = [(side, _read(second, middles)) for side, second, middles in _other_sides(space, relation, profile)]
    if relation.entry.source == relation.entry.target:
        read.append((2, first))
    counts, damped = _two_steps(read, candidates, len(relation.sources))
    out[0:4], out[4:8], out[10] = counts[:4], damped[:4], damped[4]
    out[8:10] = _walks(relation, first, candidates)
    out[11] = profile.elsewhere.shares_of(candidates)
    return out


def _other_sides(space: Space, relation: Relation, profile: Profile) -> Iterator[tuple[int, Csr, Rows]]:
    """The sides of which paths are counted, the third left out: its place, the second step, the middles."""
    if relation.entry.source == relation.entry.target:
        followers = profile.followers(relation)
        yield 0, relation.targets, profile.targets
        yield 1, relation.targets, followers
        yield 3, relation.sources, followers
    if profile.row is not None:
        for first, second in ways(space, relation):
            yield 4, second, first.row(profile.row)


def ways(space: Space, relation: Relation) -> list[tuple[Csr, Csr]]:
    """The adjacencies of the two steps of each way over other relations: from u, and on to candidates."""
    source, target = relation.entry.source, relation.entry.target
    found = []
    for middle, first, one in _steps_from(space, source):
        for also, second, other in _steps_from(space, target):
            if middle == also and not (one is relation and other is relation):
                # The second step leads from the middle to t: the turned adjacency of t's step to the middle.
                found.append((_adjacency(one, first), _adjacency(other, not second)))
                if len(found) == MOST_WAYS:
                    return found
    return found


def _steps_from(space: Space, entity_type: str) -> Iterator[tuple[str, bool, Relation]]:
    """The steps that an edge leads from a type: the type it leads to, whether along the edge, the relation."""
    for relation in space.relations.values():
        entry = relation.entry
        if entry.source == entity_type:
            yield entry.target, True, relation
        if entry.target == entity_type and not entry.symmetric:
            yield entry.source, False, relation


def _adjacency(relation: Relation, along: bool) -> Csr:
    return relation.targets if along else relation.sources


def _two_steps(
    read: Sequence[tuple[int, _Lists]], candidates: Rows, n: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each side and candidate, of `n` entities: how many of the side's lists hold it, and the sum of one over the
    lengths of these lists.
    """
    size = len(candidates) + 1
    slots = _scratch.slots(n)
    slots[candidates] = np.arange(1, size, dtype=np.int32)
    lengths = np.concatenate([NO_LENGTHS, *(lists.lengths for _, lists in read)])
    sides = np.concatenate([NO_LENGTHS, *(np.full(len(lists.lengths), side * size) for side, lists in read)])
    found = slots.take(np.concatenate([NO_ENTRIES, *(lists.entries for _, lists in read)]))
    slots[candidates] = 0
    places = np.flatnonzero(found != 0)
    owners = np.searchsorted(np.cumsum(lengths), places, side="right")
    keys = found.take(places) + sides.take(owners)
    # Cast, because NumPy counts nothing as integers even where there would be weights.
    counts = np.bincount(keys, minlength=N_SIDES * size).astype(np.float64)
    damped = np.bincount(keys, weights=1.0 / lengths.take(owners), minlength=N_SIDES * size).astype(np.float64)
    return counts.reshape(N_SIDES, size)[:, 1:], damped.reshape(N_SIDES, size)[:, 1:]


def _walks(relation: Relation, first: _Lists, candidates: Rows) -> Float32[npt.NDArray[np.float32], "2 candidates"]:
    """The walks that begin with the lists `first`: the sources of the user's targets."""
    masses = _scratch.masses(len(relation.targets))
    indptr = relation.targets.indptr
    # Each of them is divided by the edges among which its walkers choose the third step.
    degrees = indptr[1:].take(first.entries) - indptr.take(first.entries)
    steps = np.empty(len(degrees), dtype=np.complex64)
    steps.real = 1.0 / (np.repeat(first.lengths, first.lengths) * degrees)
    steps.imag = np.sqrt(steps.real)
    np.add.at(masses, first.entries, steps)
    sums = _from_sources(relation.sources, candidates, masses)
    masses[first.entries] = 0.0
    return np.stack([sums.real, sums.imag])


def _from_sources(lists: Csr, rows: Rows, masses: Masses) -> Masses:
    """What the entries of each row's list have together; of more than MOST_SOURCES an even sample stands for all."""
    starts = lists.indptr.take(rows)
    lengths = lists.indptr.take(rows + 1) - starts
    sums = np.zeros(len(rows), dtype=np.complex64)
    whole = np.flatnonzero((lengths > 0) & (lengths <= MOST_SOURCES))
    if len(whole):
        found = masses.take(lists.indices.take(_places(starts[whole], lengths[whole])))
        sums[whole] = np.add.reduceat(found, np.cumsum(lengths[whole]) - lengths[whole])
    long = np.flatnonzero(lengths > MOST_SOURCES)
    if len(long):
        share = lengths[long, None] / MOST_SOURCES
        places = (np.arange(MOST_SOURCES) * share).astype(np.int64)
        places += starts[long, None]
        sums[long] = masses.take(lists.indices.take(places)).sum(axis=1) * share[:, 0]
    return sums


def _read(lists: Csr, rows: Rows) -> _Lists:
    """The lists of `rows`: of all of them, or the shortest ones, MOST_READ entries together."""
    starts = lists.indptr.take(rows)
    lengths = lists.indptr.take(rows + 1) - starts
    if lengths.sum() > MOST_READ:
        order = np.argsort(lengths, kind="stable")
        kept = np.sort(order[np.cumsum(lengths[order]) <= MOST_READ])
        starts, lengths = starts[kept], lengths[kept]
    return _Lists(lists.indices.take(_places(starts, lengths)), lengths)


def _places(
    starts: Int64[npt.NDArray[np.int64], " n"], lengths: Int64[npt.NDArray[np.int64], " n"]
) -> Int64[npt.NDArray[np.int64], " _"]:
    """From each of the `starts` on as many places as its length says, end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    places = np.repeat(starts - ends + lengths, lengths)
    places += np.arange(total)
    return places
