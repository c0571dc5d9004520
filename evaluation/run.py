"""Reading a run directory: the prepared graph with its held-out edges, and the vectors that were trained on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from bundle.arrays import AnyArray, map_array
from bundle.errors import BundleError, BundleIncomplete, RunError, RunIncomplete, UsageError
from bundle.ids import IdKind, IdTable, IntIds, StringIds

FORMAT_VERSION = 1
Part = Literal["edges", "valid", "test"]
Rows = Int32[npt.NDArray[np.int32], " e"]
Wanted = TypeVar("Wanted", "GraphRecord", "RunRecord")


class _Record(BaseModel):
    """A part of `graph.json` or `run.json`: keys that the evaluation does not need are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class EntityRecord(_Record):
    """One entity type."""

    name: str
    id: IdKind
    count: NonNegativeInt


class RelationRecord(_Record):
    """One relation; `edges`, `valid` and `test` are the lengths of its arrays."""

    name: str
    source: str
    target: str
    symmetric: bool
    coverage: Literal["high", "low"]
    weight: bool
    time: bool
    edges: NonNegativeInt
    valid: NonNegativeInt
    test: NonNegativeInt


class SplitRecord(_Record):
    """How the held-out edges were chosen."""

    relation: str
    by: Literal["random", "time", "files"]
    fraction: float | None = None
    seed: int | None = None


class GraphRecord(_Record):
    """`graph.json`."""

    format_version: int
    digest: str
    entities: tuple[EntityRecord, ...]
    relations: tuple[RelationRecord, ...]
    split: SplitRecord | None = None


class RunRecord(_Record):
    """`run.json`: what was trained, from which graph, with which settings."""

    format_version: int
    graph_digest: str
    config_digest: str
    config: dict[str, object] = {}
    dim: PositiveInt
    epochs: NonNegativeInt


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges as rows of the source and the target type; no duplicates."""

    src: Rows
    dst: Rows
    weight: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True)
class RunRelation:
    """One relation of the prepared graph; `index` is its row in `relations.npy`."""

    index: int
    record: RelationRecord
    train: Edges
    valid: Edges
    test: Edges

    @property
    def name(self) -> str:
        return self.record.name


@dataclass(frozen=True, slots=True)
class RunGraph:
    """The prepared graph of a run, mapped read-only."""

    path: Path
    record: GraphRecord
    ids: Mapping[str, IdTable]
    relations: tuple[RunRelation, ...]

    def count(self, entity_type: str) -> int:
        """Number of entities of one type."""
        return len(self.ids[entity_type])

    def relation(self, name: str) -> RunRelation:
        """The relation called `name`. Raises UsageError naming the relations there are."""
        for relation in self.relations:
            if relation.name == name:
                return relation
        known = ", ".join(relation.name for relation in self.relations[:20])
        raise UsageError(f"{self.path} has no relation {name!a:.80}; it has: {known}.")

    def split_relation(self) -> RunRelation:
        """The relation whose edges were held out. Raises UsageError when the graph was prepared without a split."""
        held_out = [relation for relation in self.relations if len(relation.test)]
        if self.record.split is None or not held_out:
            raise UsageError(
                f"{self.path} holds no test edges, so there is nothing to measure against. "
                "Add a [split] to graph.toml and train again."
            )
        return held_out[0]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its graph and what was learnt. `relation_vectors[i]` is forward and inverse θr of relation i."""

    path: Path
    record: RunRecord
    graph: RunGraph
    vectors: Mapping[str, npt.NDArray[np.float32]]
    relation_vectors: Float32[npt.NDArray[np.float32], "r 2 d"]


def open_run(path: Path) -> Run:
    """Open the finished run in the directory `path`, mapping its arrays.

    Raises RunIncomplete for a missing file, RunError for one that is not what `run.json` or `graph.json` says.
    """
    record = _read(path / "run.json", RunRecord)
    graph = open_graph(path)
    vectors = {
        entity.name: _array(path / "vectors" / f"{entity.name}.npy", (entity.count, record.dim))
        for entity in graph.record.entities
    }
    relation_vectors = _array(path / "relations.npy", (len(graph.relations), 2, record.dim))
    return Run(path, record, graph, vectors, relation_vectors)


def open_graph(run: Path) -> RunGraph:
    """Open the prepared graph of the run directory `run`; the run need not be finished.

    Raises RunIncomplete for a missing file, RunError for one that is not what `graph.json` says.
    """
    path = run / "graph"
    record = _read(path / "graph.json", GraphRecord)
    ids = {entity.name: _ids(path, entity) for entity in record.entities}
    relations = tuple(_relation(path, index, entry) for index, entry in enumerate(record.relations))
    return RunGraph(path, record, ids, relations)


def _read(file: Path, wanted: type[Wanted]) -> Wanted:
    try:
        record = wanted.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise RunIncomplete(f"{file} is missing: this is no finished run. Train it with `twhin train`.") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{file}: {key}: {first['msg']}. Train the run again.") from error
    if record.format_version != FORMAT_VERSION:
        raise RunError(
            f"{file} has format {record.format_version}; this release reads {FORMAT_VERSION}. Train it again."
        )
    return record


def _ids(path: Path, entity: EntityRecord) -> IdTable:
    if entity.id == "int64":
        return IntIds(_array(path / "ids" / f"{entity.name}.npy", (entity.count,)))
    offsets = _array(path / "ids" / f"{entity.name}.offsets.npy", (entity.count + 1,))
    return StringIds(offsets, _array(path / "ids" / f"{entity.name}.utf8.npy", (int(offsets[-1]),)))


def _relation(path: Path, index: int, record: RelationRecord) -> RunRelation:
    train = _edges(path, "edges", index, record.edges, weighted=record.weight)
    valid = _edges(path, "valid", index, record.valid)
    return RunRelation(index, record, train, valid, _edges(path, "test", index, record.test))


def _edges(path: Path, part: Part, index: int, count: int, *, weighted: bool = False) -> Edges:
    if count == 0:
        return Edges(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))
    base = path / part
    weight = _array(base / f"{index:03d}.weight.npy", (count,)) if weighted else None
    return Edges(
        _array(base / f"{index:03d}.src.npy", (count,)), _array(base / f"{index:03d}.dst.npy", (count,)), weight
    )


def _array(file: Path, shape: tuple[int, ...]) -> AnyArray:
    try:
        array = map_array(file)
    except BundleIncomplete as error:
        raise RunIncomplete(f"{file} is missing or cut short. Train the run again.") from error
    except BundleError as error:
        raise RunError(f"{file} is not a plain .npy array. Train the run again.") from error
    if array.shape != shape:
        raise RunError(f"{file} has shape {array.shape}, expected {shape}. Train the run again.")
    return array
