"""`memory` of a build: private memory of the whole process stays within it, however large the tables are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from bundle.arrays import map_array
from bundle.errors import ConfigError
from index.builder import memory
from index.builder.config import parse_config
from index.builder.memory import held_bytes
from index.builder.version import build_version, plan_build
from tests.support.graphs import Links, ids, write_graph
from tests.support.graphs import write_run as write_small_run
from tests.support.toy import TOY_CONFIG, build_toy, write_toy_run

MIB = 2**20
ENTITIES, DIM, EDGES = 300_000, 512, 2_000_000
SETTINGS: dict[str, object] = {
    "threads": 2,
    "index": {"kind": "ivf4", "depth": 400, "refine": 4.0, "ivf_lists": 256, "queries": 8, "target_recall": 0.1},
    "clusters": {"count": 16, "list_length": 100, "iterations": 3},
    "compression": {"subquantizers": 16, "training_vectors": 2048},
    "map": {"points": 0},
}
# Builds with what the plan says that all stages but the edges need, and tells the limit and the peak.
CHILD = """
import json, sys, threading
from pathlib import Path
from bundle.errors import ConfigError
from index.builder import memory
from index.builder.config import parse_config
from index.builder.memory import private_bytes
from index.builder.version import build_version, plan_build

run, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
plan = plan_build(run, parse_config(settings, "here"), learns=False)
# Edges are what gives way: so many as a limit leaves are sorted at a time.
others = [size for name, size in plan.stage_bytes.items() if name != "edges"]
limit = plan.memory_bytes - max(plan.stage_bytes.values()) + max(others)
peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, private_bytes())
watcher = threading.Thread(target=watch)
watcher.start()
built = build_version(run, run.parent / "bundles", parse_config(settings | {"memory": limit}, "here"), version="v")
done.set()
watcher.join()
sys.stdout.write(json.dumps({"limit": limit, "peak": peak, "edges": plan.stage_bytes["edges"]}))
"""


def write_run(path: Path) -> Path:
    """Vectors of 600 MB in a file, which no process ever holds, and edges."""
    rng = np.random.default_rng(1)
    edges = rng.integers(0, ENTITIES, (EDGES, 2)).astype(np.int32)
    write_graph(path / "graph", {"node": ids(ENTITIES)}, [Links("next", "node", "node", edges)])
    (path / "vectors").mkdir()
    shape = (ENTITIES, DIM)
    vectors = np.lib.format.open_memmap(path / "vectors/node.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, ENTITIES, 20_000):
        vectors[start : start + 20_000] = rng.standard_normal((min(20_000, ENTITIES - start), DIM), dtype=np.float32)
    np.save(path / "relations.npy", np.zeros((1, 2, DIM), dtype=np.float32))
    record = {"format_version": 1, "graph_digest": "test", "config_digest": "1" * 64, "dim": DIM}
    (path / "run.json").write_text(json.dumps(record))
    return path


@pytest.mark.slow
@pytest.mark.skipif(not engine.available(), reason="no compiled engine here, so no index that is built in files")
def test_vectors_of_more_than_twice_the_memory_are_built_within_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(run), json.dumps(SETTINGS)],
        capture_output=True, text=True, check=False, env={**os.environ, **threads}, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] < 1.1 * found["limit"], found
    assert 2.3 * found["limit"] < ENTITIES * (DIM + 1) * 4, found
    vectors = map_array(tmp_path / "bundles/v/spaces/default/vectors/node.npy")
    assert vectors.shape == (ENTITIES, DIM + 1)


def test_too_little_is_refused_with_what_would_do(tmp_path: Path) -> None:
    run = write_toy_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"memory is 20 MiB, but this build needs \d+ MiB: the process itself holds"):
        build_version(run, tmp_path / "bundles", TOY_CONFIG.model_copy(update={"memory": 20 * MIB}))
    assert not [*(tmp_path / "bundles").glob("*")]


def test_what_the_plan_says_is_enough_to_build(tmp_path: Path) -> None:
    plan = plan_build(write_toy_run(tmp_path / "run"), TOY_CONFIG, learns=False)
    assert (plan.entities, plan.relations) == (65, 2)
    assert plan.memory_bytes > plan.process_bytes + max(plan.stage_bytes.values())
    limited = TOY_CONFIG.model_copy(update={"memory": plan.memory_bytes + 8 * MIB})
    with_limit, without = build_toy(tmp_path, "limited", limited), build_toy(tmp_path, "free")
    assert with_limit.manifest.lineage == without.manifest.lineage
    assert {name: one.sha256 for name, one in with_limit.manifest.files.items()} == {
        name: one.sha256 for name, one in without.manifest.files.items()
    }


def test_indexes_that_do_not_fit_are_left_out_or_refused_where_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each index took a million times its bytes, as of a type a million times as large it does."""
    monkeypatch.setattr(memory, "held_bytes", lambda *given: 10**6 * held_bytes(*given))
    rng, n = np.random.default_rng(1), 4200
    edges = rng.integers(0, n, (20_000, 2)).astype(np.int32)
    run = write_small_run(tmp_path, {"node": ids(n)}, [Links("next", "node", "node", edges)])
    settings: dict[str, object] = {"index": {"queries": 16}, "map": {"points": 0}, "memory": "1GiB"}
    built = build_version(run, tmp_path / "bundles", parse_config(settings, "here"))
    assert "hnsw of node: not tried, a limit on memory leaves no room" in "".join(built.warnings)
    assert {trial.spec.kind for trial in built.searchers[0].trials} == {"exact"}
    settings["index"] = {"kind": "hnsw"}
    with pytest.raises(ConfigError, match="the stage indexes takes the rest. Allow more memory"):
        build_version(run, tmp_path / "bundles", parse_config(settings, "here"))


def test_learning_without_room_is_refused_with_what_does_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if an edge took a gigabyte, as a billion edges together do."""
    monkeypatch.setattr(memory, "LEARNT_EDGE_BYTES", 2**30)
    run, limited = write_toy_run(tmp_path / "run"), TOY_CONFIG.model_copy(update={"memory": 2**30})
    assert "learning" not in plan_build(run, limited, learns=False).stage_bytes
    with pytest.raises(ConfigError, match=r"or build with --quick, which needs \d{3} MiB\."):
        plan_build(run, limited, learns=True)


def test_a_user_with_most_of_the_edges_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 100 edges filled the memory; those of one user are never apart."""
    monkeypatch.setattr(memory, "BLOCK_EDGES", 100)
    monkeypatch.setattr(memory, "SORTED_EDGES", 100)
    items = np.arange(3000)
    plans = []
    for name, users in (("even", items % 300), ("hub", np.where(items < 2000, 7, items % 300))):
        edges = np.stack([users, items], axis=1).astype(np.int32)
        (tmp_path / name).mkdir()
        run = write_small_run(
            tmp_path / name, {"user": ids(300), "item": ids(3000)}, [Links("has", "user", "item", edges)]
        )
        plans.append(
            plan_build(run, parse_config({"threads": 1, "map": {"points": 0}}, "here"), learns=False).stage_bytes
        )
    even, hub = plans
    assert hub["mixtures"] - even["mixtures"] >= (2000 - 100) * memory.ENGAGEMENT_BYTES
    assert hub["edges"] >= 2000 * memory.SORTING_BYTES


@pytest.mark.parametrize("size", ["lots", "-1GiB", "1GiBB", "nan"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(ConfigError, match="memory"):
        parse_config({"memory": size}, "--memory")
