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
both.

Lists are cut: of the w (or i) of one side, those with the shortest lists come first, until their lists together have
more than MOST_READ entries; hubs, which say least, are left out first. Of a candidate's sources the walk reads an even
sample of at most MOST_SOURCES, which stands for all.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int32, Int64, Integer

from bundle.csr import Csr
from bundle.space import Relation, Space
from recommend.profile import Profile

# Entries of lists that are read for each side of a user.
MOST_READ = 1 << 15
MOST_SOURCES = 256
N_PATHS = 11
# Ways over other relations that are counted, in the version's order of relations.
MOST_WAYS = 16
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "paths candidates"]
Masses = Float64[npt.NDArray[np.float64], "2 n"]


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
            self._masses[n] = np.zeros((2, n), dtype=np.float64)
        return self._masses[n]


_scratch = _Scratch()


class _Lists(NamedTuple):
    """Rows of an adjacency laid end to end: the entries, and how many come from each row."""

    entries: Int32[npt.NDArray[np.int32], " _"]
    lengths: Int64[npt.NDArray[np.int64], " rows"]

    def owners(self, places: Int64[npt.NDArray[np.int64], " _"]) -> Int64[npt.NDArray[np.int64], " _"]:
        """Which row the entries at `places` come from."""
        return np.searchsorted(np.cumsum(self.lengths), places, side="right")


def path_features(space: Space, relation: Relation, profile: Profile, candidates: Rows) -> Features:
    """The eight counts, in the order above, plain and then damped, and the walks, a column for each candidate.

    Candidates are distinct. Over other relations a user goes by trained edges alone.
    """
    out = np.zeros((N_PATHS, len(candidates)), dtype=np.float32)
    targets, followers = profile.targets, profile.followers(relation)
    slots = _scratch.slots(len(relation.sources))
    slots[candidates] = np.arange(1, len(candidates) + 1, dtype=np.int32)
    if relation.entry.source == relation.entry.target:
        sides = (targets, followers)
        out[0:2], out[4:6] = _two_steps(relation.targets, sides, slots, len(candidates))
        out[2:4], out[6:8] = _two_steps(relation.sources, sides, slots, len(candidates))
    if profile.row is not None:
        for first, second in ways(space, relation):
            out[10] += _two_steps(second, (first.row(profile.row),), slots, len(candidates))[1][0]
    slots[candidates] = 0
    out[8:10] = _walks(relation, targets, candidates)
    return out


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
    second: Csr, sides: tuple[Rows, ...], slots: Int32[npt.NDArray[np.int32], " n"], n: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For the middles of each side (one or two): how many lists of `second` hold each of `n` candidates, and the sum of
    one over the lengths of these lists. `slots` has the candidate's place plus one at its row, else 0.
    """
    some = [_shortest(second, rows) for rows in sides]
    lists = _laid_out(second, np.concatenate(some))
    found = slots[lists.entries]
    places = np.flatnonzero(found)
    keys, owners = found[places], lists.owners(places)
    if len(sides) > 1:
        keys[owners >= len(some[0])] += n + 1
    size = len(sides) * (n + 1)
    # Cast, because NumPy counts nothing as integers even where there would be weights.
    counts = np.bincount(keys, minlength=size).astype(np.float64)
    damped = np.bincount(keys, weights=1.0 / lists.lengths[owners], minlength=size).astype(np.float64)
    return counts.reshape(-1, n + 1)[:, 1:], damped.reshape(-1, n + 1)[:, 1:]


def _walks(relation: Relation, targets: Rows, candidates: Rows) -> Masses:
    first = _laid_out(relation.sources, _shortest(relation.sources, targets))
    masses = _scratch.masses(len(relation.targets))
    each = 1.0 / np.maximum(first.lengths, 1)
    for mass, step in zip(masses, (each, np.sqrt(each)), strict=True):
        np.add.at(mass, first.entries, np.repeat(step, first.lengths))
    last, share = _sampled(relation.sources, candidates)
    reached = np.flatnonzero(masses[0].take(last.entries))
    # Many of the entries are reached: repeating the rows over all of them is quicker than a search for each.
    others, owners = last.entries.take(reached), np.repeat(np.arange(len(candidates)), last.lengths).take(reached)
    indptr = relation.targets.indptr
    each = 1.0 / (indptr[1:].take(others) - indptr.take(others))
    out = np.empty((2, len(candidates)))
    for place, step in enumerate((each, np.sqrt(each))):
        out[place] = np.bincount(owners, weights=masses[place].take(others) * step, minlength=len(candidates))
        masses[place][first.entries] = 0.0
    return out * share


def _shortest(lists: Csr, rows: Rows) -> Int64[npt.NDArray[np.int64], " _"]:
    """Those of `rows` whose lists are read: all of them, or the ones with the shortest, MOST_READ entries together."""
    chosen = rows.astype(np.int64)
    lengths = lists.indptr[chosen + 1] - lists.indptr[chosen]
    if lengths.sum() <= MOST_READ:
        return chosen
    order = np.argsort(lengths, kind="stable")
    return chosen[np.sort(order[np.cumsum(lengths[order]) <= MOST_READ])]


def _laid_out(lists: Csr, rows: Int64[npt.NDArray[np.int64], " n"]) -> _Lists:
    starts = lists.indptr[rows]
    lengths = lists.indptr[rows + 1] - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return _Lists(lists.indices[np.repeat(starts - ends + lengths, lengths) + np.arange(total)], lengths)


def _sampled(lists: Csr, rows: Rows) -> tuple[_Lists, npt.NDArray[np.float64]]:
    """At most MOST_SOURCES entries of each row, evenly apart, and how many entries each of them stands for."""
    chosen = rows.astype(np.int64)
    whole = lists.indptr[chosen + 1] - lists.indptr[chosen]
    if whole.max(initial=0) <= MOST_SOURCES:
        return _laid_out(lists, chosen), np.ones(len(chosen))
    lengths = np.minimum(whole, MOST_SOURCES)
    share = whole / np.maximum(lengths, 1)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    inside = np.arange(total) - np.repeat(ends - lengths, lengths)
    places = np.repeat(lists.indptr[chosen], lengths) + (inside * np.repeat(share, lengths)).astype(np.int64)
    return _Lists(lists.indices[places], lengths), share
