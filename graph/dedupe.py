"""Which edges of a relation to keep: no self-loops, and of repeated edges the first in file order.

Edges are dealt into buckets by a hash of their ends, so all repeats of an edge meet in one bucket and a bucket fits
in memory. A repeated edge keeps the sum of the weights and the earliest of the times.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64, Integer, UInt64

from bundle.cells import CORES
from bundle.scratch import RawColumn, scratch_array

# Edges of a bucket, which are sorted in memory at about 60 bytes each; as many buckets at a time as there are cores.
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
    relations: RawColumn

    def read(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        columns = (self.positions, self.keys, self.relations)
        positions, keys, relations = (np.concatenate(list(column.batches())) for column in columns)
        return positions, keys, relations

    def delete(self) -> None:
        for column in (self.positions, self.keys, self.relations):
            column.path.unlink()


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
                RawColumn(self.directory / f"{i}.relations", np.int32),
            )
            for i in range(buckets)
        ]

    def dealt(self, edges: RowEdges) -> Dealt:
        """A batch by bucket. Any thread may do this."""
        loops = self.kind.loops(edges)
        proper = np.flatnonzero(~loops)
        keys = self.kind.keys(edges)[proper]
        relation = edges.relation[proper]
        buckets = [(proper[some], keys[some], relation[some]) for some in deal(keys, len(self._buckets))]
        return Dealt(edges, np.bincount(edges.relation[loops], minlength=self.relations), buckets)

    def add(self, dealt: Dealt) -> None:
        """Take the next batch."""
        self.self_loops += dealt.self_loops
        for bucket, (positions, keys, relations) in zip(self._buckets, dealt.buckets, strict=True):
            bucket.positions.append(positions + self.count)
            bucket.keys.append(keys)
            bucket.relations.append(relations)
        self.count += len(dealt.edges)

    def keep(
        self,
        weight: npt.NDArray[np.float64] | None = None,
        time: npt.NDArray[np.int64] | None = None,
    ) -> Bool[npt.NDArray[np.bool_], " n"]:
        """Which edges to keep; `weight` and `time` of all edges are changed in place for those kept."""
        keep = scratch_array(self.directory / "keep", np.bool_, self.count)
        filled = [bucket for bucket in self._buckets if len(bucket.positions)]
        with ThreadPoolExecutor(CORES, thread_name_prefix="dedupe") as pool:
            for dropped in pool.map(lambda bucket: self._keep_bucket(bucket, keep, weight, time), filled):
                self.duplicates += dropped
        return keep

    def _keep_bucket(self, bucket: _Bucket, keep: Any, weight: Any, time: Any) -> Int64[npt.NDArray[np.int64], " r"]:
        """Mark a bucket's edges to keep, which are no other bucket's; returns the repeats of each relation."""
        # Sorting brings the occurrences of an edge together, in file order: where a sorted edge differs from the one
        # before it, a group begins with the occurrence to keep. Each group's weights and times are folded into that
        # one.
        positions, keys, relations = bucket.read()
        bucket.delete()
        order, new = sorted_edges(keys, relations, self.relations)
        first = positions[order[new]]
        keep[first] = True
        if len(first) == len(order):
            return np.zeros(self.relations, dtype=np.int64)
        starts = np.flatnonzero(new)
        if weight is not None:
            # One after the other, as any engine can: `add.reduceat` adds long runs pairwise, to other last digits.
            weight[first] = np.bincount(np.cumsum(new) - 1, weights=weight[positions[order]])
        if time is not None:
            time[first] = np.minimum.reduceat(time[positions[order]], starts)
        return np.bincount(relations[order[~new]], minlength=self.relations)


def sorted_edges(
    keys: UInt64[npt.NDArray[np.uint64], " n"], relations: Rows, count: int
) -> tuple[npt.NDArray[np.intp], Bool[npt.NDArray[np.bool_], " n"]]:
    """The order of edges by key and relation (one of `count`), equal ones as they stand, and where a new edge begins.

    Numbers are sorted several times as fast as their places are: where key, relation and place fit 64 bits, they are.
    """
    new = np.ones(len(keys), dtype=np.bool_)
    bits = max(1, (len(keys) - 1).bit_length())
    largest = (int(keys.max(initial=0)) + 1) * count
    if largest.bit_length() + bits <= 64:
        edges = keys if count == 1 else keys * np.uint64(count) + relations.astype(np.uint64)
        packed = (edges << np.uint64(bits)) | np.arange(len(keys), dtype=np.uint64)
        packed.sort()
        order = (packed & np.uint64((1 << bits) - 1)).astype(np.intp)
        packed >>= np.uint64(bits)
        np.not_equal(packed[1:], packed[:-1], out=new[1:])
        return order, new
    order = np.lexsort((keys, relations))  # by its last key first
    new[1:] = (np.diff(keys[order]) != 0) | (np.diff(relations[order]) != 0)
    return order, new
