"""What a graph holds: counts, degrees, reciprocity, coverage, repeats and self-loops, relation by relation."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, UInt64

from bundle.prepared import Edges, PreparedGraph, PreparedRelation
from bundle.progress import SILENT, Progress
from graph.dedupe import BUCKET_EDGES, bucket_of
from graph.prepare import prepare
from graph.spool import RawColumn

# Edges are counted this many at a time.
_CHUNK = 1 << 20
# A graph of more relations than this is described in a table, one line each.
_MAX_WHOLE = 12


@dataclass(frozen=True, slots=True)
class Degrees:
    """Degrees of the entities that take part in a relation at one of its ends."""

    entities: int
    coverage: float  # share of the type's entities that take part
    min: int
    median: float
    p90: float
    p99: float
    max: int
    mean: float


@dataclass(frozen=True, slots=True)
class RelationDescription:
    """One relation; all counts are after repeats and self-loops were left out, held-out edges included."""

    name: str
    source: str
    target: str
    coverage: str
    symmetric: bool
    edges: int
    train: int
    valid: int
    test: int
    unseen: int  # held-out edges with an end that is in no training edge of any relation
    duplicates: int
    self_loops: int
    sources: Degrees
    targets: Degrees
    reciprocity: float | None  # share of edges whose reverse is there too; None between two types


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """A whole graph; `str` of it is a report for people."""

    graph: str
    digest: str
    entities: dict[str, int]
    relations: tuple[RelationDescription, ...]

    def __str__(self) -> str:
        return report(self)


def describe(graph_toml: Path, progress: Progress = SILENT) -> GraphDescription:
    """Read the graph that `graph_toml` describes and count; it is prepared in the system's directory of passing files.

    Raises GraphFileError, EdgeFileError, DiskFull.
    """
    with tempfile.TemporaryDirectory(prefix="twhin-describe-") as directory:
        prepared = prepare(graph_toml, Path(directory) / "graph", progress)
        return describe_prepared(prepared, str(graph_toml), Path(directory), progress)


def describe_prepared(graph: PreparedGraph, name: str, work: Path, progress: Progress = SILENT) -> GraphDescription:
    """Describe a prepared graph; `work` is a directory for files of passing use."""
    in_training = {entity.name: np.zeros(entity.count, dtype=np.bool_) for entity in graph.entities}
    for relation in graph.relations:
        for src, dst in _chunks(relation.train):
            in_training[relation.source][src] = True
            in_training[relation.target][dst] = True
    relations = []
    with progress.stage("counting", len(graph.relations), "relations") as stage:
        for relation in graph.relations:
            relations.append(_relation(relation, in_training, work))
            stage.advance()
    return GraphDescription(name, graph.digest, {e.name: e.count for e in graph.entities}, tuple(relations))


def _relation(
    relation: PreparedRelation, in_training: dict[str, npt.NDArray[np.bool_]], work: Path
) -> RelationDescription:
    parts = (relation.train, relation.valid, relation.test)
    sources, targets = zip(*(pair for part in parts for pair in part.directed(relation.symmetric)), strict=True)
    return RelationDescription(
        name=relation.name,
        source=relation.source,
        target=relation.target,
        coverage=relation.coverage,
        symmetric=relation.symmetric,
        edges=sum(len(part) for part in parts),
        train=len(relation.train),
        valid=len(relation.valid),
        test=len(relation.test),
        unseen=sum(_unseen(part, in_training[relation.source], in_training[relation.target]) for part in parts[1:]),
        duplicates=relation.duplicates,
        self_loops=relation.self_loops,
        sources=_degrees(sources, len(in_training[relation.source])),
        targets=_degrees(targets, len(in_training[relation.target])),
        reciprocity=_reciprocity(relation, parts, work),
    )


def _chunks(edges: Edges) -> Iterator[tuple[Int32[npt.NDArray[np.int32], " n"], Int32[npt.NDArray[np.int32], " n"]]]:
    for start in range(0, len(edges), _CHUNK):
        yield edges.src[start : start + _CHUNK], edges.dst[start : start + _CHUNK]


def _unseen(edges: Edges, sources: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_]) -> int:
    return sum(int(np.count_nonzero(~(sources[src] & targets[dst]))) for src, dst in _chunks(edges))


def _degrees(columns: tuple[Int32[npt.NDArray[np.int32], " _"], ...], entities: int) -> Degrees:
    counts = np.zeros(entities, dtype=np.int64)
    for column in columns:
        for start in range(0, len(column), _CHUNK):
            counts += np.bincount(column[start : start + _CHUNK], minlength=entities)
    part = counts[counts > 0]
    if len(part) == 0:
        return Degrees(0, 0.0, 0, 0.0, 0.0, 0.0, 0, 0.0)
    median, p90, p99 = (float(value) for value in np.percentile(part, [50, 90, 99]))
    share = len(part) / entities
    return Degrees(len(part), share, int(part.min()), median, p90, p99, int(part.max()), float(part.mean()))


def _reciprocity(relation: PreparedRelation, parts: tuple[Edges, ...], work: Path) -> float | None:
    if relation.source != relation.target or relation.symmetric:
        return None
    edges = sum(len(part) for part in parts)
    if edges == 0:
        return None
    buckets = _deal(parts, edges, work)
    returned = sum(_returned(np.concatenate(list(bucket.batches()))) for bucket in buckets if len(bucket))
    for bucket in buckets:
        bucket.path.unlink(missing_ok=True)
    return returned / edges


def _deal(parts: tuple[Edges, ...], edges: int, work: Path) -> list[RawColumn]:
    """Deal the edges into buckets by a hash of the unordered pair, so that an edge and its reverse meet in memory."""
    count = -(-edges // BUCKET_EDGES)
    buckets = [RawColumn(work / f"pairs.{i}", np.uint64) for i in range(count)]
    for part in parts:
        for src, dst in _chunks(part):
            keys = _key(src, dst)
            numbers = bucket_of(_key(np.minimum(src, dst), np.maximum(src, dst)), count)
            order = np.argsort(numbers, kind="stable")
            ends = np.cumsum(np.bincount(numbers.astype(np.int64), minlength=count))
            for bucket, members in zip(buckets, np.split(order, ends[:-1]), strict=True):
                bucket.append(keys[members])
    return buckets


def _key(
    src: Int32[npt.NDArray[np.int32], " n"], dst: Int32[npt.NDArray[np.int32], " n"]
) -> UInt64[npt.NDArray[np.uint64], " n"]:
    keys: npt.NDArray[np.uint64] = (src.astype(np.uint64) << np.uint64(32)) | dst.astype(np.uint64)
    return keys


def _returned(keys: UInt64[npt.NDArray[np.uint64], " n"]) -> int:
    reverse = (keys << np.uint64(32)) | (keys >> np.uint64(32))
    return int(np.isin(reverse, keys).sum())


def report(graph: GraphDescription) -> str:
    """The description as lines of text."""
    lines = [f"{graph.graph}  (digest {graph.digest[:12]})", "", "entities"]
    lines += [f"  {name:<20} {count:>14,}" for name, count in graph.entities.items()]
    if len(graph.relations) > _MAX_WHOLE:
        return "\n".join([*lines, "", *_table(graph.relations)])
    for relation in graph.relations:
        lines += ["", *_relation_lines(relation)]
    return "\n".join(lines)


def _table(relations: tuple[RelationDescription, ...]) -> list[str]:
    """One line for each relation, where there are too many to show each whole."""
    width = min(max(len(relation.name) for relation in relations), 60)
    columns = ("training", "valid", "test", "unseen", "duplicates", "self-loops")
    lines = [f"  {'relation':<{width}}" + "".join(f"{name:>12}" for name in columns)]
    totals = [0] * len(columns)
    for r in relations:
        counts = [r.train, r.valid, r.test, r.unseen, r.duplicates, r.self_loops]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        lines.append(f"  {r.name[:width]:<{width}}" + "".join(f"{count:>12,}" for count in counts))
    return [*lines, f"  {'all':<{width}}" + "".join(f"{total:>12,}" for total in totals)]


def _relation_lines(relation: RelationDescription) -> list[str]:
    arrow = "—" if relation.symmetric else "→"
    lines = [
        f"{relation.name}  ({relation.source} {arrow} {relation.target}, {relation.coverage} coverage)",
        f"  edges {relation.edges:,}: {relation.train:,} training, {relation.valid:,} valid, {relation.test:,} test",
        f"  left out: {relation.duplicates:,} duplicates, {relation.self_loops:,} self-loops",
    ]
    if relation.unseen:
        lines.append(f"  held out, but with an end unseen in training: {relation.unseen:,}")
    if relation.reciprocity is not None:
        lines.append(f"  reciprocity {relation.reciprocity:.1%}")
    return [*lines, _degree_line("sources", relation.sources), _degree_line("targets", relation.targets)]


def _degree_line(label: str, degrees: Degrees) -> str:
    return (
        f"  {label} {degrees.entities:,} ({degrees.coverage:.1%} of the type), edges each: min {degrees.min:,}, "
        f"median {degrees.median:,.0f}, p90 {degrees.p90:,.0f}, p99 {degrees.p99:,.0f}, max {degrees.max:,}, "
        f"mean {degrees.mean:,.1f}"
    )
