"""The edges of a bucket: cells of the prepared graph, put together as the groups of an epoch have it, and indexed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.arrays import forget_pages
from bundle.errors import GraphError
from bundle.prepared import PreparedGraph, PreparedRelation
from bundle.sharded import CellEdges, ShardedGraph
from bundle.shards import ranges
from training.config import TrainConfig
from training.edges import BucketEdges, index_edges
from training.partition import BucketId, Partitioning, group_entities

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
# Relations of at most so many edges are put together in memory where a graph has MANY of them, up to so many edges.
SMALL_EDGES, TOGETHER_EDGES = 1 << 15, 1 << 21
MANY = 8


@dataclass(frozen=True, slots=True)
class Part:
    """Edges of a group: one relation's, mapped, or those of several small ones put together in memory.

    `relation` is the number of all edges' relation, or that of each cell's. Weights are divided by `mean`.
    """

    edges: CellEdges
    relation: int | Int32[I32, " c"]
    symmetric: bool
    mean: float = 1.0

    def edges_between(self, sources: Partitioning, targets: Partitioning, at: BucketId, shards: int) -> "_Piece | None":
        """The edges from one partition to another, None where there are none."""
        cells = self._cells(sources.members(at.source), targets, at.target, shards)
        starts = self.edges.start[cells]
        last = cells + 1 == len(self.edges.start)
        counts = np.where(last, len(self.edges), self.edges.start[np.where(last, 0, cells + 1)]) - starts
        positions = ranges(starts, counts)
        if len(positions) == 0:
            return None
        numbers = self.edges.cell[cells].astype(np.int64)
        src = np.repeat(sources.base[numbers // shards], counts) + self.edges.src_place[positions]
        dst = np.repeat(targets.base[numbers % shards], counts) + self.edges.dst_place[positions]
        weight = self.edges.weight
        if weight is not None:
            weight = (weight[positions] / np.float64(self.mean)).astype(np.float32)
        if isinstance(self.relation, int):
            rel = np.full(len(src), self.relation, dtype=np.int32)
        else:
            rel = np.repeat(self.relation[cells], counts)
        return _Piece(src.astype(np.int32), dst.astype(np.int32), rel, weight)

    def forget(self) -> None:
        """Take what was read out of resident memory."""
        edges = self.edges
        for column in (edges.src_place, edges.dst_place, edges.weight, edges.cell, edges.start):
            forget_pages(column)

    def _cells(
        self, sources: Int64[I64, " some"], targets: Partitioning, partition: int, shards: int
    ) -> Int64[I64, " c"]:
        """The cells from some shards to those of a partition. Cells of one source shard lie side by side."""
        cell = self.edges.cell  # asked for numbers of another type, NumPy would copy all cells
        low, high = (np.searchsorted(cell, ((sources + one) * shards).astype(cell.dtype)) for one in (0, 1))
        cells = ranges(low, high - low)
        mine: npt.NDArray[np.bool_] = targets.part[self.edges.cell[cells] % shards] == partition
        return cells[mine]


@dataclass(frozen=True, slots=True)
class Group:
    """All edges from one entity type to another."""

    types: tuple[int, int]
    parts: tuple[Part, ...]
    weighted: bool


@dataclass(frozen=True, slots=True)
class Buckets:
    """A graph as it is divided in an epoch."""

    shards: int
    groups: tuple[Group, ...]
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
        pieces = [piece for part in group.parts for piece in self._both_ways(group, part, bucket)]
        if not pieces:
            return None
        src, dst, rel = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("src", "dst", "rel"))
        weight = np.concatenate([piece.weights() for piece in pieces]) if group.weighted else None
        source, target = (self.partitionings[kind] for kind in group.types)
        sizes = int(source.sizes[bucket.source]), int(target.sizes[bucket.target])
        return index_edges(group.types, sizes, (src, dst, rel), weight, self.threads)

    def _both_ways(self, group: Group, part: Part, bucket: BucketId) -> "Iterator[_Piece]":
        """Edges of a part in the bucket; those of a symmetric relation also turned round."""
        source, target = (self.partitionings[kind] for kind in group.types)
        there = part.edges_between(source, target, bucket, self.shards)
        if there is not None:
            yield there
        turned = BucketId(bucket.target, bucket.source)
        back = part.edges_between(source, target, turned, self.shards) if part.symmetric else None
        if back is not None:
            yield _Piece(back.dst, back.src, back.rel, back.weight)
        part.forget()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some edges of a bucket; local rows."""

    src: Int32[I32, " e"]
    dst: Int32[I32, " e"]
    rel: Int32[I32, " e"]
    weight: Float32[F32, " e"] | None

    def weights(self) -> Float32[F32, " e"]:
        """1 where edges have no weight."""
        return np.ones(len(self.src), dtype=np.float32) if self.weight is None else self.weight


class Partitioner:
    """Groups shards to partitions, and so cells to buckets; each epoch has its own groups."""

    rows: tuple[Partitioning, ...]
    buckets: Buckets

    def __init__(
        self, prepared: PreparedGraph, graph: ShardedGraph, partitions: int, config: TrainConfig, threads: int = 1
    ) -> None:
        """Raises GraphError for weights that are all 0."""
        self._graph, self._seed, self._threads = graph, config.seed, threads
        self._groups = relation_groups(prepared, graph, config.edge_weights)
        self.partitions, self.epoch = partitions, 0

    def regroup(self, epoch: int) -> None:
        """Take the groups of `epoch`. No edge moves."""
        self.epoch = epoch
        self.rows = group_entities(self._graph, self.partitions, self._seed, epoch)
        self.buckets = Buckets(self._graph.shards, self._groups, self.rows, self._threads)


def relation_groups(prepared: PreparedGraph, graph: ShardedGraph, edge_weights: bool) -> tuple[Group, ...]:
    """The relations with edges by their pair of types. Raises GraphError for weights that are all 0."""
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    members: dict[tuple[int, int], list[PreparedRelation]] = {}
    for relation in prepared.relations:
        if len(relation.train):
            members.setdefault((number[relation.source], number[relation.target]), []).append(relation)
    small = put_together(prepared)
    groups = []
    for types, relations in sorted(members.items()):
        weighted = edge_weights and any(relation.train.weight is not None for relation in relations)
        parts = [
            Part(
                graph.relations[relation.index] if weighted else replace(graph.relations[relation.index], weight=None),
                relation.index,
                relation.symmetric,
                _mean_weight(relation) if weighted else 1.0,
            )
            for relation in relations
        ]
        large = [part for part in parts if part.relation not in small]
        for symmetric in (False, True):
            alike = [part for part in parts if part.relation in small and part.symmetric == symmetric]
            large += [_together(alike, weighted)] if alike else []
        groups.append(Group(types, tuple(large), weighted))
    return tuple(groups)


def put_together(prepared: PreparedGraph) -> set[int]:
    """The relations that are put together in memory: small ones, where a graph has many.

    To look for a bucket's cells takes as long in a relation of ten edges as in one of ten thousand.
    """
    small = sorted((len(one.train), one.index) for one in prepared.relations if 0 < len(one.train) <= SMALL_EDGES)
    fitting = np.cumsum([edges for edges, _ in small]) <= TOGETHER_EDGES
    return {index for (_, index), fits in zip(small, fitting, strict=True) if fits} if len(small) >= MANY else set()


def _together(parts: list[Part], weighted: bool) -> Part:
    """Several relations' edges as if they were one's, by cell and then by relation."""
    edges = [part.edges for part in parts]
    cell = np.concatenate([each.cell for each in edges])
    relation = np.repeat([part.relation for part in parts], [len(each.cell) for each in edges]).astype(np.int32)
    first = np.cumsum([0, *(len(each) for each in edges)])
    starts = np.concatenate([each.start + before for each, before in zip(edges, first, strict=False)])
    counts = np.diff(np.append(starts, first[-1]))
    order = np.argsort(cell, kind="stable")
    moved = ranges(starts[order], counts[order])
    weight = None
    if weighted:
        scaled = [
            np.ones(len(part.edges), dtype=np.float32)
            if part.edges.weight is None
            else (part.edges.weight / np.float64(part.mean)).astype(np.float32)
            for part in parts
        ]
        weight = np.concatenate(scaled)[moved]
    source, target = (
        np.concatenate([getattr(each, name) for each in edges])[moved] for name in ("src_place", "dst_place")
    )
    start = np.cumsum(counts[order]) - counts[order]
    return Part(CellEdges(cell[order], start, source, target, weight), relation[order], parts[0].symmetric)


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
