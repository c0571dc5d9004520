"""A run and a bundle small enough to know every right answer by heart: a world of jazz and chess.

Users (int64 ids) 101…110 love jazz, 201…210 chess, 301…304 both (six likes of jazz, four of chess);
401 is in no edge. Items (string ids) are `jazz-00`…`jazz-19` and `chess-00`…`chess-19`. The relation
`likes` (user → item, with weights and times) is the default; `follows` (user → user) joins lovers of the same thing.

Embeddings have 8 coordinates: 0 is jazz, 1 is chess, the rest are small and tell equals apart. Item i of its kind
has length 1 − i/100, so whoever loves jazz scores jazz-00, jazz-01, … in that order, and every jazz item above
every chess item. θr of `likes` is zero; so is the popularity of an unliked item.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.ids import string_ids
from index.builder.config import BuildConfig, ClusterConfig, IndexConfig, MixtureConfig
from index.builder.version import BuiltVersion, build_version

DIM = 8
N_ITEMS = 20
JAZZ_LOVERS = [str(i) for i in range(101, 111)]
CHESS_LOVERS = [str(i) for i in range(201, 211)]
LOVERS_OF_BOTH = [str(i) for i in range(301, 305)]
LONELY = "401"
USERS = [*JAZZ_LOVERS, *CHESS_LOVERS, *LOVERS_OF_BOTH, LONELY]
ITEMS = sorted([f"jazz-{i:02d}" for i in range(N_ITEMS)] + [f"chess-{i:02d}" for i in range(N_ITEMS)])
TOY_CONFIG = BuildConfig(
    clusters=ClusterConfig(count=2), mixtures=MixtureConfig(modes=2), index=IndexConfig(queries=50)
)


def write_toy_run(path: Path) -> Path:
    """Write the run directory that training would have left. Returns `path`."""
    graph = path / "graph"
    _save(graph / "ids" / "user.npy", np.array([int(user) for user in USERS], dtype=np.int64))
    items = string_ids(ITEMS)
    _save(graph / "ids" / "item.offsets.npy", items.offsets)
    _save(graph / "ids" / "item.utf8.npy", items.utf8)
    edges, held_out = _likes()
    _save_edges(graph, "edges", 0, edges)
    _save(graph / "edges" / "000.weight.npy", np.ones(len(edges), dtype=np.float32))
    _save(graph / "edges" / "000.time.npy", 1_700_000_000 + 86_400 * np.arange(len(edges), dtype=np.int64))
    _save_edges(graph, "valid", 0, held_out)
    _save_edges(graph, "test", 0, held_out)
    follows = _follows()
    _save_edges(graph, "edges", 1, follows)
    _write_graph(graph, len(edges), len(held_out), len(follows))
    _write_vectors(path)
    run = {"format_version": 1, "created": "2026-01-01T00:00:00Z", "graph_digest": "0" * 64, "config": {}}
    run |= {"config_digest": "1" * 64, "code_revision": None, "parent": None, "dim": DIM, "epochs": 1}
    (path / "run.json").write_text(json.dumps(run | {"edges_seen": len(edges), "final_loss": 0.1}), encoding="utf-8")
    return path


def build_toy(directory: Path, version: str = "toy", config: BuildConfig = TOY_CONFIG) -> BuiltVersion:
    """Write the run to `directory`/run and build `version` from it in `directory`/bundles; nothing is published."""
    run = directory / "run"
    if not (run / "run.json").exists():
        write_toy_run(run)
    return build_version(run, directory / "bundles", config, version=version)


def user_row(user: str) -> int:
    """The row of a user in the toy's arrays."""
    return USERS.index(user)


def item_row(item: str) -> int:
    """The row of an item in the toy's arrays: `chess-…` come before `jazz-…`."""
    return ITEMS.index(item)


def _liked(user: str) -> list[str]:
    """What a user likes: lovers of one thing its items 0…5, less one held out; of both, six and four."""
    if user == LONELY:
        return []
    jazz, chess = (6, 4) if user in LOVERS_OF_BOTH else (6, 0) if user in JAZZ_LOVERS else (0, 6)
    return [f"jazz-{i:02d}" for i in range(jazz)] + [f"chess-{i:02d}" for i in range(chess)]


def _likes() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Training edges and held-out ones: everybody who loves one thing has its item 6 held out."""
    edges = [(user_row(user), item_row(item)) for user in USERS for item in _liked(user)]
    held_out = [(user_row(user), item_row("jazz-06")) for user in JAZZ_LOVERS]
    held_out += [(user_row(user), item_row("chess-06")) for user in CHESS_LOVERS]
    return np.array(edges, dtype=np.int32), np.array(held_out, dtype=np.int32)


def _follows() -> npt.NDArray[np.int32]:
    """Each lover follows the next of the same kind."""
    rings = [JAZZ_LOVERS, CHESS_LOVERS, LOVERS_OF_BOTH]
    pairs = [(ring[i], ring[(i + 1) % len(ring)]) for ring in rings for i in range(len(ring))]
    return np.array([(user_row(a), user_row(b)) for a, b in pairs], dtype=np.int32)


def _write_graph(graph: Path, n_likes: int, n_held_out: int, n_follows: int) -> None:
    entities = [
        {"name": "user", "id": "int64", "count": len(USERS)},
        {"name": "item", "id": "string", "count": len(ITEMS)},
    ]
    shared = {"symmetric": False, "coverage": "high", "duplicates": 0, "self_loops": 0}
    likes = {"name": "likes", "source": "user", "target": "item", "weight": True, "time": True, "edges": n_likes}
    follows = {"name": "follows", "source": "user", "target": "user", "weight": False, "time": False}
    relations = [
        shared | likes | {"valid": n_held_out, "test": n_held_out},
        shared | follows | {"edges": n_follows, "valid": 0, "test": 0},
    ]
    split = {"relation": "likes", "by": "random", "fraction": 0.1, "seed": 1}
    record = {"format_version": 1, "digest": "0" * 64, "entities": entities, "relations": relations, "split": split}
    (graph / "graph.json").write_text(json.dumps(record), encoding="utf-8")


def _write_vectors(path: Path) -> None:
    rng = np.random.default_rng(0)
    users = rng.normal(0, 0.001, (len(USERS), DIM)).astype(np.float32)
    users[:, :2] = [_taste(user) for user in USERS]
    items = rng.normal(0, 0.001, (len(ITEMS), DIM)).astype(np.float32)
    items[:, :2] = [_place(item) for item in ITEMS]
    for name, vectors in {"user": users, "item": items}.items():
        _save(path / "vectors" / f"{name}.npy", vectors)
        _save(path / "optimizer" / f"{name}.npy", np.ones(len(vectors), dtype=np.float32))
    _save(path / "relations.npy", np.zeros((2, 2, DIM), dtype=np.float32))
    _save(path / "optimizer" / "relations.npy", np.ones((2, 2), dtype=np.float32))


def _taste(user: str) -> tuple[float, float]:
    if user == LONELY:
        return 0.0, 0.0
    return (0.6, 0.4) if user in LOVERS_OF_BOTH else (1.0, 0.0) if user in JAZZ_LOVERS else (0.0, 1.0)


def _place(item: str) -> tuple[float, float]:
    kind, number = item.split("-")
    length = 1.0 - int(number) / 100
    return (length, 0.0) if kind == "jazz" else (0.0, length)


def _save_edges(graph: Path, part: str, relation: int, edges: npt.NDArray[np.int32]) -> None:
    _save(graph / part / f"{relation:03d}.src.npy", np.ascontiguousarray(edges[:, 0]))
    _save(graph / part / f"{relation:03d}.dst.npy", np.ascontiguousarray(edges[:, 1]))


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
