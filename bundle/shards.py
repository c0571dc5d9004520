"""Shards: entities dealt once, by a hash of their external id, into Q fixed parts of their type.

Entity e of any type lies in shard `XXH64(id, seed 42) mod Q`, so a shard never depends on what else is in the graph.
An entity's *place* is its rank, by id, in its shard. An edge lies in the *cell* of its source's and its target's shard.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, Integer, UInt16

from bundle.arrays import forget_pages
from bundle.hashing import BLOCK, SEED, hashes
from bundle.ids import IdTable

HASH = f"xxh64:{SEED}"
# Of a partition of many shards the sum is even, of one of few it is not: no graph has fewer than the least. A shard of
# at most SHARD_ENTITIES has places of 16 bits. The most: a relation has up to Q² cells, 16.8M.
LEAST_SHARDS, MOST_SHARDS = 256, 4096
SHARD_ENTITIES = 1 << 16
# Cell and both places are sorted as one number of 64 bits: two times 12 bits, and two times 20.
MOST_IN_SHARD = 1 << 20
# Rows below this fit 32 bits.
ROWS_OF_32_BITS = 1 << 31
Rows = npt.NDArray[np.integer]


def shard_count(largest: int) -> int:
    """Q for a graph whose largest type has so many entities: a power of two."""
    count = LEAST_SHARDS
    while count < MOST_SHARDS and largest > count * SHARD_ENTITIES:
        count *= 2
    return count


def row_type(entities: int) -> type[np.integer]:
    """The numbers that hold the rows of so many entities."""
    return np.int32 if entities <= ROWS_OF_32_BITS else np.int64


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one type shard after shard: those of shard s are `rows[starts[s]:starts[s + 1]]`, by place."""

    rows: Int64[npt.NDArray[np.int64], " n"]
    starts: Int64[npt.NDArray[np.int64], " q_plus_1"]

    @property
    def counts(self) -> Int64[npt.NDArray[np.int64], " q"]:
        """Entities of each shard."""
        return np.diff(self.starts)

    def of(self, shards: Integer[Rows, " some"]) -> Int64[npt.NDArray[np.int64], " m"]:
        """The rows of some shards, one after the other."""
        return self.rows[ranges(self.starts[shards], self.counts[shards])]


@dataclass(frozen=True, slots=True)
class Places:
    """Where each row of one type lies: its shard, its place there. 4 bytes an entity, 6 where shards are large."""

    shard: UInt16[npt.NDArray[np.uint16], " n"]
    place: Integer[Rows, " n"]


def shard_of(ids: IdTable, shards: int) -> UInt16[npt.NDArray[np.uint16], " n"]:
    """The shard of each row. Mapped ids leave resident memory again, block by block."""
    found = np.empty(len(ids), dtype=np.uint16)
    for start in range(0, len(ids), BLOCK):
        stop = min(start + BLOCK, len(ids))
        found[start:stop] = hashes(ids, start, stop) % np.uint64(shards)
        for name in ("values", "offsets", "utf8"):  # whichever the table has
            forget_pages(getattr(ids, name, None))
    return found


def by_shard(shard: UInt16[npt.NDArray[np.uint16], " n"], shards: int) -> ShardRows:
    """The rows grouped by shard; in each they ascend, as ids do."""
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(shard, minlength=shards))])
    return ShardRows(np.argsort(shard, kind="stable").astype(np.int64), starts.astype(np.int64))


def place_type(largest_shard: int) -> type[np.integer]:
    """The numbers that hold the places of a type."""
    return np.uint16 if largest_shard <= 1 << 16 else np.int32


def places(shard: UInt16[npt.NDArray[np.uint16], " n"], grouped: ShardRows) -> Places:
    """Shard and place of every row of `grouped`."""
    place = np.empty(len(shard), dtype=place_type(int(grouped.counts.max(initial=0))))
    for start in range(0, len(shard), BLOCK):
        rows = grouped.rows[start : start + BLOCK]
        place[rows] = np.arange(start, start + len(rows)) - grouped.starts[shard[rows]]
    return Places(shard, place)


def ranges(
    starts: Int64[npt.NDArray[np.int64], " n"], counts: Int64[npt.NDArray[np.int64], " n"]
) -> Int64[npt.NDArray[np.int64], " total"]:
    """start, start + 1, … of each range, one after the other."""
    before = np.cumsum(counts) - counts
    found: npt.NDArray[np.int64] = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - before, counts)
    return found
