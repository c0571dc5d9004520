"""Killing the process that prepares a graph, at any moment, leaves a whole graph or none."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import RunIncomplete
from bundle.prepared import load_prepared
from graph.prepare import prepare

FOR_EVER = """
import sys
from pathlib import Path
from graph.prepare import prepare
print("ready", flush=True)
while True:
    for graph in sys.argv[2:]:
        prepare(Path(graph), Path(sys.argv[1]))
        print("whole", flush=True)
"""
GRAPH = """
[entities.user]
id = "string"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
[split]
by = "random"
"""
KILLS = 8


def make(directory: Path, seed: int) -> Path:
    pairs = np.random.default_rng(seed).integers(5000, size=(100_000, 2))
    directory.mkdir()
    (directory / "follows.csv").write_text("src,dst\n" + "".join(f"{s},{t}\n" for s, t in pairs.tolist()))
    (directory / "graph.toml").write_text(GRAPH)
    return directory / "graph.toml"


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    graphs = [make(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    digests = {prepare(graph, tmp_path / f"whole-{i}").digest for i, graph in enumerate(graphs)}
    out = tmp_path / "run" / "graph"
    chance = random.Random(0)
    found = [killed_while_preparing(out, graphs, kill % 3, chance.uniform(0, 1.0)) for kill in range(KILLS)]
    assert set(found) - {None} <= digests
    assert any(found), "no kill left a whole graph, though some came after one"
    # The next graph takes the place of the last one and of what the killed processes left.
    prepare(make(tmp_path / "c", 3), out)
    assert [path.name for path in out.parent.iterdir()] == ["graph"]


def killed_while_preparing(out: Path, graphs: list[Path], whole: int, after: float) -> str | None:
    """Kill a process that prepares one graph after another, some time `after` so many are `whole`; returns the digest
    of what it leaves, if anything.
    """
    command = [sys.executable, "-c", FOR_EVER, str(out), *map(str, graphs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        assert [process.stdout.readline() for _ in range(whole)] == [b"whole\n"] * whole
        time.sleep(after)  # any moment: none is wrong
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        graph = load_prepared(out)
    except RunIncomplete:
        assert not out.exists()
        return None
    follows = graph.relations[0]
    rows = np.concatenate([follows.train.src, follows.valid.src, follows.test.src])  # every page can be read
    assert rows.max() < graph.entity("user").count
    return graph.digest
