"""Edges sorted into cells: those from one shard to another side by side, in the order of places.

Edges come in any order, batch by batch; they wait on disk as numbers of 64 bits (cell, source's place, target's place),
dealt by source shard into buckets that fit in memory. Buckets are sorted on all cores. Times and weights come along.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, Integer, UInt64

from bundle.arrays import AnyArray
from bundle.scratch import RawColumn
from bundle.shards import Places, ShardRows, row_type

# Edges of a bucket, which are sorted in memory at about 100 bytes each; as many buckets at a time as there are cores. A
# large graph has larger ones: one for each source shard.
BUCKET_EDGES = 1 << 18
# More at a time would need more memory.
CORES = min(16, len(os.sched_getaffinity(0)))
U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class TypeShards:
    """One entity type, both ways round."""

    rows: ShardRows
    places: Places

    def row(self, shard: Int64[npt.NDArray[np.int64], " n"], place: UInt64[U64, " n"]) -> Integer[Rows, " n"]:
        """The row at each place."""
        return self.rows.rows[self.rows.starts[shard] + place.astype(np.int64)].astype(row_type(len(self.rows.rows)))


@dataclass(frozen=True, slots=True)
class SortedEdges:
    """Some edges of one relation in the order of cells: none of their cells has edges before or after them.

    `cell[i]` (source shard · Q + target shard) begins at edge `start[i]`. `columns`: src and dst (rows), src_place and
    dst_place, and what else was given.
    """

    relation: int
    cell: Int64[npt.NDArray[np.int64], " c"]
    start: Int64[npt.NDArray[np.int64], " c"]
    columns: dict[str, AnyArray]

    def __len__(self) -> int:
        return len(self.columns["src_place"])


@dataclass(slots=True)
class CellSorter:
    """Takes the edges of `relations` relations between two types, then gives them in the order of cells.

    `expected` edges are to come; `extra` are the types of further columns. Files lie in `directory`.
    """

    directory: Path
    source: TypeShards
    target: TypeShards
    relations: int
    expected: int
    extra: Mapping[str, npt.DTypeLike] = field(default_factory=dict)
    bucket_edges: int = BUCKET_EDGES
    cores: int = CORES
    _shards: int = field(init=False)
    _bits: tuple[int, int, int] = field(init=False)
    _buckets: list[dict[str, RawColumn]] = field(init=False)
    _width: int = field(init=False)

    def __post_init__(self) -> None:
        self._shards = len(self.source.rows.counts)
        largest = (int(end.rows.counts.max(initial=0)) for end in (self.source, self.target))
        place_bits = [max(1, (count - 1).bit_length()) for count in largest]
        self._bits = ((self._shards - 1).bit_length(), *place_bits)  # type: ignore[assignment]
        wanted = min(max(-(-self.expected // self.bucket_edges), 1), self._shards)
        self._width = -(-self._shards // wanted)
        types: dict[str, npt.DTypeLike] = {"key": np.uint64, **self.extra}
        if self.relations > 1:
            types["relation"] = np.int32
        self._buckets = [
            {name: RawColumn(self.directory / f"{bucket}.{name}.cells", kind) for name, kind in types.items()}
            for bucket in range(-(-self._shards // self._width))
        ]

    def dealt(
        self, src: Integer[Rows, " n"], dst: Integer[Rows, " n"], relation: Integer[Rows, " n"], **extra: AnyArray
    ) -> list[dict[str, AnyArray]]:
        """A batch of edges, by bucket: rows, the relation of each, and the further columns. Any thread may do this."""
        columns: dict[str, AnyArray] = {"key": self._keys(src, dst), **extra}
        if self.relations > 1:
            columns["relation"] = relation
        return [{name: column[members] for name, column in columns.items()} for members in self._members(src)]

    def add(self, dealt: list[dict[str, AnyArray]]) -> None:
        """Take the next batch."""
        for bucket, columns in zip(self._buckets, dealt, strict=True):
            for name, column in columns.items():
                bucket[name].append(column)

    def sorted(self) -> Iterator[SortedEdges]:
        """All edges by source shard; of several relations those of a bucket relation after relation."""
        filled = [bucket for bucket in self._buckets if len(bucket["key"])]
        if len(filled) == 1:  # as a small relation has: a thread would take longer than this
            yield from self._sort(filled[0])
            return
        with ThreadPoolExecutor(self.cores, thread_name_prefix="cells") as pool:
            waiting = [pool.submit(self._sort, bucket) for bucket in filled[: self.cores]]
            for bucket in [*filled[self.cores :], *[None] * len(waiting)]:
                blocks = waiting.pop(0).result()
                if bucket is not None:
                    waiting.append(pool.submit(self._sort, bucket))
                yield from blocks

    def nothing(self) -> SortedEdges:
        """No edges, in the columns that there are."""
        return self._block(0, {name: np.zeros(0, kind) for name, kind in {"key": np.uint64, **self.extra}.items()})

    def _keys(self, src: Rows, dst: Rows) -> UInt64[U64, " n"]:
        shard_bits, source_bits, target_bits = map(np.uint64, self._bits)
        source, target = self.source.places, self.target.places
        key = (source.shard[src].astype(np.uint64) << shard_bits) | target.shard[dst].astype(np.uint64)
        key = (key << source_bits) | source.place[src].astype(np.uint64)
        return (key << target_bits) | target.place[dst].astype(np.uint64)

    def _members(self, src: Rows) -> list[Any]:
        """Which edges go to each bucket."""
        if len(self._buckets) == 1:
            return [slice(None)]
        numbers = self.source.places.shard[src] // np.uint16(self._width)
        ends = np.cumsum(np.bincount(numbers, minlength=len(self._buckets)))
        return np.split(np.argsort(numbers, kind="stable"), ends[:-1])

    def _sort(self, bucket: dict[str, RawColumn]) -> list[SortedEdges]:
        columns = {name: np.concatenate(list(column.batches())) for name, column in bucket.items()}
        for column in bucket.values():
            column.path.unlink()
        if list(columns) == ["key"]:  # the number is all there is, and sorted several times as fast as its place
            columns["key"].sort()
            return [self._block(0, columns)]
        order = np.argsort(columns["key"], kind="stable")
        if self.relations > 1:
            order = order[np.argsort(columns["relation"][order].astype(np.uint16), kind="stable")]
        columns = {name: column[order] for name, column in columns.items()}
        if self.relations == 1:
            return [self._block(0, columns)]
        names, first = np.unique(columns.pop("relation"), return_index=True)
        parts = zip(first.tolist(), [*first[1:].tolist(), None], strict=True)
        return [
            self._block(name, {key: column[start:stop] for key, column in columns.items()})
            for name, (start, stop) in zip(names.tolist(), parts, strict=True)
        ]

    def _block(self, relation: int, columns: dict[str, AnyArray]) -> SortedEdges:
        key = columns.pop("key")
        shard_bits, source_bits, target_bits = map(np.uint64, self._bits)
        cell = (key >> (source_bits + target_bits)).astype(np.int64)
        new = np.ones(len(cell), dtype=np.bool_)
        np.not_equal(cell[1:], cell[:-1], out=new[1:])
        source_shard = cell >> np.int64(shard_bits)
        target_shard = cell & np.int64(self._shards - 1)
        source = (key >> target_bits) & _low(source_bits)
        target = key & _low(target_bits)
        found: dict[str, AnyArray] = {
            "src": self.source.row(source_shard, source),
            "dst": self.target.row(target_shard, target),
            "src_place": source.astype(self.source.places.place.dtype),
            "dst_place": target.astype(self.target.places.place.dtype),
        }
        return SortedEdges(relation, cell[new], np.flatnonzero(new).astype(np.int64), found | columns)


def _low(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)
