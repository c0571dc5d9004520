"""The contract of the two engines on a cluster: two executors in processes of their own.

Not in `make test`, as it takes a minute or two of CPU:

    pytest tests/contract/spark_cluster.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.prepared import check_rows, load_prepared
from graph.prepare import prepare
from tests.support.engines import write_inputs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_cluster_makes_the_same_graph(tmp_path: Path) -> None:
    """By the command, on Spark's own settings."""
    graph_toml = write_inputs(tmp_path / "inputs")
    here, there = prepare(graph_toml, tmp_path / "here"), tmp_path / "there"
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "twhin_command", "prepare", graph_toml, "--out", there]
    on = ["--engine", "spark", "--master", "local-cluster[2,1,1024]"]
    done = subprocess.run([*command, *on], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_prepared(there).digest == here.digest
    assert (there / "graph.json").read_bytes() == (here.path / "graph.json").read_bytes()
    check_rows(load_prepared(there))
