"""A finished run in memory: what training left, mapped and checked for fit, as building and evaluating read it.

run.json                 written last: a directory without it holds no finished run
graph/                   the prepared graph (`bundle.prepared`)
vectors/<type>.npy       float32 [n, d]
relations.npy            float32 [R, 2, d]: forward θr, and the vector for ranking sources
optimizer/<type>.npy     float32 [n]: row-wise Adagrad sums; relations.npy likewise
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from bundle.arrays import AnyArray, map_array
from bundle.errors import BundleError, RunError, RunIncomplete
from bundle.prepared import PreparedGraph, load_prepared
from bundle.records import Record, first_error

FORMAT_VERSION = 1
RUN_FILE = "run.json"
GRAPH_DIRECTORY = "graph"


class RunRecord(Record, extra="ignore"):
    """`run.json`; keys that only training has a use for are passed over."""

    format_version: int
    graph_digest: str
    config: dict[str, Any] = {}
    config_digest: str
    dim: PositiveInt
    epochs: NonNegativeInt = 0
    code_revision: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. `relation_vectors[i]` is the forward and the inverse vector of relation i."""

    path: Path
    record: RunRecord
    graph: PreparedGraph
    vectors: Mapping[str, Float32[npt.NDArray[np.float32], "_ d"]]
    relation_vectors: Float32[npt.NDArray[np.float32], "r 2 d"]

    @property
    def dim(self) -> int:
        """Floats in an embedding."""
        return self.record.dim

    def optimizer_file(self, name: str) -> Path:
        """Where the optimiser state of an entity type, or of `relations`, lies if the run kept it."""
        return self.path / "optimizer" / f"{name}.npy"


def open_run(path: Path) -> Run:
    """Open the finished run in the directory `path`, mapping its arrays.

    Raises RunIncomplete for a missing file, RunError for one that is not what `run.json` or `graph.json` says.
    """
    graph = open_graph(path)
    record = _record(path / RUN_FILE)
    if graph.digest != record.graph_digest:
        raise RunError(
            f"{path} was trained on graph {record.graph_digest:.12}, and {graph.path} holds {graph.digest:.12}: the "
            "edge files changed after the training. Train again."
        )
    vectors = {
        entity.name: _array(path / "vectors" / f"{entity.name}.npy", (entity.count, record.dim))
        for entity in graph.entities
    }
    relation_vectors = _array(path / "relations.npy", (len(graph.relations), 2, record.dim))
    return Run(path, record, graph, vectors, relation_vectors)


def open_graph(run: Path) -> PreparedGraph:
    """Open the prepared graph of the run directory `run`; the run need not be finished. Raises as `load_prepared`."""
    if not run.is_dir():
        raise RunIncomplete(f"{run} does not exist. Name a run directory that `twhin train --run DIR` wrote.")
    return load_prepared(run / GRAPH_DIRECTORY)


def _record(file: Path) -> RunRecord:
    try:
        record = RunRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise RunIncomplete(
            f"{file} is missing: this is no finished run. Train one with `twhin train`, or go on with --resume."
        ) from error
    except ValidationError as error:
        raise RunError(f"{file}: {first_error(error)}. Train the run again.") from error
    if record.format_version != FORMAT_VERSION:
        raise RunError(f"{file} has format {record.format_version}; this release reads {FORMAT_VERSION}. Train again.")
    return record


def _array(file: Path, shape: tuple[int, ...]) -> AnyArray:
    try:
        array = map_array(file)
    except BundleError as error:
        raise RunIncomplete(f"{file} is missing or cut short. Train the run again.") from error
    if array.shape != shape or array.dtype != np.float32:
        raise RunError(f"{file} is {array.dtype} {array.shape}, expected float32 {shape}. Train the run again.")
    return array
