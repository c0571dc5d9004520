"""A version does not depend on how its graph was sharded: from Q = 8 and from Q = 1 come the same bytes.

Rows follow ids, so they are the same for any Q; what differs is the order of the training edges. Equal must be every
file of the version and what was learnt and measured on its edges; not the times and CPU microseconds in the manifest.
Where the sweep is left to choose, it chooses by CPU time, and hnswlib's threads add rows in any order: the kind of
index is therefore fixed here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import engine
import graph.prepare
from bundle.arrays import save_array
from bundle.manifest import Manifest
from bundle.prepared import PreparedGraph, load_prepared
from bundle.reader import open_bundle
from bundle.verify import verify_bundle
from cli.compose import assessor
from index.builder.config import parse_config
from index.builder.version import build_version

USERS, ITEMS, LIKES, DIM = 1500, 200, 9000, 8
GRAPH = """
[entities.user]
id = "int64"
[entities.item]
id = "string"
[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.parquet"
weight = "w"
time = "t"
[[relations]]
name = "friends"
source = "user"
target = "user"
files = "friends.parquet"
weight = "w"
symmetric = true
{split}
"""
SPLIT = '[split]\nrelation = "likes"\nby = "random"\nfraction = 0.1\nseed = 1\n'
SETTINGS: dict[str, object] = {
    "index": {"kind": "ivf4", "depth": 400, "refine": 4.0, "queries": 60},
    "clusters": {"types": ["user", "item"], "count": 20},
    "mixtures": {"edge_weights": True, "half_life": 1000.0, "smoothing": {"neighbours": 3}},
    "map": {"points": 500},
    "candidates": {"min_in_degree": 1, "max_count": 1300},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Edge files: likes with weights and times, friends stored one way or both."""
    path, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(1)
    users, items = rng.integers(USERS, size=LIKES), rng.integers(ITEMS, size=LIKES)
    likes: dict[str, Any] = {"src": users, "dst": [f"item {item}" for item in items]}
    likes |= {"w": rng.random(LIKES), "t": rng.integers(1_700_000_000, 1_700_010_000, LIKES)}
    pq.write_table(pa.table(likes), path / "likes.parquet")
    friends = rng.integers(USERS, size=(4000, 2))
    friends = np.concatenate([friends, friends[:500, ::-1]])
    pq.write_table(
        pa.table({"src": friends[:, 0], "dst": friends[:, 1], "w": rng.random(len(friends))}), path / "friends.parquet"
    )
    return path


def built(directory: Path, shards: int, split: str, monkeypatch: pytest.MonkeyPatch) -> tuple[PreparedGraph, Manifest]:
    """The version of the graph in so many shards; vectors by row."""
    monkeypatch.setattr(graph.prepare, "shard_count", lambda _: shards)
    toml, run = directory / f"{bool(split)}.toml", directory / f"run-{shards}-{bool(split)}"
    toml.write_text(GRAPH.format(split=split))
    prepared = graph.prepare.prepare(toml, run / "graph")
    rng = np.random.default_rng(2)
    for entity in prepared.entities:
        save_array(run / "vectors" / f"{entity.name}.npy", rng.random((entity.count, DIM), dtype=np.float32))
    save_array(run / "relations.npy", rng.random((2, 2, DIM), dtype=np.float32))
    record = {"format_version": 1, "graph_digest": prepared.digest, "config_digest": "1" * 64, "dim": DIM}
    (run / "run.json").write_text(json.dumps(record))
    config = parse_config(SETTINGS, "here")
    assess = assessor(run, config.seed) if split else None
    version = build_version(run, directory / "bundles", config, version=f"q{shards}{bool(split)}", assess=assess)
    verify_bundle(open_bundle(version.path))
    return load_prepared(run / "graph"), version.manifest


@pytest.mark.skipif(not engine.available(), reason="no compiled engine here, so no ivf4")
@pytest.mark.parametrize("split", ["", SPLIT], ids=["queries from training edges", "learnt from held-out edges"])
def test_eight_shards_and_one_give_the_same_version(
    directory: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (eight, one), manifests = zip(*[built(directory, q, split, monkeypatch) for q in (8, 1)], strict=True)
    for of_eight, of_one in zip(eight.relations, one.relations, strict=True):
        assert not np.array_equal(of_eight.train.src, of_one.train.src), "the order of edges is to differ"
        assert sorted(of_eight.train.src) == sorted(of_one.train.src)
    files = [{name: entry.sha256 for name, entry in manifest.files.items()} for manifest in manifests]
    assert files[0] == files[1]
    learnt = [manifest.spaces["default"] for manifest in manifests]
    assert learnt[0].strategies == learnt[1].strategies
    assert learnt[0].relation_strategies == learnt[1].relation_strategies
    assert manifests[0].evaluation == manifests[1].evaluation
