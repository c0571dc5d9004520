"""`memory` with several trainers: that of all processes together, in the plan as in the run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.prepared import PreparedGraph
from tests.support.graphs import Links, ids, write_graph
from training.backends.kernel.build import find_compiler
from training.config import TrainConfig

MIB = 2**20
TRAIN = """
import sys
from pathlib import Path
from bundle.prepared import load_prepared
from training.config import TrainConfig
from training.train import train

if __name__ == "__main__":
    config = TrainConfig.model_validate_json(sys.argv[2])
    train(load_prepared(Path(sys.argv[1])), Path(sys.argv[3]), config)
"""
PLAN = """
import json, sys
from pathlib import Path
from bundle.prepared import load_prepared
from training.config import TrainConfig
from training.memory import resident_bytes
from training.plan import plan

held = resident_bytes()
answer = plan(load_prepared(Path(sys.argv[1])), TrainConfig.model_validate_json(sys.argv[2]))
sizes = {"partitions": answer.partitions, "memory_bytes": answer.memory_bytes, "watcher": held}
import training.distributed.worker
print(json.dumps(sizes | {"trainer": resident_bytes()}))
"""


def changed(config: TrainConfig, **settings: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **settings})


def start(script: str, graph: Path, config: TrainConfig, *more: Path) -> subprocess.Popen[str]:
    """A script in a process of its own, which holds nothing of what these tests have loaded."""
    file = graph.parent / "child.py"
    file.write_text(script, encoding="utf-8")
    command = [sys.executable, str(file), str(graph), config.model_dump_json(), *map(str, more)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def planned(graph: PreparedGraph, config: TrainConfig) -> dict[str, int]:
    with start(PLAN, graph.path, config) as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, int] = json.loads(said)
    return found


def test_a_plan_counts_what_every_process_holds(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    """And what it calls enough is enough, with a little room for how processes differ."""
    two = changed(config, devices=2, epochs=1, backend="torch")
    need = planned(circles, two)
    assert need["memory_bytes"] > need["watcher"] + 2 * 0.9 * need["trainer"]
    enough = changed(two, memory=int(1.1 * need["memory_bytes"]))
    assert planned(circles, enough)["partitions"] == 4
    with start(TRAIN, circles.path, enough, tmp_path / "run") as process:
        process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler here, and torch's step takes more memory")
def test_memory_is_that_of_all_processes_together(tmp_path: Path) -> None:
    """512 MiB of embeddings within 800 MiB, of which interpreters and libraries take three quarters."""
    limit, nodes = 800 * MIB, 512 * MIB // (128 * 4)
    edges = np.random.default_rng(1).integers(0, nodes, (200_000, 2)).astype(np.int32)
    graph = write_graph(tmp_path / "graph", {"node": ids(nodes)}, [Links("next", "node", "node", edges)])
    settings = {"dim": 128, "epochs": 1, "threads": 2, "devices": 2, "negatives_uniform": 32, "memory": limit}
    peaks: dict[int, int] = {}
    with start(TRAIN, graph.path, TrainConfig.model_validate(settings), tmp_path / "run") as process:
        while process.poll() is None:
            peaks |= {pid: peak for pid in family(process.pid) if (peak := peak_of(pid))}
            time.sleep(0.05)
    assert process.returncode == 0
    assert len(peaks) >= 3
    assert sum(peaks.values()) < 1.1 * limit, {pid: peak // MIB for pid, peak in peaks.items()}


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children())]
    except psutil.NoSuchProcess:
        return []


def peak_of(pid: int) -> int | None:
    """The most that a process has had resident, in bytes; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 if "VmHWM:" in status else None
