"""The prepared graph: what preparing writes and what the trainer reads, mapped from disk.

Layout, under one directory (`graph.json` is written last: a directory without it is no prepared graph):

    graph.json
    ids/<type>.npy                                   int64 ids, ascending
    ids/<type>.offsets.npy, ids/<type>.utf8.npy      string ids, ascending by bytes
    edges/<iii>.src.npy .dst.npy                     rows: the training edges of relation iii, cell after cell
    edges/<iii>.weight.npy, edges/<iii>.time.npy     float32, int64: only where the relation has them
    edges/<iii>.src_place.npy …, shards/<type>.npy   what training reads: `bundle.sharded`
    attributes/<type>/<iii>.<part>.npy               attribute iii of a type that has any (`bundle.attributes`)
    valid/<iii>.src.npy .dst.npy, test/<iii>.…       held-out edges; absent when there are none

Rows are int32, or int64 where a type has more than 2^31 entities. Format 1, which is still read, had no shards and its
training edges in file order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, Integer

from bundle.arrays import AGAIN as VERSION_AGAIN
from bundle.arrays import AnyArray, forget_pages, map_array
from bundle.attributes import Attribute, AttributeEntry, open_attribute
from bundle.consistency import id_faults, range_faults
from bundle.errors import BundleError, RunError, UsageError
from bundle.graph_record import AGAIN, COMMIT_FILE, EntityRecord, GraphRecord, RelationRecord, SplitRecord, read_record
from bundle.ids import IdKind, IdTable, IntIds, StringIds
from bundle.sharded import CellEdges, ShardedGraph, shard_file
from bundle.shards import ShardRows, place_type, row_type

# Where more than this share of the held-out edges cannot be predicted, a warning says so.
MOST_HELD_OUT = 0.5
# Names that a warning lists.
_NAMED = 10
Part = Literal["edges", "valid", "test"]
PARTS: tuple[Part, ...] = ("edges", "valid", "test")
_COLUMN_TYPES: dict[str, type[np.generic]] = {"weight": np.float32, "time": np.int64}
RowArray = Integer[npt.NDArray[np.integer], " _"]


@dataclass(frozen=True, slots=True)
class EntityTable:
    """One entity type: row i is the entity whose external id is `ids.external(i)`."""

    name: str
    ids: IdTable
    attributes: tuple[tuple[AttributeEntry, Attribute], ...] = ()
    described: int = 0
    attributes_of_others: int = 0

    @property
    def count(self) -> int:
        """Number of entities, that is of rows."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges as rows of the relation's source and target types; weight and time only where it has them."""

    src: Integer[npt.NDArray[np.integer], " e"]
    dst: Integer[npt.NDArray[np.integer], " e"]
    weight: Float32[npt.NDArray[np.float32], " e"] | None = None
    time: Int64[npt.NDArray[np.int64], " e"] | None = None

    def __len__(self) -> int:
        return len(self.src)

    def directed(self, symmetric: bool) -> list[tuple[RowArray, RowArray]]:
        """(from, to) arrays: as they are stored, and turned round too for a symmetric relation, where a pair is
        stored once and leads both ways."""
        return [(self.src, self.dst), (self.dst, self.src)] if symmetric else [(self.src, self.dst)]


@dataclass(frozen=True, slots=True)
class PreparedRelation:
    """One relation. `index` is its row in `relations.npy`; duplicates are out. Held-out edges are in file order."""

    index: int
    name: str
    source: str
    target: str
    symmetric: bool
    coverage: Literal["high", "low"]
    train: Edges
    valid: Edges
    test: Edges
    duplicates: int
    self_loops: int
    held_out_trained: int | None = None
    held_out_unseen: int | None = None

    @property
    def unseen_share(self) -> float | None:
        """Of the held-out edges, those with an end that no training edge has; None where they were not counted."""
        if self.held_out_unseen is None:
            return None
        return self.held_out_unseen / max(len(self.valid) + len(self.test), 1)

    def part(self, part: Part) -> Edges:
        """The training edges, or those held out for validation or test."""
        return {"edges": self.train, "valid": self.valid, "test": self.test}[part]


@dataclass(frozen=True, slots=True)
class PreparedGraph:
    """A graph ready for training; all arrays are mapped read-only, so opening it costs nothing.

    `sharded` is None for format 1, whose edges were not dealt to shards.
    """

    path: Path
    digest: str
    entities: tuple[EntityTable, ...]
    relations: tuple[PreparedRelation, ...]
    split: SplitRecord | None
    sharded: ShardedGraph | None = None

    def entity(self, name: str) -> EntityTable:
        """The entity type called `name`. Raises KeyError."""
        return {entity.name: entity for entity in self.entities}[name]

    def count(self, entity_type: str) -> int:
        """Number of entities of one type."""
        return self.entity(entity_type).count

    def relation(self, name: str) -> PreparedRelation:
        """The relation called `name`. Raises UsageError naming the relations there are."""
        for relation in self.relations:
            if relation.name == name:
                return relation
        known = ", ".join(relation.name for relation in self.relations[:20])
        raise UsageError(f"{self.path} has no relation {name!a:.80}; it has: {known}.")

    def warnings(self) -> tuple[str, ...]:
        """What was left out, and what makes figures measured on the held-out edges mean less than they seem to."""
        held_out = sum(len(relation.valid) + len(relation.test) for relation in self.relations)
        trained = sum(relation.held_out_trained or 0 for relation in self.relations)
        unseen = sum(relation.held_out_unseen or 0 for relation in self.relations)
        lines = [
            f"{entity.attributes_of_others:,} rows with attributes of {entity.name} name entities that no edge has: "
            "they are left out."
            for entity in self.entities
            if entity.attributes_of_others
        ]
        untrained = [relation.name for relation in self.relations if not len(relation.train)]
        if untrained:
            by_time = self.split is not None and self.split.by == "time"
            advice = 'Lower fraction, or split by "random"' if by_time else "Train on some"
            lines.append(
                f"{len(untrained):,} of {len(self.relations):,} relations have no training edge, as all of theirs are "
                f"held out: {_listed(untrained)}. Nothing is learnt of them, and figures on their edges mean nothing. "
                f"{advice}."
            )
        if trained:
            lines.append(
                f"{trained:,} of {held_out:,} held-out edges are training edges as well: figures measured on them "
                "mislead. Take these edges out of the files to train on."
            )
        if unseen > MOST_HELD_OUT * held_out:
            by_time = self.split is not None and self.split.by == "time"
            advice = ' Split by "random", or judge by newcomers.' if by_time else ""
            lines.append(
                f"{unseen:,} of {held_out:,} held-out edges have an end that no training edge has, so no model can "
                f"predict them: figures measured on all of them are low for that alone.{advice}"
            )
        return (*lines, *self._told_beforehand())

    def _told_beforehand(self) -> Iterator[str]:
        """Of a split by time, that relations between the same types as a split one are trained on to the end."""
        split = () if self.split is None or self.split.by != "time" else self.split.relations
        if "*" in split:  # whose relations are split together
            return
        ends = {(one.source, one.target): one.name for one in self.relations if one.name in split}
        whole = [one for one in self.relations if one.name not in split and one.train.time is not None]
        telling = [one for one in whole if (one.source, one.target) in ends]
        if telling:
            asked = ends[telling[0].source, telling[0].target]
            yield (
                f"{_listed([one.name for one in telling])}: trained on to the end, while the latest edges of {asked}, "
                "between the same types, are held out. What somebody did at that time tells of them, so that figures "
                "may be better than in use. Name all of these relations in [split]."
            )

    def split_relation(self) -> PreparedRelation:
        """The first relation with test edges. Raises UsageError where there is none."""
        held_out = [relation for relation in self.relations if len(relation.test)]
        if self.split is None or not held_out:
            raise UsageError(f"{self.path} {self.nothing_held_out('test')}")
        first = {name: place for place, name in enumerate(self.split.relations)}
        return min(held_out, key=lambda relation: first.get(relation.name, 0))

    def nothing_held_out(self, part: Part) -> str:
        """What to say, after the graph's name, where no relation has edges of the part, and what to do about it."""
        said = f"holds out no {part} edges, so there is nothing to measure against."
        if self.split is None:
            return f"{said} Add a [split] to graph.toml and train again."
        if self.split.by == "files":
            return f"{said} Name files of them in [split] ({part} = …) and train again."
        edges = sum(len(relation.train) for relation in self.relations)
        return f"{said} Of {edges:,} edges [split] held out none: raise its fraction, or give it more edges."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def load_prepared(path: Path) -> PreparedGraph:
    """Open the prepared graph in the directory `path`, mapping its arrays.

    Raises RunIncomplete when `graph.json` or an array is missing, RunError when one is not what `graph.json` says.
    """
    return open_prepared(path, read_record(path))


def open_prepared(path: Path, record: GraphRecord) -> PreparedGraph:
    """Map the arrays in the directory `path`, of which `record` tells. Raises as `load_prepared`."""
    try:
        entities = tuple(_open_entity(path, entity) for entity in record.entities)
        types = {entity.name: row_type(entity.count) for entity in record.entities}
        relations = tuple(_open_relation(path, i, relation, types) for i, relation in enumerate(record.relations))
        sharded = None if record.shards is None else open_sharded(path, record, relations)
    except BundleError as error:
        fault = str(error).removesuffix(VERSION_AGAIN)  # which is of no use here
        raise RunError(f"The prepared graph is damaged: {fault}{AGAIN.format(path=path)}") from error
    return PreparedGraph(path, record.digest, entities, relations, record.split, sharded)


def id_files(path: Path, entity: str, kind: IdKind) -> list[Path]:
    """The files that hold the ids of one entity type, in the order in which their arrays make the table."""
    suffixes = [".npy"] if kind == "int64" else [".offsets.npy", ".utf8.npy"]
    return [path / "ids" / f"{entity}{suffix}" for suffix in suffixes]


def attribute_file(path: Path, entity: str, number: int, part: str) -> Path:
    """The file of one part of one attribute, for example `attributes/item/003.values.npy`."""
    return path / "attributes" / entity / f"{number:03d}.{part}.npy"


def part_file(path: Path, part: Part, relation: int, column: str) -> Path:
    """The file of one column of one relation's edges, for example `edges/003.src.npy`."""
    return path / part / f"{relation:03d}.{column}.npy"


def check_rows(graph: PreparedGraph) -> None:
    """Raise RunError when an edge names a row that its entity type does not have: nothing that follows looks again."""
    counts = {entity.name: entity.count for entity in graph.entities}
    for relation in graph.relations:
        for part in PARTS:
            edges = relation.part(part)
            for column, rows, kind in (("src", edges.src, relation.source), ("dst", edges.dst, relation.target)):
                file = part_file(graph.path, part, relation.index, column)
                for path, fault in range_faults(str(file), rows, counts[kind]):
                    raise RunError(f"The prepared graph is damaged: {path} {fault}. {AGAIN.format(path=graph.path)}")
                forget_pages(rows)
    if graph.sharded is not None:
        number = {entity.name: i for i, entity in enumerate(graph.entities)}
        ends = tuple((number[relation.source], number[relation.target]) for relation in graph.relations)
        for path, fault in graph.sharded.faults(ends):
            raise RunError(
                f"The prepared graph is damaged: {graph.path / path} {fault}. {AGAIN.format(path=graph.path)}"
            )


def check_ids(graph: PreparedGraph) -> None:
    """Raise RunError when ids do not ascend, so that a search would miss some, or are no text."""
    for entity in graph.entities:
        files = tuple(map(str, id_files(graph.path, entity.name, entity.ids.kind)))
        for path, fault in id_faults(files, entity.ids):
            raise RunError(f"The prepared graph is damaged: {path} {fault}. {AGAIN.format(path=graph.path)}")


def _open_entity(path: Path, record: EntityRecord) -> EntityTable:
    attributes = tuple((entry, _attribute(path, record, i)) for i, entry in enumerate(record.attributes))
    return EntityTable(record.name, _ids(path, record), attributes, record.described, record.attributes_of_others)


def _ids(path: Path, record: EntityRecord) -> IdTable:
    files = id_files(path, record.name, record.id)
    if record.id == "int64":
        return IntIds(_array(files[0], np.int64, record.count))
    offsets = _array(files[0], np.int64, record.count + 1)
    return StringIds(offsets, _array(files[1], np.uint8, int(offsets[-1])))


def _attribute(path: Path, record: EntityRecord, number: int) -> Attribute:
    return open_attribute(
        record.attributes[number].kind,
        record.count,
        lambda part, dtype, count: _array(attribute_file(path, record.name, number, part), dtype, count),
    )


def open_sharded(path: Path, record: GraphRecord, relations: tuple[PreparedRelation, ...]) -> ShardedGraph:
    """Map what training reads of the graph of which `record` tells. Raises RunError, BundleError."""
    counts = {entity.name: np.array(entity.shards, dtype=np.int64) for entity in record.entities}
    for entity in record.entities:
        if len(counts[entity.name]) != record.shards or counts[entity.name].sum() != entity.count:
            raise RunError(f"{path / COMMIT_FILE} counts other shards of {entity.name} than there are.")
    types = {name: place_type(int(each.max(initial=0))) for name, each in counts.items()}
    rows = [
        ShardRows(
            _array(shard_file(path, entity.name), np.int64, entity.count),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[entity.name])]),
        )
        for entity in record.entities
    ]
    edges = []
    for relation, described in zip(relations, record.relations, strict=True):

        def column(name: str, dtype: type[np.generic], count: int | None, index: int = relation.index) -> AnyArray:
            return _array(part_file(path, "edges", index, name), dtype, count)

        edges.append(
            CellEdges(
                column("cell", np.int32, described.cells),
                column("cell_start", np.int64, described.cells),
                column("src_place", types[relation.source], described.edges),
                column("dst_place", types[relation.target], described.edges),
                relation.train.weight,
            )
        )
    return ShardedGraph(record.shards or 0, tuple(rows), tuple(edges))


def _open_relation(
    path: Path, index: int, record: RelationRecord, types: dict[str, type[np.integer]]
) -> PreparedRelation:
    ends = {"src": types[record.source], "dst": types[record.target]}
    train = Edges(
        src=_column(path, "edges", index, "src", record.edges, ends["src"]),
        dst=_column(path, "edges", index, "dst", record.edges, ends["dst"]),
        weight=_column(path, "edges", index, "weight", record.edges) if record.weight else None,
        time=_column(path, "edges", index, "time", record.edges) if record.time else None,
    )
    return PreparedRelation(
        index=index,
        name=record.name,
        source=record.source,
        target=record.target,
        symmetric=record.symmetric,
        coverage=record.coverage,
        train=train,
        valid=_held_out(path, "valid", index, record.valid, ends),
        test=_held_out(path, "test", index, record.test, ends),
        duplicates=record.duplicates,
        self_loops=record.self_loops,
        held_out_trained=record.held_out_trained,
        held_out_unseen=record.held_out_unseen,
    )


def _held_out(path: Path, part: Part, index: int, count: int, ends: dict[str, type[np.integer]]) -> Edges:
    if count == 0:
        return Edges(*(np.empty(0, dtype=kind) for kind in ends.values()))
    return Edges(*(_column(path, part, index, end, count, kind) for end, kind in ends.items()))


def _column(
    path: Path, part: Part, index: int, column: str, count: int, kind: type[np.generic] | None = None
) -> AnyArray:
    return _array(part_file(path, part, index, column), kind or _COLUMN_TYPES[column], count)


def _array(file: Path, dtype: type[np.generic], count: int | None) -> AnyArray:
    array = map_array(file)
    if array.dtype != dtype or array.shape != (len(array) if count is None else count,):
        raise RunError(
            f"{file} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {(count,)}. "
            "Delete the graph directory and prepare it again."
        )
    return array
