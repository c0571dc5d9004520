"""Edges sorted into bucket files: written before an epoch with its hash of rows, read bucket by bucket as it trains."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from bundle.arrays import forget_pages, read_array, save_array
from bundle.errors import GraphError
from bundle.prepared import Edges, PreparedGraph, PreparedRelation
from bundle.progress import Progress
from training.config import TrainConfig
from training.edges import Adjacency, BucketEdges, index_edges, offsets_of
from training.partition import BucketId, Partitioning, partition_entities

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]
BLOCK = 2**18
COLUMNS = ("src", "dst", "rel")


@dataclass(frozen=True, slots=True)
class BucketFiles:
    """The bucket files of a run. Group g holds all edges from one entity type to another, `groups[g]` by number."""

    path: Path
    groups: tuple[tuple[int, int], ...]
    weighted: tuple[bool, ...]
    partitionings: tuple[Partitioning, ...]

    @property
    def partitions(self) -> int:
        """P."""
        return len(self.partitionings[0].sizes)


@dataclass(frozen=True, slots=True)
class EdgeBlock:
    """Some edges of one relation, by row, on their way to their buckets."""

    src: Int32[I32, " e"]
    dst: Int32[I32, " e"]
    weight: Float32[F32, " e"] | None


def plan_bucket_files(
    prepared: PreparedGraph, path: Path, partitionings: tuple[Partitioning, ...], edge_weights: bool
) -> BucketFiles:
    """Which groups there are; writes nothing."""
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    groups = tuple(sorted({(number[r.source], number[r.target]) for r in prepared.relations if len(r.train)}))
    weighted = tuple(
        edge_weights and any(r.train.weight is not None for r in _members(prepared, group)) for group in groups
    )
    return BucketFiles(path, groups, weighted, partitionings)


def write_bucket_files(prepared: PreparedGraph, files: BucketFiles, progress: Progress) -> None:
    """Append all training edges to their buckets' files, then sort and index each, in place of what lies there.

    Raises GraphError for weights that are all 0.
    """
    total = sum(map(training_edges, prepared.relations))
    files.path.mkdir(parents=True, exist_ok=True)
    for stale in files.path.iterdir():
        stale.unlink()
    with progress.stage("sorting edges", total, "edges") as stage:
        for group, pair in enumerate(files.groups):
            for relation in _members(prepared, pair):
                for block in _blocks(relation, files.weighted[group]):
                    _append_block(files, group, relation.index, block)
                    stage.advance(len(block.src))
        for source, target, group in product(
            range(files.partitions), range(files.partitions), range(len(files.groups))
        ):
            _finish(files, BucketId(source, target), group)


class Partitioner:
    """Hashes rows to partitions and edges to buckets; each epoch has its own hash."""

    rows: tuple[Partitioning, ...]
    buckets: BucketFiles

    def __init__(
        self, prepared: PreparedGraph, path: Path, partitions: int, config: TrainConfig, progress: Progress
    ) -> None:
        self._prepared, self._path, self._config, self._progress = prepared, path, config, progress
        self.partitions, self.epoch = partitions, 0

    def repartition(self, epoch: int, write: bool = True) -> None:
        """Take the hash of `epoch`, and write the edges so unless another process does. Raises GraphError."""
        self.epoch = epoch
        self.rows = partition_entities(self._prepared, self.partitions, self._config.seed, epoch)
        self.buckets = plan_bucket_files(self._prepared, self._path, self.rows, self._config.edge_weights)
        if write:
            write_bucket_files(self._prepared, self.buckets, self._progress)


def load_bucket(files: BucketFiles, bucket: BucketId) -> tuple[BucketEdges, ...]:
    """Read one bucket's edges into memory, one item a group that has edges there."""
    present = [g for g in range(len(files.groups)) if _file(files, bucket, g, "src").exists()]
    return tuple(_load(files, bucket, group) for group in present)


def training_edges(relation: PreparedRelation) -> int:
    """Edges trained a pass: those of a symmetric relation count both ways."""
    return len(relation.train) * (2 if relation.symmetric else 1)


def _members(prepared: PreparedGraph, group: tuple[int, int]) -> list[PreparedRelation]:
    source, target = (prepared.entities[i].name for i in group)
    return [r for r in prepared.relations if (r.source, r.target) == (source, target)]


def _blocks(relation: PreparedRelation, weighted: bool) -> Iterator[EdgeBlock]:
    """The relation's edges in pieces, weights scaled to mean 1; a symmetric relation's edges also turned round."""
    mean = _mean_weight(relation) if weighted else 1.0
    for start in range(0, len(relation.train), BLOCK):
        piece = slice(start, start + BLOCK)
        src, dst = np.array(relation.train.src[piece]), np.array(relation.train.dst[piece])
        weight = None
        if weighted:
            weight = np.ones(len(src), dtype=np.float32)
            if relation.train.weight is not None:
                weight = (relation.train.weight[piece] / np.float64(mean)).astype(np.float32)
        for column in (relation.train.src, relation.train.dst, relation.train.weight):
            forget_pages(column)
        for source, target in Edges(src, dst).directed(relation.symmetric):
            yield EdgeBlock(source, target, weight)


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


def _append_block(files: BucketFiles, group: int, relation: int, block: EdgeBlock) -> None:
    """Append a block's edges to the raw files of their buckets, as partition-local rows."""
    source, target = (files.partitionings[i] for i in files.groups[group])
    bucket = source.part[block.src].astype(np.int32) * files.partitions + target.part[block.dst]
    order = np.argsort(bucket, kind="stable")
    ends = np.cumsum(np.bincount(bucket, minlength=files.partitions**2))
    columns = {"src": source.local[block.src], "dst": target.local[block.dst]}
    for number in np.unique(bucket).tolist():
        at = order[ends[number - 1] if number else 0 : ends[number]]
        where = BucketId(*divmod(number, files.partitions))
        for name, column in columns.items():
            _append(_raw(files, where, group, name), column[at])
        _append(_raw(files, where, group, "rel"), np.full(len(at), relation, dtype=np.int32))
        if block.weight is not None:
            _append(_raw(files, where, group, "weight"), block.weight[at])


def _append(path: Path, values: npt.NDArray[np.generic]) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)


def _finish(files: BucketFiles, bucket: BucketId, group: int) -> None:
    """Turn raw columns into sorted, indexed `.npy` files."""
    raw = {name: _raw(files, bucket, group, name) for name in (*COLUMNS, "weight")}
    if not raw["src"].exists():
        return
    src, dst, rel = (np.fromfile(raw[name], dtype=np.int32) for name in COLUMNS)
    weight = np.fromfile(raw["weight"], dtype=np.float32) if files.weighted[group] else None
    for path in raw.values():
        path.unlink(missing_ok=True)
    types = files.groups[group]
    edges = index_edges(types, _sizes(files, bucket, types), (src, dst, rel), weight)
    arrays = {"src": edges.src, "dst": edges.dst, "rel": edges.rel}
    arrays |= {"in_neighbour": edges.into.neighbour, "in_relation": edges.into.relation}
    for name, column in arrays.items():
        save_array(_file(files, bucket, group, name), column, durable=False)
    save_array(_file(files, bucket, group, "in_offsets"), edges.into.offsets, durable=False)
    if edges.weight is not None:
        save_array(_file(files, bucket, group, "weight"), edges.weight, durable=False)


def _load(files: BucketFiles, bucket: BucketId, group: int) -> BucketEdges:
    types = files.groups[group]
    sizes = _sizes(files, bucket, types)

    def column(name: str) -> npt.NDArray[np.int32]:
        return read_array(_file(files, bucket, group, name))

    src, dst, rel = (column(name) for name in COLUMNS)
    weight = read_array(_file(files, bucket, group, "weight")) if files.weighted[group] else None
    into = Adjacency(
        read_array(_file(files, bucket, group, "in_offsets")), column("in_neighbour"), column("in_relation")
    )
    return BucketEdges(*types, *sizes, dst, src, rel, weight, Adjacency(offsets_of(src, sizes[0]), dst, rel), into)


def _sizes(files: BucketFiles, bucket: BucketId, types: tuple[int, int]) -> tuple[int, int]:
    source, target = (files.partitionings[i] for i in types)
    return int(source.sizes[bucket.source]), int(target.sizes[bucket.target])


def _raw(files: BucketFiles, bucket: BucketId, group: int, name: str) -> Path:
    return files.path / f"{bucket.source:04d}-{bucket.target:04d}.{group}.{name}.raw"


def _file(files: BucketFiles, bucket: BucketId, group: int, name: str) -> Path:
    return files.path / f"{bucket.source:04d}-{bucket.target:04d}.{group}.{name}.npy"
