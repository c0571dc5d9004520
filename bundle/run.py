"""A finished run in memory: what training left, mapped and checked for fit, as building and evaluating read it.

run.json                 written last: a directory without it holds no finished run. Digests of all other files
graph/                   the prepared graph (`bundle.prepared`)
vectors/<type>.npy       float32 [n, d]
relations.npy            float32 [R, 2, d]: forward θr, and the vector for ranking sources
optimizer/<type>.npy     float32 [n]: row-wise Adagrad sums; relations.npy likewise
metrics.jsonl            what was reported while it was trained
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from bundle.arrays import AnyArray, map_array
from bundle.disk import read_plain, write_text
from bundle.errors import BundleError, RunError, RunIncomplete
from bundle.manifest import FileEntry
from bundle.prepared import PreparedGraph, check_ids, check_rows, load_prepared
from bundle.progress import SILENT, Progress
from bundle.records import Record, first_error
from bundle.verify import digest_of, digest_of_fields, find_damaged, refusing

FORMAT_VERSION = 1
RUN_FILE = "run.json"
GRAPH_DIRECTORY = "graph"
AGAIN = "Copy the run again, or train it again."


class RunRecord(Record, extra="ignore"):
    """`run.json`: how the run was made, and its files with their digests.

    `digest` is that of all other fields. A run of an earlier release has no `files` and no `digest`: it is read, but
    nothing can tell whether it is whole.
    """

    format_version: int
    graph_digest: str
    config: dict[str, Any] = {}
    config_digest: str
    dim: PositiveInt
    epochs: NonNegativeInt = 0
    edges_seen: NonNegativeInt = 0
    final_loss: float | None = None
    code_revision: str | None = None
    parent: str | None = None
    ancestors: tuple[str, ...] = ()
    files: dict[str, FileEntry] | None = None
    digest: str | None = None


def run_name(graph_digest: str, config_digest: str, parent: str | None) -> str:
    """What a run is called outside of its directory, whose name says little: by its graph, settings and start."""
    return "run-" + hashlib.sha256(f"{graph_digest} {config_digest} {parent or ''}".encode()).hexdigest()[:8]


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


def open_run(path: Path, progress: Progress = SILENT) -> Run:
    """Open the finished run in the directory `path`: check every file against its digest, and map the arrays.

    Raises RunIncomplete for a missing file, RunError for one that is not what `run.json` or `graph.json` says.
    """
    with refusing(path, RunError, AGAIN):
        return _open_run(path, progress)


def _open_run(path: Path, progress: Progress) -> Run:
    record = _checked(path, path, progress)
    graph = load_prepared(path / GRAPH_DIRECTORY)
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
    if record.files is None:  # what damage could do then is found as far as the numbers show it
        _check_graph(graph)
        for name, array in [*vectors.items(), ("relations", relation_vectors)]:
            if not np.isfinite(array).all():
                raise RunError(f"The vectors of {name} in {path} hold NaN or Inf. {AGAIN}")
    return Run(path, record, graph, vectors, relation_vectors)


def open_graph(run: Path, progress: Progress = SILENT) -> PreparedGraph:
    """Open the prepared graph of the run directory `run`; where the run is finished, check the graph's files first.

    Raises as `open_run`.
    """
    _require_directory(run)
    with refusing(run, RunError, AGAIN):
        finished = _checked(run, run / GRAPH_DIRECTORY, progress) if (run / RUN_FILE).exists() else None
        graph = load_prepared(run / GRAPH_DIRECTORY)
        if finished is None or finished.files is None:
            _check_graph(graph)
        return graph


def read_run_record(run: Path) -> RunRecord:
    """Read `run.json` of the directory `run`. Raises RunIncomplete where there is none, RunError for another format."""
    _require_directory(run)
    file = run / RUN_FILE
    try:
        record = RunRecord.model_validate_json(read_plain(file))
    except FileNotFoundError as error:
        raise RunIncomplete(
            f"{file} is missing: this is no finished run. Train one with `twhin train`, or go on with --resume."
        ) from error
    except ValidationError as error:
        raise RunError(f"{file}: {first_error(error)}. {AGAIN}") from error
    if record.format_version != FORMAT_VERSION:
        raise RunError(f"{file} has format {record.format_version}; this release reads {FORMAT_VERSION}. Train again.")
    return record


def write_run_record(run: Path, fields: Mapping[str, object]) -> None:
    """Make `run` a finished run: write `run.json` of `fields` with the digest of every file. Raises OSError."""
    files = {
        name: FileEntry(sha256=digest_of(run / name), size_bytes=(run / name).stat().st_size) for name in _files(run)
    }
    entries = {name: entry.model_dump(mode="json", exclude_none=True) for name, entry in files.items()}
    record = {"format_version": FORMAT_VERSION, **fields, "files": entries}
    write_text(run / RUN_FILE, json.dumps({**record, "digest": digest_of_fields(record)}, indent=1) + "\n")


def _require_directory(run: Path) -> None:
    if not run.is_dir():
        fault = "is no directory" if run.exists() else "does not exist"
        raise RunIncomplete(f"{run} {fault}. Name a run directory that `twhin train --run DIR` wrote.")


def _files(run: Path) -> list[str]:
    """What a finished run consists of, relative to its directory; the graph may be a link to one elsewhere."""
    found = [run / name for name in ("relations.npy", "metrics.jsonl") if (run / name).exists()]
    for folder in (GRAPH_DIRECTORY, "vectors", "optimizer"):
        found += [Path(directory) / name for directory, _, names in os.walk(run / folder) for name in names]
    return sorted(file.relative_to(run).as_posix() for file in found)


def _checked(run: Path, below: Path, progress: Progress) -> RunRecord:
    """The record of a run whose files in the directory `below` are what it says."""
    record, file = read_run_record(run), run / RUN_FILE
    if (record.files or record.digest) and record.digest != digest_of_fields(json.loads(read_plain(file))):
        raise RunError(f"{file} differs from its own digest: it was damaged or changed. {AGAIN}")
    if record.files is None:
        with progress.stage(f"{run} is of an earlier release and has no digests: it cannot be checked", None, "files"):
            return record
    listed = {name: entry for name, entry in record.files.items() if (run / name).is_relative_to(below)}
    with progress.stage(f"checking {run}", sum(entry.size_bytes for entry in listed.values()), "bytes") as stage:
        damaged = find_damaged(run, {name: entry.sha256 for name, entry in listed.items()}, stage.advance)
    if damaged is None:
        return record
    if damaged.exists():
        raise RunError(f"{damaged} differs from its digest in {RUN_FILE}: it was damaged or changed. {AGAIN}")
    raise RunIncomplete(f"{damaged} is missing. {AGAIN}")


def _check_graph(graph: PreparedGraph) -> None:
    check_ids(graph)
    check_rows(graph)


def _array(file: Path, shape: tuple[int, ...]) -> AnyArray:
    try:
        array = map_array(file)
    except BundleError as error:
        raise RunIncomplete(f"{file} is missing, cut short or no array. {AGAIN}") from error
    if array.shape != shape or array.dtype != np.float32:
        raise RunError(f"{file} is {array.dtype} {array.shape}, expected float32 {shape}. {AGAIN}")
    return array
