"""Algorithm 1's division: the rows of every entity type hashed to P partitions, and so the edges to P² buckets."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, Int64, UInt16

from bundle.prepared import PreparedGraph
from training.counter_rng import below, draws, stream_seed

MAX_PARTITIONS = 1024
BLOCK = 2**17
HASH_STREAM = 3


class BucketId(NamedTuple):
    """Edges whose sources lie in partition `source` and whose targets lie in partition `target`."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Partitioning:
    """Where each row of one entity type lives: row v is `local[v]` of partition `part[v]`; local order is row order."""

    part: UInt16[npt.NDArray[np.uint16], " n"]
    local: Int32[npt.NDArray[np.int32], " n"]
    sizes: Int64[npt.NDArray[np.int64], " p"]

    def rows(self, partition: int) -> Int64[npt.NDArray[np.int64], " m"]:
        """The rows of one partition, ascending."""
        return np.flatnonzero(self.part == partition)


def partition_rows(n: int, partitions: int, *stream: int) -> Partitioning:
    """Hash n rows to partitions; the same `stream` numbers give the same hash."""
    if partitions == 1:
        return Partitioning(np.zeros(n, np.uint16), np.arange(n, dtype=np.int32), np.array([n], dtype=np.int64))
    seed, sizes = stream_seed(*stream, HASH_STREAM), np.zeros(partitions, dtype=np.int64)
    part, local = np.empty(n, dtype=np.uint16), np.empty(n, dtype=np.int32)
    for start in range(0, n, BLOCK):
        piece = slice(start, min(start + BLOCK, n))
        part[piece] = below(draws(seed, start, piece.stop - start), partitions)
        local[piece] = sizes[part[piece]] + _rank_among_equals(part[piece])
        sizes += np.bincount(part[piece], minlength=partitions)
    return Partitioning(part, local, sizes)


def partition_entities(prepared: PreparedGraph, partitions: int, seed: int, epoch: int = 0) -> tuple[Partitioning, ...]:
    """Hash the rows of every entity type for one epoch."""
    return tuple(partition_rows(entity.count, partitions, seed, i, epoch) for i, entity in enumerate(prepared.entities))


def _rank_among_equals(values: UInt16[npt.NDArray[np.uint16], " b"]) -> Int64[npt.NDArray[np.int64], " b"]:
    """How many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values)
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
