"""The known edges of one relation, by the end that a question starts from: what the filtered protocol removes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.prepared import PreparedGraph, PreparedRelation

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Known:
    """Row v's known neighbours are `neighbour[offsets[v]:offsets[v + 1]]`; `degree` is each neighbour's in training."""

    offsets: Int64[I64, " n_plus_1"]
    neighbour: Int64[I64, " e"]
    degree: Int64[I64, " m"]

    def counts(self, rows: npt.NDArray[np.integer]) -> Int64[I64, " q"]:
        """How many neighbours each of `rows` is known to have."""
        counts: I64 = self.offsets[rows.astype(np.int64) + 1] - self.offsets[rows]
        return counts

    def pairs(self, rows: npt.NDArray[np.integer]) -> tuple[I64, I64]:
        """Every (position in `rows`, neighbour) that is known."""
        counts = self.counts(rows)
        owner = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        ends = np.cumsum(counts)
        within = np.arange(len(owner), dtype=np.int64) - np.repeat(ends - counts, counts)
        return owner, self.neighbour[np.repeat(self.offsets[rows], counts) + within]


def known_edges(relation: PreparedRelation, graph: PreparedGraph, *, loops: bool = False) -> tuple[Known, Known]:
    """All training, validation and test edges of a relation, by source and by target, without repeats.

    An edge of a symmetric relation counts both ways. With `loops` every entity of a relation within one type is known
    to be its own neighbour.
    """
    parts = (relation.train, relation.valid, relation.test)
    src = np.concatenate([np.asarray(part.src) for part in parts]).astype(np.int64)
    dst = np.concatenate([np.asarray(part.dst) for part in parts]).astype(np.int64)
    train = np.asarray(relation.train.src, dtype=np.int64), np.asarray(relation.train.dst, dtype=np.int64)
    if relation.symmetric:
        src, dst = np.concatenate([src, dst]), np.concatenate([dst, src])
        train = np.concatenate(train), np.concatenate(train[::-1])
    if loops and relation.source == relation.target:
        self = np.arange(graph.count(relation.source), dtype=np.int64)
        src, dst = np.concatenate([src, self]), np.concatenate([dst, self])
    sizes = graph.count(relation.source), graph.count(relation.target)
    by_source = _index(src, dst, sizes, np.bincount(train[1], minlength=sizes[1]))
    return by_source, _index(dst, src, sizes[::-1], np.bincount(train[0], minlength=sizes[0]))


def _index(rows: I64, neighbours: I64, sizes: tuple[int, int], degree: I64) -> Known:
    keys = np.unique(rows * sizes[1] + neighbours)
    offsets = np.searchsorted(keys, np.arange(sizes[0] + 1, dtype=np.int64) * sizes[1])
    return Known(offsets.astype(np.int64), keys % sizes[1], degree.astype(np.int64))
