"""Grouping edges by row in bounded memory: blocks of rows, each small enough to sort."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.csr import Csr, csr_from_pairs
from bundle.layout import SpaceLayout
from bundle.prepared import Edges, RowArray
from bundle.writer import BundleWriter

Positions = Int64[npt.NDArray[np.int64], " _"]
Short = Int32[npt.NDArray[np.int32], " _"]

# Edges sorted at a time: about 40 bytes each while they are.
BLOCK_EDGES = 1 << 23
SCAN_EDGES = 1 << 22


@dataclass(frozen=True, slots=True)
class RowBlock:
    """The edges whose row lies in [first, stop): the rows less `first`, the other ends, positions in the edge files.

    They stand stream after stream; `lengths` says how many come from each.
    """

    first: int
    stop: int
    rows: Short
    others: Short
    positions: Positions
    lengths: tuple[int, ...]


def row_blocks(streams: list[tuple[RowArray, RowArray]], n_rows: int, block_edges: int) -> Iterator[RowBlock]:
    """Cut the rows into blocks of at most `block_edges` edges (or one row) and gather each block's edges.

    Reads the mapped edges once a block, so memory depends on the block, not on the graph.
    """
    ends = np.cumsum(degrees(streams, n_rows))
    first = 0
    while first < n_rows:
        done = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, done + block_edges, side="right")))
        yield _gather(streams, first, min(stop, n_rows))
        first = stop


def degrees(streams: list[tuple[RowArray, RowArray]], n_rows: int) -> Int64[npt.NDArray[np.int64], " n"]:
    """Edges of every row, counted in slices."""
    total = np.zeros(n_rows, dtype=np.int64)
    for rows, _ in streams:
        for start in range(0, len(rows), SCAN_EDGES):
            total += np.bincount(rows[start : start + SCAN_EDGES], minlength=n_rows)
    return total


def _gather(streams: list[tuple[RowArray, RowArray]], first: int, stop: int) -> RowBlock:
    parts = [_gather_stream(rows, others, first, stop) for rows, others in streams]
    rows, others, positions = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return RowBlock(first, stop, rows, others, positions, tuple(len(part[0]) for part in parts))


def _gather_stream(all_rows: RowArray, all_others: RowArray, first: int, stop: int) -> tuple[Short, Short, Positions]:
    rows, others, positions = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(all_rows), SCAN_EDGES):
        part = all_rows[start : start + SCAN_EDGES]
        here = np.flatnonzero((part >= first) & (part < stop))
        rows.append((part[here] - first).astype(np.int32))  # a version's rows have 32 bits: `stage` refuses more
        others.append(all_others[start : start + SCAN_EDGES][here].astype(np.int32))
        positions.append(here + start)
    return np.concatenate(rows), np.concatenate(others), np.concatenate(positions)


def stage_edges(
    writer: BundleWriter,
    layout: SpaceLayout,
    position: int,
    edges: Edges,
    counts: tuple[int, int],
    symmetric: bool,
) -> None:
    """Write both CSR directions of one relation; `counts` are the numbers of source and target entities."""
    by_source = edges.directed(symmetric)
    by_target = [(others, rows) for rows, others in by_source]
    _CsrStage(by_source, counts[0], edges.weight, symmetric).write(writer, layout.edges(position, "targets"))
    _CsrStage(by_target, counts[1], None, symmetric).write(writer, layout.edges(position, "sources"))


@dataclass(frozen=True, slots=True)
class _CsrStage:
    """Writes one direction block by block, so that no more than a block is in memory."""

    streams: list[tuple[RowArray, RowArray]]
    n_rows: int
    weight: Float32[npt.NDArray[np.float32], " _"] | None
    deduplicate: bool  # a pair of a symmetric relation may be stored both ways already

    def write(self, writer: BundleWriter, names: tuple[str, str, str]) -> None:
        indptr = np.zeros(self.n_rows + 1, dtype=np.int64)
        # Which of a doubled pair goes is known only after sorting, so the sizes take a pass of their own.
        total = sum(len(part.indices) for part in self._parts()) if self.deduplicate else len(self.streams[0][0])
        indices = writer.create(names[1], np.int32, (total,))
        weights = None if self.weight is None else writer.create(names[2], np.float32, (total,))
        first_row = first = 0
        for part in self._parts():
            stop = first + len(part.indices)
            indptr[first_row + 1 : first_row + 1 + len(part)] = first + part.indptr[1:]
            indices[first:stop] = part.indices
            if weights is not None:
                weights[first:stop] = part.weights
            first_row, first = first_row + len(part), stop
        writer.array(names[0], indptr)
        writer.add(names[1])
        if weights is not None:
            writer.add(names[2])

    def _parts(self) -> Iterator[Csr]:
        for block in row_blocks(self.streams, self.n_rows, BLOCK_EDGES):
            weights = None if self.weight is None else self.weight[block.positions]
            n_rows = block.stop - block.first
            yield csr_from_pairs(block.rows, block.others, n_rows, weights, distinct=self.deduplicate)
