"""Algorithm 1's division: shards of every entity type grouped into P partitions, and so cells into P² buckets."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.errors import ConfigError
from bundle.sharded import ShardedGraph
from bundle.shards import ShardRows
from training.counter_rng import stream_seed

MAX_PARTITIONS = 1024
# Fewer shards would meet in other partitions too seldom: docs/training.md has what that costs.
SHARDS_A_PARTITION = 4
GROUP_STREAM = 3
I64 = npt.NDArray[np.int64]


class BucketId(NamedTuple):
    """Edges whose sources lie in partition `source` and whose targets lie in partition `target`."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Partitioning:
    """Where the entities of one type live in an epoch: those of shard s from row `base[s]` of partition `part[s]` on.

    A partition holds its shards in ascending order, each by place.
    """

    shards: ShardRows
    part: Int64[I64, " q"]
    base: Int64[I64, " q"]
    sizes: Int64[I64, " p"]

    def members(self, partition: int) -> Int64[I64, " some"]:
        """The shards of one partition, ascending."""
        return np.flatnonzero(self.part == partition)

    def rows(self, partition: int) -> Int64[I64, " m"]:
        """The rows of one partition, in its order."""
        return self.shards.of(self.members(partition))


def group_shards(shards: ShardRows, partitions: int, *stream: int) -> Partitioning:
    """Group the shards at random, as many to each partition or one more; the same `stream` gives the same groups."""
    counts = shards.counts
    part = np.zeros(len(counts), dtype=np.int64)
    if partitions > 1:
        shuffled = np.random.default_rng(stream_seed(*stream, GROUP_STREAM)).permutation(len(counts))
        part[shuffled] = np.arange(len(counts)) % partitions
    base, sizes = np.zeros(len(counts), dtype=np.int64), np.zeros(partitions, dtype=np.int64)
    for partition in range(partitions):
        mine = np.flatnonzero(part == partition)
        ends = np.cumsum(counts[mine])
        base[mine] = ends - counts[mine]
        sizes[partition] = counts[mine].sum()
    return Partitioning(shards, part, base, sizes)


def group_entities(graph: ShardedGraph, partitions: int, seed: int, epoch: int) -> tuple[Partitioning, ...]:
    """Group the shards of every entity type for one epoch."""
    return tuple(group_shards(shards, partitions, seed, kind, epoch) for kind, shards in enumerate(graph.types))


def most_partitions(shards: int) -> int:
    """The most partitions that so many shards allow."""
    return min(MAX_PARTITIONS, shards // SHARDS_A_PARTITION)


def check_enough_shards(partitions: int, shards: int) -> None:
    """Raise ConfigError where partitions would have too few shards each."""
    if partitions > most_partitions(shards):
        raise ConfigError(
            f"partitions is {partitions}, expected at most {most_partitions(shards)}: the graph has {shards} shards, "
            f"and a partition groups {SHARDS_A_PARTITION} of them or more."
        )
