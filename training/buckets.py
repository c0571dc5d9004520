"""The edges of a bucket: cells of the prepared graph, put together as the groups of an epoch have it, and indexed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.arrays import forget_pages
from bundle.errors import GraphError
from bundle.prepared import PreparedGraph, PreparedRelation
from bundle.sharded import CellEdges, ShardedGraph
from bundle.shards import ranges
from training.edges import BucketEdges, index_edges
from training.partition import BucketId, Partitioning, group_entities

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """All relations between two entity types, by number; `means` of their weights, None where all weigh alike."""

    types: tuple[int, int]
    relations: tuple[int, ...]
    means: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Buckets:
    """A graph as it is divided in an epoch."""

    graph: ShardedGraph
    groups: tuple[Group, ...]
    symmetric: tuple[bool, ...]
    partitionings: tuple[Partitioning, ...]
    threads: int = 1

    @property
    def partitions(self) -> int:
        """P."""
        return len(self.partitionings[0].sizes)

    def load(self, bucket: BucketId) -> tuple[BucketEdges, ...]:
        """Read one bucket's edges into memory, one item a group that has edges there."""
        found = (self._group(group, bucket) for group in self.groups)
        return tuple(edges for edges in found if edges is not None)

    def _group(self, group: Group, bucket: BucketId) -> BucketEdges | None:
        pieces = [piece for place in range(len(group.relations)) for piece in self._relation(group, place, bucket)]
        if not pieces:
            return None
        columns = tuple(np.concatenate([piece.columns[i] for piece in pieces]) for i in range(3))
        weight = None if group.means is None else np.concatenate([piece.weight for piece in pieces])
        source, target = (self.partitionings[kind] for kind in group.types)
        sizes = int(source.sizes[bucket.source]), int(target.sizes[bucket.target])
        return index_edges(group.types, sizes, (columns[0], columns[1], columns[2]), weight, self.threads)

    def _relation(self, group: Group, place: int, bucket: BucketId) -> Iterator["_Piece"]:
        """A relation's edges in the bucket; those of a symmetric one also turned round."""
        number = group.relations[place]
        edges = self.graph.relations[number]
        mean = 1.0 if group.means is None else group.means[place]
        source, target = (self.partitionings[kind] for kind in group.types)
        for turned in (False, True) if self.symmetric[number] else (False,):
            first, second = (bucket.target, bucket.source) if turned else (bucket.source, bucket.target)
            at = _Cells.between(edges, self.graph.shards, source.members(first), target, second)
            if len(at.positions) == 0:
                continue
            src = np.repeat(source.base[at.source_shard], at.counts) + edges.src_place[at.positions]
            dst = np.repeat(target.base[at.target_shard], at.counts) + edges.dst_place[at.positions]
            ends = (dst, src) if turned else (src, dst)
            weight = None
            if group.means is not None:
                weight = np.ones(len(src), dtype=np.float32)
                if edges.weight is not None:
                    weight = (edges.weight[at.positions] / np.float64(mean)).astype(np.float32)
            rel = np.full(len(src), number, dtype=np.int32)
            yield _Piece((ends[0].astype(np.int32), ends[1].astype(np.int32), rel), weight)
        for column in (edges.src_place, edges.dst_place, edges.weight, edges.cell, edges.start):
            forget_pages(column)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some edges of a bucket: sources, targets, relations; local rows."""

    columns: tuple[Int32[I32, " e"], Int32[I32, " e"], Int32[I32, " e"]]
    weight: Float32[F32, " e"] | None


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of a relation: where their edges are, how many each has, and its shards."""

    positions: Int64[npt.NDArray[np.int64], " e"]
    counts: Int64[npt.NDArray[np.int64], " c"]
    source_shard: Int64[npt.NDArray[np.int64], " c"]
    target_shard: Int64[npt.NDArray[np.int64], " c"]

    @classmethod
    def between(
        cls,
        edges: CellEdges,
        shards: int,
        sources: Int64[npt.NDArray[np.int64], " some"],
        target: Partitioning,
        partition: int,
    ) -> "_Cells":
        """Those from the shards `sources` to those of a partition. Cells of one source shard lie side by side."""
        low, high = (np.searchsorted(edges.cell, (sources + one) * shards) for one in (0, 1))
        chosen = ranges(low.astype(np.int64), (high - low).astype(np.int64))
        chosen = chosen[target.part[edges.cell[chosen] % shards] == partition]
        cells = edges.cell[chosen].astype(np.int64)
        starts, last = edges.start[chosen], chosen + 1 == len(edges.start)
        counts = np.where(last, len(edges), edges.start[np.where(last, 0, chosen + 1)]) - starts
        return cls(ranges(starts, counts), counts, cells // shards, cells % shards)


class Partitioner:
    """Groups shards to partitions, and so cells to buckets; each epoch has its own groups."""

    rows: tuple[Partitioning, ...]
    buckets: Buckets

    def __init__(
        self,
        prepared: PreparedGraph,
        graph: ShardedGraph,
        partitions: int,
        seed: int,
        edge_weights: bool,
        threads: int,
    ) -> None:
        """Raises GraphError for weights that are all 0."""
        self._graph, self._seed, self._threads = graph, seed, threads
        self._groups = relation_groups(prepared, edge_weights)
        self._symmetric = tuple(relation.symmetric for relation in prepared.relations)
        self.partitions, self.epoch = partitions, 0

    def regroup(self, epoch: int) -> None:
        """Take the groups of `epoch`. No edge moves."""
        self.epoch = epoch
        self.rows = group_entities(self._graph, self.partitions, self._seed, epoch)
        self.buckets = Buckets(self._graph, self._groups, self._symmetric, self.rows, self._threads)


def relation_groups(prepared: PreparedGraph, edge_weights: bool) -> tuple[Group, ...]:
    """The relations with edges by their pair of types. Raises GraphError for weights that are all 0."""
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    members: dict[tuple[int, int], list[PreparedRelation]] = {}
    for relation in prepared.relations:
        if len(relation.train):
            members.setdefault((number[relation.source], number[relation.target]), []).append(relation)
    groups = []
    for types, relations in sorted(members.items()):
        weighted = edge_weights and any(relation.train.weight is not None for relation in relations)
        means = tuple(map(_mean_weight, relations)) if weighted else None
        groups.append(Group(types, tuple(relation.index for relation in relations), means))
    return tuple(groups)


def training_edges(relation: PreparedRelation) -> int:
    """Edges trained a pass: those of a symmetric relation count both ways."""
    return len(relation.train) * (2 if relation.symmetric else 1)


def _mean_weight(relation: PreparedRelation) -> float:
    """The mean of the training edges' weights, in 64 bits: a sum of weights overflows 32 bits long before a weight.

    Raises GraphError where nothing can be scaled by it, which is when all weights are 0 or one is not finite.
    """
    if relation.train.weight is None or len(relation.train) == 0:
        return 1.0
    mean = float(np.mean(relation.train.weight, dtype=np.float64))
    forget_pages(relation.train.weight)
    if mean == 0 or not np.isfinite(mean):
        fault = "are all 0" if mean == 0 else "have no finite mean"
        raise GraphError(
            f"The weights of relation {relation.name!a:.80} {fault}: it would teach nothing. "
            "Correct the edge file, or set edge_weights = false."
        )
    return mean
