"""The vectors of a run directory or of a published version, behind one small view."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.errors import UsageError
from bundle.ids import IdTable
from bundle.layout import MANIFEST
from bundle.reader import open_bundle
from bundle.run import open_run

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Ids, vectors [n, d] and degrees [n] by entity type; relation vectors [2, d] by relation."""

    dim: int
    ids: Mapping[str, IdTable]
    vectors: Mapping[str, F32]
    degrees: Mapping[str, I64]
    relations: Mapping[str, F32]


def open_embeddings(path: Path) -> Embeddings:
    """Open a run directory or a version (its first space). Raises UsageError when it is neither."""
    if (path / "run.json").exists():
        return _of_run(path)
    if (path / MANIFEST).exists():
        return _of_version(path)
    raise UsageError(f"{path} is neither a finished run (run.json) nor a version ({MANIFEST}).")


def _of_run(path: Path) -> Embeddings:
    run = open_run(path)
    degrees = {entity.name: np.zeros(entity.count, dtype=np.int64) for entity in run.graph.entities}
    for relation in run.graph.relations:
        for kind, rows in ((relation.source, relation.train.src), (relation.target, relation.train.dst)):
            degrees[kind] += np.bincount(rows, minlength=len(degrees[kind]))
    ids = {entity.name: entity.ids for entity in run.graph.entities}
    relations = {relation.name: run.relation_vectors[relation.index] for relation in run.graph.relations}
    return Embeddings(run.dim, ids, run.vectors, degrees, relations)


def _of_version(path: Path) -> Embeddings:
    space = open_bundle(path).space()
    degrees = {name: np.zeros(len(table), dtype=np.int64) for name, table in space.entities.items()}
    for relation in space.relations.values():
        degrees[relation.entry.source] += relation.targets.degrees()
        degrees[relation.entry.target] += relation.sources.degrees()
    return Embeddings(
        space.entry.dim,
        {name: table.ids for name, table in space.entities.items()},
        {name: table.embeddings for name, table in space.entities.items()},
        degrees,
        {name: np.stack([relation.forward, relation.inverse]) for name, relation in space.relations.items()},
    )
