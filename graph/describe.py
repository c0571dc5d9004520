"""What a graph holds: counts, attributes, degrees, reciprocity, repeats and self-loops, relation by relation."""

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, UInt64
from rich.cells import cell_len

from bundle.attributes import Attribute, AttributeKind, Categories, Scalars
from bundle.prepared import Edges, EntityTable, PreparedGraph, PreparedRelation
from bundle.progress import SILENT, Progress
from bundle.scratch import RawColumn
from bundle.text import printable
from graph.dedupe import BUCKET_EDGES, deal
from graph.held_out import HeldOut, chunks, held_out_counts, pair_keys
from graph.prepare import prepare, write_here
from graph.schema import read_graph_file
from graph.source import AttributeInput, EdgeInput, find_attributes, find_inputs

# Edges are counted this many at a time.
_CHUNK = 1 << 20
# A graph of more relations than this is described in a table, one line each.
_MAX_WHOLE = 12
# Beside a longer name a line has no room for the numbers.
_NAME_CELLS = 60
# An edge that weighs less than this share of the mean teaches next to nothing.
NEGLIGIBLE = 1e-6
# From 1971 to 2100, in seconds since 1970: smaller numbers are rather years, days or places in an order.
_DATED = (31_536_000, 4_102_444_800)
# Dates from 1973 to 5138 in each unit: no two of them overlap.
_UNITS = [
    (name, scale * 10**8, scale * 10**11)
    for name, scale in (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
]


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
class Weights:
    """The weights of a relation's training edges; training scales them to mean 1."""

    min: float
    mean: float
    max: float
    negligible: int  # edges whose weight is positive and less than a millionth of the mean


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
    trained: int  # held-out edges that are training edges as well
    unseen: int  # held-out edges with an end that is in no training edge of any relation
    duplicates: int
    self_loops: int
    sources: Degrees
    targets: Degrees
    weights: Weights | None
    times: tuple[int, int] | None  # of the training edges, the first and the last
    reciprocity: float | None  # share of edges whose reverse is there too; None between two types


@dataclass(frozen=True, slots=True)
class AttributeDescription:
    """One attribute of an entity type: what its column was taken for, and how many entities have a value."""

    name: str
    kind: AttributeKind
    present: int
    distinct: int | None  # different values of a category; None of the other kinds


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """A whole graph; `str` of it is a report for people."""

    graph: str
    digest: str
    entities: dict[str, int]
    attributes: dict[str, tuple[AttributeDescription, ...]]  # of the types that have any
    relations: tuple[RelationDescription, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return report(self)


def describe(graph_toml: Path, progress: Progress = SILENT) -> GraphDescription:
    """Read the graph that `graph_toml` describes and count; it is prepared in the system's directory of passing files.

    Raises GraphFileError, EdgeFileError, DiskFull.
    """
    with tempfile.TemporaryDirectory(prefix="twhin-describe-") as directory:
        engine = partial(write_here, durable=False)
        prepared = prepare(graph_toml, Path(directory) / "graph", progress, engine=engine)
        description = describe_prepared(prepared, str(graph_toml), Path(directory), progress)
    graph = read_graph_file(graph_toml)
    inputs: list[EdgeInput | AttributeInput] = [*find_inputs(graph, graph_toml), *find_attributes(graph, graph_toml)]
    repeats = [
        f"{path} is reached under another name as well, and read once." for read in inputs for path in read.repeats
    ]
    return replace(description, warnings=(*repeats, *description.warnings))


def describe_prepared(graph: PreparedGraph, name: str, work: Path, progress: Progress = SILENT) -> GraphDescription:
    """Describe a prepared graph; `work` is a directory for files of passing use."""
    entities = {entity.name: entity.count for entity in graph.entities}
    relations = []
    with progress.stage("counting", len(graph.relations), "relations") as stage:
        for relation, held_out in zip(graph.relations, held_out_counts(graph), strict=True):
            relations.append(_relation(relation, held_out, entities, work))
            stage.advance()
    lines = (line for relation in relations for line in (*_weight_warnings(relation), *_time_warnings(relation)))
    warnings = (*graph.warnings(), *lines)
    attributes = {entity.name: _attributes(entity) for entity in graph.entities if entity.attributes}
    return GraphDescription(name, graph.digest, entities, attributes, tuple(relations), warnings)


def _attributes(entity: EntityTable) -> tuple[AttributeDescription, ...]:
    return tuple(
        AttributeDescription(
            entry.name,
            entry.kind,
            _present(attribute),
            len(attribute.vocabulary) if isinstance(attribute, Categories) else None,
        )
        for entry, attribute in entity.attributes
    )


def _present(attribute: Attribute) -> int:
    """How many entities have a value."""
    if isinstance(attribute, Scalars):
        return int(np.count_nonzero(attribute.has()))
    starts = attribute.codes.indptr if isinstance(attribute, Categories) else attribute.offsets
    return int(np.count_nonzero(np.diff(starts)))


def _relation(
    relation: PreparedRelation, held_out: HeldOut, entities: dict[str, int], work: Path
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
        trained=held_out.trained,
        unseen=held_out.unseen,
        duplicates=relation.duplicates,
        self_loops=relation.self_loops,
        sources=_degrees(sources, entities[relation.source]),
        targets=_degrees(targets, entities[relation.target]),
        weights=_weights(relation.train),
        times=_times(relation.train),
        reciprocity=_reciprocity(relation, parts, work),
    )


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


def _weights(edges: Edges) -> Weights | None:
    if edges.weight is None or len(edges) == 0:
        return None
    mean = float(np.mean(edges.weight, dtype=np.float64))
    negligible = np.count_nonzero((edges.weight > 0) & (edges.weight < NEGLIGIBLE * mean))
    return Weights(float(edges.weight.min()), mean, float(edges.weight.max()), int(negligible))


def _times(edges: Edges) -> tuple[int, int] | None:
    if edges.time is None or len(edges) == 0:
        return None
    return int(edges.time.min()), int(edges.time.max())


def _weight_warnings(relation: RelationDescription) -> list[str]:
    if relation.weights is not None and relation.weights.max == 0:
        return [
            f"{relation.name}: all weights are 0, of which nothing is learnt: training will refuse them, unless it is "
            "told edge_weights = false. Correct the edge file."
        ]
    if relation.weights is None or relation.weights.negligible <= relation.train / 2:
        return []
    return [
        f"{relation.name}: {relation.weights.negligible:,} of {relation.train:,} training edges weigh less than a "
        f"millionth of the mean, because some weigh up to {relation.weights.max:.3g}: they teach next to nothing. "
        "Correct weights that are none, or cap them."
    ]


def _time_warnings(relation: RelationDescription) -> list[str]:
    """Seconds beside milliseconds look like thousands of years: the latest edges are then those of the finer unit."""
    if relation.times is None:
        return []
    first, last = (next((unit for unit in _UNITS if unit[1] <= time < unit[2]), None) for time in relation.times)
    if first is None or last is None or first == last:
        return []
    return [
        f"{relation.name}: the times go from {relation.times[0]}, a date in {first[0]}, to {relation.times[1]}, one in "
        f"{last[0]}: where both are meant, a split by time and the newest interests go by the unit. Write one unit."
    ]


def _reciprocity(relation: PreparedRelation, parts: tuple[Edges, ...], work: Path) -> float | None:
    if relation.source != relation.target or relation.symmetric:
        return None
    edges = sum(len(part) for part in parts)
    if edges == 0:
        return None
    buckets = _pair_buckets(parts, edges, work)
    returned = sum(_returned(np.concatenate(list(bucket.batches()))) for bucket in buckets if len(bucket))
    for bucket in buckets:
        bucket.path.unlink(missing_ok=True)
    return returned / edges


def _pair_buckets(parts: tuple[Edges, ...], edges: int, work: Path) -> list[RawColumn]:
    """Deal the edges into buckets by a hash of the unordered pair, so that an edge and its reverse meet in memory."""
    count = -(-edges // BUCKET_EDGES)
    buckets = [RawColumn(work / f"pairs.{i}", np.uint64) for i in range(count)]
    for part in parts:
        for src, dst in chunks(part):
            keys = pair_keys(src, dst, symmetric=False)
            for bucket, members in zip(buckets, deal(pair_keys(src, dst, symmetric=True), count), strict=True):
                bucket.append(keys[members])
    return buckets


def _returned(keys: UInt64[npt.NDArray[np.uint64], " n"]) -> int:
    reverse = (keys << np.uint64(32)) | (keys >> np.uint64(32))
    return int(np.isin(reverse, keys).sum())


def report(graph: GraphDescription) -> str:
    """The description as lines of text."""
    lines = [f"{printable(graph.graph)}  (digest {graph.digest[:12]})", "", "entities"]
    lines += [f"  {name:<20} {count:>14,}" for name, count in graph.entities.items()]
    for entity, attributes in graph.attributes.items():
        lines += ["", f"attributes of {entity}", *(_attribute_line(attribute) for attribute in attributes)]
    if len(graph.relations) > _MAX_WHOLE:
        lines += ["", *_table(graph.relations)]
    else:
        for relation in graph.relations:
            lines += ["", *_relation_lines(relation)]
    if graph.warnings:
        lines += ["", "warnings", *(f"  {printable(warning)}" for warning in graph.warnings)]
    return "\n".join(lines)


def _attribute_line(attribute: AttributeDescription) -> str:
    values = "" if attribute.distinct is None else f", {attribute.distinct:,} different"
    return f"  {printable(attribute.name):<20} {attribute.kind:<9} {attribute.present:>14,} have one{values}"


def _table(relations: tuple[RelationDescription, ...]) -> list[str]:
    """One line for each relation, where there are too many to show each whole."""
    names = [printable(relation.name) for relation in relations]
    # A name that leaves no room for the numbers has a line of its own.
    widths = [cell_len(name) for name in names]
    width = max(len("relation"), *(each for each in widths if each <= _NAME_CELLS), 0)
    columns = ("training", "valid", "test", "trained", "unseen", "duplicates", "self-loops")
    lines = [f"  {'relation':<{width}}" + "".join(f"{name:>12}" for name in columns)]
    totals = [0] * len(columns)
    for name, cells, r in zip(names, widths, relations, strict=True):
        counts = [r.train, r.valid, r.test, r.trained, r.unseen, r.duplicates, r.self_loops]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        if cells > width:
            lines.append(f"  {name}")
        start = " " * width if cells > width else name + " " * (width - cells)
        lines.append(f"  {start}" + "".join(f"{count:>12,}" for count in counts))
    return [*lines, f"  {'all':<{width}}" + "".join(f"{total:>12,}" for total in totals)]


def _relation_lines(relation: RelationDescription) -> list[str]:
    arrow = "—" if relation.symmetric else "→"
    lines = [
        f"{printable(relation.name)}  ({relation.source} {arrow} {relation.target}, {relation.coverage} coverage)",
        f"  edges {relation.edges:,}: {relation.train:,} training, {relation.valid:,} valid, {relation.test:,} test",
        f"  left out: {relation.duplicates:,} duplicates, {relation.self_loops:,} self-loops",
    ]
    if relation.trained:
        lines.append(f"  held out, but training edges as well: {relation.trained:,}")
    if relation.unseen:
        lines.append(f"  held out, but with an end unseen in training: {relation.unseen:,}")
    if relation.weights is not None:
        lines.append(
            f"  weights: min {relation.weights.min:.3g}, mean {relation.weights.mean:.3g}, "
            f"max {relation.weights.max:.3g}"
        )
    if relation.times is not None:
        lines.append(f"  times of the training edges: {_moment(relation.times[0])} to {_moment(relation.times[1])}")
    if relation.reciprocity is not None:
        lines.append(f"  reciprocity {relation.reciprocity:.1%}")
    return [*lines, _degree_line("sources", relation.sources), _degree_line("targets", relation.targets)]


def _moment(time: int) -> str:
    """The number, and the date that it is if it counts seconds since 1970, as far as that is one to be expected."""
    if not _DATED[0] <= time < _DATED[1]:
        return f"{time}"
    return f"{time} ({datetime.fromtimestamp(time, UTC):%Y-%m-%d})"


def _degree_line(label: str, degrees: Degrees) -> str:
    return (
        f"  {label} {degrees.entities:,} ({degrees.coverage:.1%} of the type), edges each: min {degrees.min:,}, "
        f"median {degrees.median:,.0f}, p90 {degrees.p90:,.0f}, p99 {degrees.p99:,.0f}, max {degrees.max:,}, "
        f"mean {degrees.mean:,.1f}"
    )
