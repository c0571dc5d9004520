"""Which edges of a relation to keep: no self-loops, and of repeated edges the first in file order.

Edges are dealt into buckets by a hash of their ends, so all repeats of an edge meet in one bucket and a bucket fits
in memory. A repeated edge keeps the sum of the weights and the earliest of the times.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int32, Int64, Integer, UInt64

import engine
from bundle.arrays import AnyArray
from bundle.scratch import RawColumn, scratch_array
from graph.ahead import mapped

# Edges of a bucket, which are compared in memory at about 60 bytes each; as many buckets at a time as there are cores.
BUCKET_EDGES = 1 << 20
# A bucket is three files, all of which are appended to in turn.
MAX_BUCKETS = 512
# 2^64 / golden ratio: consecutive keys land in different buckets.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
Rows = Integer[npt.NDArray[np.integer], " n"]


@dataclass(frozen=True, slots=True)
class RowEdges:
    """Edges as rows, in file order: `relation` is the relation of each (0 where there is just one)."""

    src: Rows
    dst: Rows
    relation: Rows

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True)
class EdgeKind:
    """What deduplication must know of a relation: a self-loop needs both ends in one type."""

    same_type: bool
    symmetric: bool
    targets: int

    def loops(self, edges: RowEdges) -> Bool[npt.NDArray[np.bool_], " n"]:
        """Which edges join an entity to itself."""
        if not self.same_type:
            return np.zeros(len(edges), dtype=np.bool_)
        same: npt.NDArray[np.bool_] = edges.src == edges.dst
        return same

    def keys(self, edges: RowEdges) -> UInt64[npt.NDArray[np.uint64], " n"]:
        """One number for each pair of ends; in a symmetric relation both orders have the same."""
        first, second = edges.src, edges.dst
        if self.symmetric:
            first, second = np.minimum(edges.src, edges.dst), np.maximum(edges.src, edges.dst)
        return first.astype(np.uint64) * np.uint64(self.targets) + second.astype(np.uint64)


def deal(keys: UInt64[npt.NDArray[np.uint64], " n"], buckets: int) -> Iterator[Any]:
    """Which of the keys go to each bucket, in order: equal keys to one, and all spread evenly whatever they look like.

    Selections of an array: a slice, or positions.
    """
    if buckets == 1:
        yield slice(None)
        return
    # As few bytes as hold a bucket's number: short integers are sorted in one pass.
    numbers = (((keys * _SPREAD) >> np.uint64(32)) % np.uint64(buckets)).astype(np.min_scalar_type(buckets - 1))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=buckets))
    yield from np.split(order, ends[:-1])


@dataclass(slots=True)
class _Bucket:
    positions: RawColumn
    keys: RawColumn
    relations: RawColumn | None  # where there are several

    def append(self, positions: AnyArray, keys: AnyArray, relations: AnyArray | None) -> None:
        self.positions.append(positions)
        self.keys.append(keys)
        if self.relations is not None and relations is not None:
            self.relations.append(relations)

    def take(self) -> tuple[AnyArray, AnyArray, AnyArray | None]:
        """What was appended, whose files are deleted."""
        relations = None if self.relations is None else _taken(self.relations)
        return _taken(self.positions), _taken(self.keys), relations


def _taken(column: RawColumn) -> AnyArray:
    found = np.concatenate(list(column.batches()))
    column.path.unlink()
    return found


@dataclass(frozen=True, slots=True)
class Dealt:
    """A batch of edges: its self-loops by relation, and the others' (positions, keys, relations) by bucket."""

    edges: RowEdges
    self_loops: Int64[npt.NDArray[np.int64], " r"]
    buckets: list[tuple[Any, Any, Any]]


@dataclass(slots=True)
class Deduplicator:
    """Takes edges batch by batch, then says which to keep.

    `expected` is the number of edges to come; `relations` the number of relations among them.
    """

    directory: Path
    kind: EdgeKind
    expected: int
    relations: int
    count: int = 0
    self_loops: Int64[npt.NDArray[np.int64], " r"] = field(init=False)
    duplicates: Int64[npt.NDArray[np.int64], " r"] = field(init=False)
    _buckets: list[_Bucket] = field(init=False)

    def __post_init__(self) -> None:
        buckets = min(max(-(-self.expected // BUCKET_EDGES), 1), MAX_BUCKETS)
        self.self_loops = np.zeros(self.relations, dtype=np.int64)
        self.duplicates = np.zeros(self.relations, dtype=np.int64)
        self._buckets = [
            _Bucket(
                RawColumn(self.directory / f"{i}.positions", np.int64),
                RawColumn(self.directory / f"{i}.keys", np.uint64),
                RawColumn(self.directory / f"{i}.relations", np.int32) if self.relations > 1 else None,
            )
            for i in range(buckets)
        ]

    def dealt(self, edges: RowEdges) -> Dealt:
        """A batch by bucket. Any thread may do this."""
        if engine.available() and edges.src.dtype == edges.dst.dtype == np.int32:
            return self._dealt_by_engine(edges)
        loops = self.kind.loops(edges)
        proper = np.flatnonzero(~loops)
        keys = self.kind.keys(edges)[proper]
        relation = edges.relation[proper]
        buckets = [(proper[some], keys[some], relation[some]) for some in deal(keys, len(self._buckets))]
        return Dealt(edges, np.bincount(edges.relation[loops], minlength=self.relations), buckets)

    def _dealt_by_engine(self, edges: RowEdges) -> Dealt:
        keys, positions = np.empty(len(edges), dtype=np.uint64), np.empty(len(edges), dtype=np.int32)
        several = self.relations > 1
        relation, relations = (edges.relation, np.empty_like(positions)) if several else (None, None)
        ends, loops = np.zeros(len(self._buckets), dtype=np.int64), np.zeros(self.relations, dtype=np.int64)
        kind = self.kind
        engine.native().deal_edges(
            *(edges.src, edges.dst, relation, kind.targets, kind.same_type, kind.symmetric),
            *(keys, positions, relations, ends, loops),
        )
        buckets = [
            (positions[start:stop], keys[start:stop], None if relations is None else relations[start:stop])
            for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
        ]
        return Dealt(edges, loops, buckets)

    def add(self, dealt: Dealt) -> None:
        """Take the next batch."""
        self.self_loops += dealt.self_loops
        for bucket, (positions, keys, relations) in zip(self._buckets, dealt.buckets, strict=True):
            bucket.append(positions + np.int64(self.count), keys, relations)
        self.count += len(dealt.edges)

    def keep(
        self,
        weight: npt.NDArray[np.float64] | None = None,
        time: npt.NDArray[np.int64] | None = None,
    ) -> Bool[npt.NDArray[np.bool_], " n"]:
        """Which edges to keep; `weight` and `time` of all edges are changed in place for those kept."""
        keep = scratch_array(self.directory / "keep", np.bool_, self.count)
        filled = [bucket for bucket in self._buckets if len(bucket.positions)]
        for dropped in mapped(lambda bucket: self._keep_bucket(bucket, keep, weight, time), filled):
            self.duplicates += dropped
        return keep

    def _keep_bucket(self, bucket: _Bucket, keep: Any, weight: Any, time: Any) -> Int64[npt.NDArray[np.int64], " r"]:
        """Mark a bucket's edges to keep, which are no other bucket's; returns the repeats of each relation."""
        # Each group's weights and times are folded into its first edge.
        positions, keys, relations = bucket.take()
        first = first_equal(keys, relations, self.relations)
        kept = first == np.arange(len(first))
        keep[positions[kept]] = True
        repeats = np.flatnonzero(~kept)
        if len(repeats) == 0:
            return np.zeros(self.relations, dtype=np.int64)
        if weight is not None:
            # One after the other, as any engine can: `add.reduceat` adds long runs pairwise, to other last digits.
            weight[positions[kept]] = np.bincount(first, weights=weight[positions])[first[kept]]
        if time is not None:
            times = time[positions]
            np.minimum.at(times, first[repeats], times[repeats])
            time[positions[kept]] = times[kept]
        return np.bincount(
            np.zeros(len(repeats), dtype=np.int64) if relations is None else relations[repeats],
            minlength=self.relations,
        )


def first_equal(
    keys: UInt64[npt.NDArray[np.uint64], " n"], relations: Rows | None, count: int
) -> Int32[npt.NDArray[np.int32], " n"]:
    """The place of the first edge with the same key and relation (one of `count`; None: all have the same)."""
    first = np.empty(len(keys), dtype=np.int32)
    if engine.available():
        engine.native().first_equal(keys, relations, first)
        return first
    order, new = sorted_edges(keys, relations, count)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def sorted_edges(
    keys: UInt64[npt.NDArray[np.uint64], " n"], relations: Rows | None, count: int
) -> tuple[npt.NDArray[np.intp], Bool[npt.NDArray[np.bool_], " n"]]:
    """The order of edges by key and relation (one of `count`), equal ones as they stand, and where a new edge begins.

    Numbers are sorted several times as fast as their places are: where key, relation and place fit 64 bits, they are.
    """
    new = np.ones(len(keys), dtype=np.bool_)
    bits = max(1, (len(keys) - 1).bit_length())
    largest = (int(keys.max(initial=0)) + 1) * count
    if largest.bit_length() + bits <= 64:
        edges = keys if relations is None else keys * np.uint64(count) + relations.astype(np.uint64)
        packed = (edges << np.uint64(bits)) | np.arange(len(keys), dtype=np.uint64)
        packed.sort()
        order = (packed & np.uint64((1 << bits) - 1)).astype(np.intp)
        packed >>= np.uint64(bits)
        np.not_equal(packed[1:], packed[:-1], out=new[1:])
        return order, new
    order = np.lexsort((keys,) if relations is None else (keys, relations))  # by its last key first
    new[1:] = np.diff(keys[order]) != 0
    if relations is not None:
        new[1:] |= np.diff(relations[order]) != 0
    return order, new
