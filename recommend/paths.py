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
both. `elsewhere` and `recency` are no paths but an edge: the shares of `recommend/elsewhere.py`.

Lists are cut: of the w (or i) of one side, those with the shortest lists come first, until their lists together have
more than MOST_READ entries; hubs, which say least, are left out first. Of a candidate's sources the walk reads an even
sample of at most MOST_SOURCES, which stands for all.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Complex64, Float32, Int32, Int64, Integer

from bundle.space import Relation, Space
from recommend.profile import Profile
from recommend.tables import BLOCK, Sample, Tables, tables_of

# Entries of lists that are read for each side of a user.
MOST_READ = 1 << 15
N_PATHS = 13
# Numbers that are cleared in the time of one that has to be looked up.
LINE = 64
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "paths candidates"]
# What comes to an entity by the walk, as the real part, and by the root walk, as the imaginary one: summed in one pass.
Masses = Complex64[npt.NDArray[np.complex64], " _"]
Places = npt.NDArray[np.unsignedinteger]
# Of the paths of two edges: the four directions, and those over other relations.
N_SIDES = 5


class _Scratch(threading.local):
    """Zeros for as many entities as a type has, lent to one call at a time and given back as zeros. Their numbers are
    small, so that they stay in the processor's caches."""

    def __init__(self) -> None:
        # By the kind of their numbers, as long as was ever needed: versions come and go, each of another size.
        self._places: dict[np.dtype[Any], Places] = {}

    @contextmanager
    def places(self, rows: Rows, n: int) -> Iterator[Places]:
        """For each of `n` entities its place among `rows`, from 1 on, and 0 for others; of a row that is there twice
        the last."""
        kind = np.min_scalar_type(len(rows))
        known = self._places.get(kind)
        if known is None or len(known) < n:
            known = self._places[kind] = np.zeros(n, dtype=kind)
        places = known[:n]
        places[rows] = np.arange(1, len(rows) + 1, dtype=kind)
        try:
            yield places
        finally:
            # Whole, where that is less than to look its numbers up.
            places[rows if len(rows) * LINE < n else slice(None)] = 0


places_among = _Scratch().places


class _Read(NamedTuple):
    """The lists of middles laid end to end, part after part: the entries, how many come from each list, where the
    parts begin among the lists, and among the entries."""

    entries: Int32[npt.NDArray[np.int32], " _"]
    lengths: Int64[npt.NDArray[np.int64], " lists"]
    first_lists: list[int]
    first_entries: list[int]


def path_features(space: Space, relation: Relation, profile: Profile, candidates: Rows) -> Features:
    """The eight counts, in the order above, plain and then damped, the walks, and what there is over other relations,
    a column for each candidate.

    Candidates are distinct. Over other relations a user goes by trained edges alone.
    """
    tables = tables_of(space, relation)
    within = relation.entry.source == relation.entry.target
    read, sides = _read_all(tables, relation, profile, within)
    out = np.empty((N_PATHS, len(candidates)), dtype=np.float32)
    # The first part is of the relation's sources, which the walk needs; they are candidates where the types are one.
    counts, damped = _two_steps(read, sides, candidates, len(relation.sources), 0 if within else 1)
    out[0:4], out[4:8], out[10] = counts[:4], damped[:4], damped[4]
    first = read.first_entries[1], read.first_lists[1]
    out[8:10] = _walks(tables, read.entries[: first[0]], read.lengths[: first[1]], candidates)
    out[11] = profile.elsewhere.shares_of(candidates)
    out[12] = profile.elsewhere.recencies_of(candidates)
    return out


def _read_all(tables: Tables, relation: Relation, profile: Profile, within: bool) -> tuple[_Read, list[int]]:
    """The lists of every side's middles, and the side that each part of them is of: first those of the sources of the
    user's targets."""
    targets = profile.targets
    parts: list[tuple[int, int, Rows]] = [(2, 0, targets)]
    if within:
        followers = profile.followers(relation)
        parts += [(0, 1, targets), (1, 1, followers), (3, 0, followers)]
    if profile.row is not None:
        parts += [(4, 2 + i, way.first.row(profile.row)) for i, way in enumerate(tables.ways)]
    return _read(tables, [(adjacency, rows) for _, adjacency, rows in parts]), [side for side, _, _ in parts]


def _read(tables: Tables, parts: Sequence[tuple[int, Rows]]) -> _Read:
    """For each part the lists that the adjacency of that number has of its rows: all of them, or the shortest ones,
    MOST_READ entries together."""
    sizes = [len(rows) for _, rows in parts]
    places = np.concatenate([rows for _, rows in parts]) + np.repeat([tables.offsets[i] for i, _ in parts], sizes)
    starts = tables.ends.take(places)
    lengths = tables.ends.take(places + 1) - starts
    first_lists = [0, *accumulate(sizes)]
    ends = np.cumsum(lengths)
    first_entries = _before(ends, first_lists)
    if max(b - a for a, b in pairwise(first_entries)) > MOST_READ:
        kept = np.concatenate([a + shortest(lengths[a:b]) for a, b in pairwise(first_lists)])
        first_lists = np.searchsorted(kept, first_lists).tolist()
        starts, lengths = starts[kept], lengths[kept]
        ends = np.cumsum(lengths)
        first_entries = _before(ends, first_lists)
    at = np.repeat(starts - ends + lengths, lengths)
    at += np.arange(len(at))
    entries = np.empty(len(at), dtype=np.int32)
    for (adjacency, _), (a, b) in zip(parts, pairwise(first_entries), strict=True):
        # Every place is inside; so told, NumPy writes where it is to be and not beside it first.
        tables.lists[adjacency].indices.take(at[a:b], out=entries[a:b], mode="clip")
    return _Read(entries, lengths, first_lists, first_entries)


def _before(ends: Int64[npt.NDArray[np.int64], " lists"], lists: Sequence[int]) -> list[int]:
    """How many entries there are before each of these lists."""
    return [int(ends[one - 1]) if one else 0 for one in lists]


def shortest(lengths: Int64[npt.NDArray[np.int64], " n"]) -> Int64[npt.NDArray[np.int64], " kept"]:
    """Which of lists of these lengths are read, ascending: the shortest, MOST_READ entries together."""
    order = np.argsort(lengths, kind="stable")
    return np.sort(order[np.cumsum(lengths[order]) <= MOST_READ])


def _two_steps(
    read: _Read, sides: Sequence[int], candidates: Rows, n: int, first_part: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For each side and candidate, of `n` entities: how many of the lists of the side's parts hold it, and the sum of
    one over the lengths of these lists. Parts before `first_part` are passed over.
    """
    size = len(candidates) + 1
    begin = read.first_entries[first_part]
    lengths = read.lengths[read.first_lists[first_part] :]
    with places_among(candidates, n) as among:
        found = among.take(read.entries[begin:])
    places = np.flatnonzero(found != 0)
    of_part = np.diff(places.searchsorted([one - begin for one in read.first_entries[first_part:]]))
    keys = np.repeat(np.array(sides[first_part:], dtype=np.int64) * size, of_part)
    keys += found.take(places)
    shares = np.repeat(np.float32(1.0) / np.maximum(lengths, 1, dtype=np.float32), lengths).take(places)
    # Cast, because NumPy counts nothing as integers even where there would be weights.
    counts = np.bincount(keys, minlength=N_SIDES * size).astype(np.float64)
    damped = np.bincount(keys, weights=shares, minlength=N_SIDES * size).astype(np.float64)
    return counts.reshape(N_SIDES, size)[:, 1:], damped.reshape(N_SIDES, size)[:, 1:]


def _walks(
    tables: Tables,
    first: Rows,
    lengths: Int64[npt.NDArray[np.int64], " lists"],
    candidates: Rows,
) -> Float32[npt.NDArray[np.float32], "2 candidates"]:
    """The walks that begin with the lists `first`: the sources of the user's targets."""
    steps = np.empty(len(first), dtype=np.complex64)
    first = first.astype(np.int64)  # what it would be made on each look-up
    plain = tables.shares.take(first)
    plain *= np.repeat(np.float32(1.0) / np.maximum(lengths, 1, dtype=np.float32), lengths)
    steps.real, steps.imag = plain, np.sqrt(plain)
    with places_among(first, len(tables.shares) + 1) as among:
        # Few have masses, and those side by side; what fills up the blocks has none, as most others.
        masses = np.zeros(len(first) + 1, dtype=np.complex64)
        np.add.at(masses, among.take(first), steps)
        sums = _over_sources(tables.sample, candidates, among, masses)
    return np.stack([sums.real, sums.imag])


def _over_sources(sample: Sample, rows: Rows, among: Places, masses: Masses) -> Masses:
    """What the sources of each row have together; `among` has each source's place among the `masses`."""
    counts = sample.counts.take(rows)
    ends = np.cumsum(counts)
    firsts = ends - counts
    places = np.repeat(sample.starts.take(rows) - firsts, counts)
    places += np.arange(len(places))
    entries = sample.blocks.take(places, axis=0, mode="clip")
    found = masses.take(among.take(entries.reshape(-1), mode="clip"), mode="clip")
    sums: Masses = np.add.reduceat(found, firsts * BLOCK)
    sums *= sample.stands_for.take(rows)
    return sums
