"""The loop closes: what users did during the day is in the version that serves in the morning."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph.prepare import prepare
from tests.e2e.conftest import TRAINING, Pipeline

ROOT = Path(__file__).resolve().parents[2]

# The night's training is as long as the version before: nobody tells it.
AS_BEFORE = [word for word in TRAINING if word != "dim=16"]
AS_BEFORE.remove("--set")


@pytest.mark.timeout(600)
def test_one_night_of_the_demo_ends_with_a_version_that_has_the_day_s_engagements(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    for name in ("graph", "run", "bundles"):
        shutil.copytree(pipeline.bundles.parent / name, tmp_path / name)
    script = ROOT / "examples" / "nightly" / "nightly.py"
    done = subprocess.run(
        [sys.executable, str(script), "--dir", tmp_path.name, "--quick", *AS_BEFORE],  # relative, as on the page
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "OMP_NUM_THREADS": "1"},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"]["before"] == pipeline.version != told["version"]["now"]
    assert told["newcomers"]["with_vector"] == told["newcomers"]["all"] > 0
    before, now = told["edges"]["before"], told["edges"]["now"]
    assert now["likes"] > before["likes"]
    assert now["follows"] > before["follows"]
    assert now["clicks_ad"] == before["clicks_ad"]
    assert told["meanwhile"]["failed"] == 0
    assert told["meanwhile"]["answered"] > 0
    assert told["meanwhile"]["versions"] == sorted([told["version"]["before"], told["version"]["now"]])


def test_engagements_stand_beside_files_with_columns_of_other_names(tmp_path: Path) -> None:
    night = tmp_path / "night"
    (night / "engagements").mkdir(parents=True)
    (tmp_path / "buys.csv").write_text("buyer,sku,when\n1,a,2026-01-31\n2,b,2026-02-01\n")
    (tmp_path / "graph.toml").write_text("""
[entities.user]
id = "int64"
[entities.item]
id = "string"
[[relations]]
name = "bought"
source = "user"
target = "item"
files = "buys.csv"
src = "buyer"
dst = "sku"
time = "when"
""")
    new = pa.table({"src": [3], "dst": ["a"], "time": [1_770_000_000]})
    pq.write_table(new, night / "engagements" / "bought.parquet")
    script = runpy.run_path(str(ROOT / "examples" / "nightly" / "nightly.py"))
    graph = prepare(script["with_engagements"](tmp_path / "graph.toml", night), tmp_path / "prepared")
    assert len(graph.relations[0].train) == 3
