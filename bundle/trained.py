"""A run directory or a version, opened as what training made: ids, vectors, optimiser state, relations, edges; mapped.

A warm start begins from it, and two of them are compared by it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.arrays import map_array
from bundle.errors import RunIncomplete
from bundle.ids import IdTable
from bundle.layout import MANIFEST, SpaceLayout
from bundle.manifest import MOST_ANCESTORS
from bundle.progress import SILENT, Progress
from bundle.reader import open_bundle, read_manifest
from bundle.run import RUN_FILE, Run, open_run, read_run_record, run_name
from bundle.space import Space
from bundle.versions import list_versions

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainedTable:
    """One entity type; `state` holds the row-wise Adagrad sums, None where they were not kept."""

    ids: IdTable
    vectors: Float32[F32, "n d"]
    state: Float32[F32, " n"] | None


@dataclass(frozen=True, slots=True)
class TrainedRelation:
    """θr and the vector for ranking sources, and their Adagrad sums, None where they were not kept."""

    vectors: Float32[F32, "2 d"]
    state: Float32[F32, "2 d"] | None


@dataclass(frozen=True, slots=True)
class Trained:
    """Entity types and relations by name, in the order of the run or of the manifest."""

    path: Path
    dim: int
    tables: dict[str, TrainedTable]
    relations: dict[str, TrainedRelation]
    source: Run | Space

    def degrees(self) -> dict[str, Int64[I64, " n"]]:
        """Training edges at either end of every entity, by entity type and row. Reads all edges."""
        degrees = {name: np.zeros(len(table.ids), dtype=np.int64) for name, table in self.tables.items()}
        if isinstance(self.source, Run):
            for prepared in self.source.graph.relations:
                for name, rows in ((prepared.source, prepared.train.src), (prepared.target, prepared.train.dst)):
                    degrees[name] += np.bincount(rows, minlength=len(degrees[name]))
        else:
            for relation in self.source.relations.values():
                degrees[relation.entry.source] += relation.targets.degrees()
                if not relation.entry.symmetric:  # whose edges by source lead both ways already
                    degrees[relation.entry.target] += relation.sources.degrees()
        return degrees


def open_trained(path: Path, progress: Progress = SILENT) -> Trained:
    """Open a run directory, or a version (its first space).

    Raises RunIncomplete when the directory holds neither, BundleError or RunError for a damaged one.
    """
    if (path / RUN_FILE).exists():
        return _of_run(open_run(path, progress))
    if (path / MANIFEST).exists():
        return _of_version(path, open_bundle(path).space())
    raise _neither(path)


def name_of_trained(path: Path) -> str:
    """The name of the version or the run in the directory `path`. Raises RunError for a damaged record."""
    if not (path / RUN_FILE).exists():
        return path.resolve().name
    record = read_run_record(path)
    return run_name(record.graph_digest, record.config_digest, record.parent)


def ancestors_from(path: Path) -> tuple[str, ...]:
    """The names of the version or the run in the directory `path` and of what it was warm started from, the nearest
    first: the ancestors of what is warm started from it.

    Raises RunIncomplete when the directory holds neither, BundleError or RunError for a damaged record.
    """
    if (path / RUN_FILE).exists():
        record = read_run_record(path)
        further = record.ancestors or ((record.parent,) if record.parent else ())
    elif (path / MANIFEST).exists():
        further = read_manifest(path).lineage.line
    else:
        raise _neither(path)
    return (name_of_trained(path), *further)[:MOST_ANCESTORS]


def _neither(path: Path) -> RunIncomplete:
    bundles = path if path.is_dir() else path.parent
    versions = list_versions(bundles)
    newest = f"; the newest version there is {bundles / versions[-1]}" if versions else ""
    return RunIncomplete(
        f"{path} holds neither a finished run ({RUN_FILE}) nor a version ({MANIFEST}). Name a directory of either "
        f"kind{newest}."
    )


def _of_run(run: Run) -> Trained:
    tables = {
        entity.name: TrainedTable(entity.ids, run.vectors[entity.name], _state(run.optimizer_file(entity.name)))
        for entity in run.graph.entities
    }
    names = [relation.name for relation in run.graph.relations]
    state = _state(run.optimizer_file("relations"))
    return Trained(run.path, run.dim, tables, _relations(names, run.relation_vectors, state), run)


def _of_version(path: Path, space: Space) -> Trained:
    layout = SpaceLayout(space.name)
    tables = {
        name: TrainedTable(table.ids, table.embeddings, _state(path / layout.optimizer(name)))
        for name, table in space.entities.items()
    }
    vectors = np.stack([np.stack([relation.forward, relation.inverse]) for relation in space.relations.values()])
    state = _state(path / layout.optimizer("relations"))
    return Trained(path, space.entry.dim, tables, _relations(list(space.relations), vectors, state), space)


def _relations(names: list[str], vectors: Float32[F32, "r 2 d"], state: F32 | None) -> dict[str, TrainedRelation]:
    """By name; a state of one number a vector counts for each of its coordinates."""
    if state is not None and state.ndim == 2:
        state = np.broadcast_to(state[:, :, None], vectors.shape)
    return {name: TrainedRelation(vectors[i], None if state is None else state[i]) for i, name in enumerate(names)}


def _state(path: Path) -> F32 | None:
    return map_array(path) if path.exists() else None
