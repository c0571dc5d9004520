"""Shards of prepared graphs that were written without any."""

from pathlib import Path

from bundle.prepared import PreparedGraph
from bundle.progress import SILENT
from bundle.sharded import deal
from training.buckets import Partitioner
from training.config import TrainConfig
from training.dealing import deal_edges, open_dealt
from training.partition import Partitioning, group_shards


def groups(graph: PreparedGraph, partitions: int, epoch: int = 0) -> tuple[Partitioning, ...]:
    """The entities of every type in so many partitions; in one they are in the order of rows."""
    shards = 1 if partitions == 1 else 256
    types = [deal(entity.ids, shards).rows for entity in graph.entities]
    return tuple(group_shards(rows, partitions, 1, kind, epoch) for kind, rows in enumerate(types))


def partitioner_of(graph: PreparedGraph, path: Path, config: TrainConfig) -> Partitioner:
    """The edges of a graph of format 1, dealt below `path`, as they are divided in the first epoch."""
    path.mkdir(parents=True, exist_ok=True)
    deal_edges(graph, path / "shards", SILENT)
    partitioner = Partitioner(graph, open_dealt(graph, path / "shards"), config.partitions, config)
    partitioner.regroup(0)
    return partitioner
