"""The known edges of one relation, by the end that a question starts from: what the filtered protocol removes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.csr import csr_from_pairs
from bundle.prepared import PreparedGraph, PreparedRelation

I32 = npt.NDArray[np.int32]
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
    pairs = [pair for part in parts for pair in part.directed(relation.symmetric)]
    if loops and relation.source == relation.target:
        everyone = np.arange(graph.count(relation.source), dtype=np.int32)
        pairs.append((everyone, everyone))
    src, dst = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    trained = relation.train.directed(relation.symmetric)
    out, into = (np.concatenate(ends) for ends in zip(*trained, strict=True))
    sizes = graph.count(relation.source), graph.count(relation.target)
    by_source = _known(src, dst, sizes[0], np.bincount(into, minlength=sizes[1]))
    return by_source, _known(dst, src, sizes[1], np.bincount(out, minlength=sizes[0]))


def _known(rows: I32, neighbours: I32, n_rows: int, degree: I64) -> Known:
    edges = csr_from_pairs(rows, neighbours, n_rows, distinct=True)
    return Known(edges.indptr, edges.indices.astype(np.int64), degree.astype(np.int64))
