"""Prepared graphs written straight to disk, for tests of what reads them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.prepared import PreparedGraph, load_prepared

Pairs = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Links:
    """One relation: edges as an [e, 2] array of rows, perhaps weights, perhaps held-out edges."""

    name: str
    source: str
    target: str
    edges: Pairs
    weight: npt.NDArray[np.float32] | None = None
    test: Pairs | None = None
    symmetric: bool = False
    valid: Pairs | None = None
    time: npt.NDArray[np.int64] | None = None


def write_graph(
    path: Path, entities: dict[str, npt.NDArray[np.int64]], relations: list[Links], digest: str = "test"
) -> PreparedGraph:
    """Write a prepared graph of int64 ids to `path` and open it."""
    records = []
    for name, ids in entities.items():
        _save(path / "ids" / f"{name}.npy", ids.astype(np.int64))
    for i, links in enumerate(relations):
        _save_pairs(path / "edges", i, links.edges)
        if links.weight is not None:
            _save(path / "edges" / f"{i:03d}.weight.npy", links.weight.astype(np.float32))
        if links.time is not None:
            _save(path / "edges" / f"{i:03d}.time.npy", links.time.astype(np.int64))
        if links.test is not None:
            _save_pairs(path / "test", i, links.test)
        if links.valid is not None:
            _save_pairs(path / "valid", i, links.valid)
        records.append(_record(links))
    types = [{"name": name, "id": "int64", "count": len(ids)} for name, ids in entities.items()]
    graph = {"format_version": 1, "digest": digest, "entities": types, "relations": records, "split": None}
    (path / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    return load_prepared(path)


def write_run(
    path: Path, entities: dict[str, npt.NDArray[np.int64]], relations: list[Links], *, dim: int = 8, seed: int = 1
) -> Path:
    """Write a finished run over the graph of `write_graph`, vectors about eight centres. Returns `path`."""
    rng = np.random.default_rng(seed)
    write_graph(path / "graph", entities, relations)
    centres = rng.normal(size=(8, dim))
    for name, known in entities.items():
        vectors = centres[np.arange(len(known)) % 8] + 0.3 * rng.normal(size=(len(known), dim))
        _save(path / "vectors" / f"{name}.npy", vectors.astype(np.float32))
    _save(path / "relations.npy", (0.05 * rng.normal(size=(len(relations), 2, dim))).astype(np.float32))
    run = {"format_version": 1, "graph_digest": "test", "config_digest": "1" * 64, "dim": dim}
    (path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return path


def ids(n: int) -> npt.NDArray[np.int64]:
    """n ids that are not their rows."""
    return np.arange(n, dtype=np.int64) * 3 + 100


def distinct_pairs(n_source: int, n_target: int, count: int, rng: np.random.Generator) -> Pairs:
    """Random edges without repeats, in random order."""
    keys = rng.choice(n_source * n_target, count, replace=False)
    return np.stack([keys // n_target, keys % n_target], axis=1).astype(np.int32)


def _record(links: Links) -> dict[str, object]:
    return {
        "name": links.name, "source": links.source, "target": links.target, "symmetric": links.symmetric,
        "coverage": "high", "weight": links.weight is not None, "time": links.time is not None,
        "edges": len(links.edges), "valid": 0 if links.valid is None else len(links.valid),
        "test": 0 if links.test is None else len(links.test), "duplicates": 0, "self_loops": 0,
    }  # fmt: skip


def _save_pairs(folder: Path, relation: int, pairs: Pairs) -> None:
    _save(folder / f"{relation:03d}.src.npy", np.ascontiguousarray(pairs[:, 0], dtype=np.int32))
    _save(folder / f"{relation:03d}.dst.npy", np.ascontiguousarray(pairs[:, 1], dtype=np.int32))


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
