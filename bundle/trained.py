"""An earlier run or version, opened for a warm start: ids, vectors, optimiser state and relations, mapped."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.arrays import map_array
from bundle.errors import BundleError, RunIncomplete
from bundle.ids import IdTable
from bundle.layout import MANIFEST, SpaceLayout
from bundle.reader import open_bundle
from bundle.run import open_run

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EarlierTable:
    """One entity type of an earlier version; `state` is None where the version kept none."""

    ids: IdTable
    vectors: Float32[F32, "n d"]
    state: Float32[F32, " n"] | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier version by name of entity type and of relation."""

    path: Path
    dim: int
    tables: dict[str, EarlierTable]
    relations: dict[str, tuple[Float32[F32, "2 d"], Float32[F32, "2 d"] | None]]


def open_earlier(path: Path) -> Earlier:
    """Open a run directory, or a version of a bundle (its first space).

    Raises RunIncomplete when the directory holds neither, BundleError or RunError for a damaged one.
    """
    if (path / "run.json").exists():
        return _open_run(path)
    if (path / MANIFEST).exists():
        return _open_version(path)
    raise RunIncomplete(
        f"{path} holds neither a finished run (run.json) nor a version ({MANIFEST}): nothing to start from."
    )


def _open_run(path: Path) -> Earlier:
    run = open_run(path)
    tables = {
        entity.name: EarlierTable(
            entity.ids, run.vectors[entity.name], _state(path / "optimizer" / f"{entity.name}.npy")
        )
        for entity in run.graph.entities
    }
    names = [relation.name for relation in run.graph.relations]
    state = _state(path / "optimizer" / "relations.npy")
    return Earlier(path, run.dim, tables, _relations(names, run.relation_vectors, state))


def _open_version(path: Path) -> Earlier:
    space = open_bundle(path).space()
    layout = SpaceLayout(space.name)
    tables = {
        name: EarlierTable(table.ids, table.embeddings, _state(path / layout.optimizer(name)))
        for name, table in space.entities.items()
    }
    vectors = map_array(path / layout.relations)
    names = [relation.name for relation in space.entry.relations]
    return Earlier(
        path, vectors.shape[2], tables, _relations(names, vectors, _state(path / layout.optimizer("relations")))
    )


def _relations(
    names: list[str], vectors: Float32[F32, "r 2 d"], state: F32 | None
) -> dict[str, tuple[Float32[F32, "2 d"], Float32[F32, "2 d"] | None]]:
    """By name; a state of one number a vector counts for each of its coordinates."""
    if state is not None and state.ndim == 2:
        state = np.broadcast_to(state[:, :, None], vectors.shape)
    return {name: (vectors[i], None if state is None else state[i]) for i, name in enumerate(names)}


def _state(path: Path) -> F32 | None:
    try:
        return map_array(path)
    except BundleError:
        return None
