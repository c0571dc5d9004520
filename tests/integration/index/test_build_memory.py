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
from tests.support.graphs import Links, ids, write_graph

MIB = 2**20
ENTITIES, DIM, EDGES = 300_000, 512, 2_000_000
SETTINGS: dict[str, object] = {
    "threads": 2,
    "index": {"kind": "ivf4", "depth": 400, "refine": 4.0, "ivf_lists": 256, "queries": 8, "target_recall": 0.1},
    "clusters": {"count": 16, "list_length": 100, "iterations": 3},
    "compression": {"subquantizers": 16, "training_vectors": 2048},
    "map": {"points": 0},
}
# Plans with 1 MiB more than the process needs, builds with that, and tells the limit and the peak.
CHILD = """
import json, sys, threading
from pathlib import Path
from bundle.errors import ConfigError
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
