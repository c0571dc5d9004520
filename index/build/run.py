"""Reading a run directory, where training leaves its graph and vectors: mapped, checked for fit, not copied."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from bundle.arrays import AnyArray, map_array
from bundle.errors import BundleError, RunError, RunIncomplete
from bundle.ids import IdKind
from bundle.layout import relation_number

EdgePart = Literal["edges", "valid", "test"]
Record = TypeVar("Record", "GraphRecord", "RunRecord")
RowArray = Int32[npt.NDArray[np.int32], " _"]


class _Record(BaseModel):
    """A part of the JSON that training writes; keys that a build has no use for are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class EntityRecord(_Record):
    """One entity type of the graph."""

    name: str
    id: IdKind
    count: NonNegativeInt


class RelationRecord(_Record):
    """One relation of the graph; its position is its row in `relations.npy`."""

    name: str
    source: str
    target: str
    symmetric: bool = False
    coverage: Literal["high", "low"] = "high"
    weight: bool = False
    time: bool = False


class SplitRecord(_Record):
    """Which relation has held-out edges."""

    relation: str


class GraphRecord(_Record):
    """graph.json."""

    digest: str
    entities: tuple[EntityRecord, ...]
    relations: tuple[RelationRecord, ...]
    split: SplitRecord | None = None


class RunRecord(_Record):
    """run.json."""

    dim: PositiveInt
    config_digest: str
    code_revision: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of one relation as rows; `weight` and `time` (seconds) only where the graph has them."""

    src: RowArray
    dst: RowArray
    weight: Float32[npt.NDArray[np.float32], " e"] | None = None
    time: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: embeddings by type, relation vectors, training and held-out edges by relation position."""

    path: Path
    graph: GraphRecord
    record: RunRecord
    vectors: Mapping[str, Float32[npt.NDArray[np.float32], "_ d"]]
    relations: Float32[npt.NDArray[np.float32], "r 2 d"]

    @property
    def dim(self) -> int:
        return self.record.dim

    def entity(self, name: str) -> EntityRecord:
        """The record of the entity type `name`."""
        return next(entity for entity in self.graph.entities if entity.name == name)

    def ids_files(self, entity: EntityRecord) -> list[Path]:
        """The files that hold the ids of `entity`, in the order in which the bundle names them."""
        base = self.path / "graph" / "ids"
        parts = ("",) if entity.id == "int64" else (".offsets", ".utf8")
        return [base / f"{entity.name}{part}.npy" for part in parts]

    def edges(self, position: int, part: EdgePart = "edges") -> Edges:
        """Edges of the relation at `position`; held-out parts that were not written are empty. Raises RunError."""
        base = self.path / "graph" / part
        stem, record = relation_number(position), self.graph.relations[position]
        if part != "edges" and not (base / f"{stem}.src.npy").exists():
            return Edges(np.empty(0, np.int32), np.empty(0, np.int32))
        src, dst = _mapped(base / f"{stem}.src.npy", np.int32, 1), _mapped(base / f"{stem}.dst.npy", np.int32, 1)
        if len(src) != len(dst):
            raise RunError(f"{base / stem}.src.npy has {len(src)} edges, .dst.npy {len(dst)}. Train again.")
        with_more = part == "edges"
        weight = _mapped(base / f"{stem}.weight.npy", np.float32, 1) if record.weight and with_more else None
        time = _mapped(base / f"{stem}.time.npy", np.int64, 1) if record.time and with_more else None
        return Edges(src, dst, weight, time)

    def optimizer_file(self, name: str) -> Path | None:
        """The optimiser state of an entity type, or of `relations`; None when the run kept none."""
        path = self.path / "optimizer" / f"{name}.npy"
        return path if path.exists() else None


def open_run(path: Path) -> Run:
    """Map the run at `path`. Raises RunIncomplete when it is not finished, RunError when its parts do not fit."""
    record = _json(path / "run.json", RunRecord)
    graph = _json(path / "graph" / "graph.json", GraphRecord)
    vectors = {
        entity.name: _mapped(path / "vectors" / f"{entity.name}.npy", np.float32, 2) for entity in graph.entities
    }
    for entity in graph.entities:
        _check_shape(path / "vectors" / f"{entity.name}.npy", vectors[entity.name], (entity.count, record.dim))
    relations = _mapped(path / "relations.npy", np.float32, 3)
    _check_shape(path / "relations.npy", relations, (len(graph.relations), 2, record.dim))
    return Run(path, graph, record, vectors, relations)


def _json(path: Path, kind: type[Record]) -> Record:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunIncomplete(f"{path} is missing: the run is not finished. Run `twhin train … --resume`.") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not what training writes: {error}. Train again.") from error


def _mapped(path: Path, dtype: Any, dimensions: int) -> AnyArray:
    try:
        array = map_array(path)
    except BundleError as error:
        raise RunIncomplete(f"{path} is missing or cut short. Run `twhin train … --resume`, or train again.") from error
    if array.dtype != np.dtype(dtype) or array.ndim != dimensions:
        raise RunError(f"{path} is {array.dtype} with {array.ndim} axes; expected {np.dtype(dtype)} with {dimensions}.")
    return array


def _check_shape(path: Path, array: AnyArray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise RunError(f"{path} has shape {array.shape}; the run says {shape}. Train again.")
