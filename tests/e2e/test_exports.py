"""A trained version goes to others: `twhin export` of a real version, and the ranking example over it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import twhin_client
from tests.e2e.conftest import Command, Pipeline, json_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_exports_the_version_that_is_served(twhin: Command, pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = json_of(twhin("export", "current", "--bundles", pipeline.bundles, "--out", out, "--type", "item", "--json"))
    assert [Path(file["path"]).name for file in told["files"]] == ["item.parquet"]
    items = twhin_client.open(pipeline.bundles).entities("item")
    assert told["rows"] == {"item": len(items)}
    read = pq.read_table(out / "item.parquet")
    np.testing.assert_array_equal(np.array(read["vector"].to_pylist(), dtype=np.float32), items.vectors)
    refused = twhin("export", "current", "--bundles", pipeline.bundles, "--out", out, "--json", status=2)
    assert json.loads(refused.stderr)["error"]["code"] == "usage"


def test_the_history_of_publications_is_shown(twhin: Command, pipeline: Pipeline) -> None:
    told = json_of(twhin("bundle", "history", "--bundles", pipeline.bundles, "--json"))
    assert [one["version"] for one in told["history"]] == [pipeline.version]
    assert pipeline.version in twhin("bundle", "history", "--bundles", pipeline.bundles).stdout


def test_the_ranking_example_gains_by_the_embeddings(pipeline: Pipeline) -> None:
    command = [sys.executable, str(ROOT / "examples" / "ranking" / "ranker.py"), "--bundles", str(pipeline.bundles)]
    command += ["--graph", str(pipeline.graph.parent), "--impressions", "30000", "--epochs", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([a-z ]+) \| (\d\.\d+) \| (-?\d+\.\d+) \|$", done.stdout, flags=re.MULTILINE)
    area = {name: float(value) for name, value, _ in rows}
    entropy = {name: float(value) for name, _, value in rows}
    assert set(area) == {"no embeddings", "user", "item", "user and item"}
    assert area["user and item"] > area["no embeddings"] + 0.03, done.stdout
    assert entropy["user and item"] > entropy["no embeddings"] + 1.0, done.stdout
