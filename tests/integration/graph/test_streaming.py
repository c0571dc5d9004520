"""A graph larger than the memory it may use is prepared all the same: memory grows with entities, not with edges."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bundle.prepared import load_prepared

WATCHED = """
import sys, threading, time
from pathlib import Path
import bundle.cells
bundle.cells.CORES = 2  # every core has a batch of its own in memory
from graph import dedupe, idspace, spool
from graph.prepare import prepare

idspace.MERGE_IDS = 1 << 18
dedupe.BUCKET_EDGES = 1 << 18
spool.LOOKUP_STRINGS = 1 << 16

def private_megabytes():  # pages of mapped files are left out: the kernel may drop them at any time
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

peak, done = 0.0, threading.Event()
def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, private_megabytes())
before = private_megabytes()
watcher = threading.Thread(target=watch)
watcher.start()
prepare(Path(sys.argv[1]), Path(sys.argv[2]))
done.set()
watcher.join()
sys.stdout.write(f"{peak - before:.0f}")
"""

EDGES = 9_000_000
USERS = 20_000
GRAPH = """
[entities.user]
id = "{kind}"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "{file}"
weight = "w"
[split]
by = "random"
"""


@pytest.fixture(scope="module")
def edges() -> pa.Table:
    """Nine million edges, many of them repeated, with weights: 216 MB as numbers, far more as Python objects."""
    rng = np.random.default_rng(0)
    src = rng.integers(USERS, size=EDGES)
    dst = (src + 1 + rng.integers(400, size=EDGES)) % USERS
    return pa.table({"src": src, "dst": dst, "w": np.ones(EDGES)})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("follows.parquet", "int64"), ("follows.csv", "string")])
def test_memory_stays_far_below_the_size_of_the_edges(tmp_path: Path, edges: pa.Table, name: str, kind: str) -> None:
    if name.endswith("parquet"):
        pq.write_table(edges, tmp_path / name)
    else:
        pa.csv.write_csv(edges, tmp_path / name)
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind=kind, file=name))
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "graph.toml"), str(tmp_path / "out")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    graph = load_prepared(tmp_path / "out")
    follows = graph.relations[0]
    kept = len(follows.train) + len(follows.valid) + len(follows.test)
    assert kept + follows.duplicates == EDGES
    assert graph.entity("user").count == USERS
    # The peak is 120 to 145 MB for two, six and nine million edges: batches and tables of entities, the edges in files.
    assert float(answer.stdout) < EDGES * 24 / 1e6, "megabytes of private memory at the peak"
