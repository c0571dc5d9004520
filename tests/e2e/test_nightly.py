"""The loop closes: what users did during the day is in the version that serves in the morning."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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


GRAPH = """
split = { relation = "bought", by = "files", test = "later.csv" }
[entities.user]
id = "int64"
[entities.item]
id = "string"
attributes = ["items.csv"]
[[relations]]
name = "bought"
source = "user"
target = "item"
files="buys.csv"
src = "buyer"
dst = "sku"
time = "when"
weight = "price"
[[relations]]
name = "*"
relation_column = "what"
source = "user"
target = "item"
files = ["other.csv"]
"""


def night_of(directory: Path, times: list[int]) -> Any:
    """The script's own function, and beside it a day of engagements and a graph whose purchases have these times."""
    (directory / "night").mkdir()
    rows = [f"{user},{sku},{when},{price}" for user, sku, when, price in zip("12", "ab", times, "13", strict=True)]
    (directory / "buys.csv").write_text("\n".join(["buyer,sku,when,price", *rows]))
    (directory / "later.csv").write_text("buyer,sku\n1,b\n")
    (directory / "items.csv").write_text("id,colour\na,red\n")
    (directory / "other.csv").write_text("src,dst,what\n1,a,saw it\n2,b,saw it\n")
    (directory / "graph.toml").write_text(GRAPH)
    new = pa.table({"src": [3], "dst": ["a"], "time": [1_770_000_000]})
    for name in ("bought", "saw_it-1f"):
        pq.write_table(new, directory / "night" / f"{name}.parquet")
    script = runpy.run_path(str(ROOT / "examples" / "nightly" / "nightly.py"))
    return script["with_engagements"]


@pytest.mark.parametrize("scale", [1, 1000, 10**9])
def test_engagements_are_written_as_the_relation_s_own_edges(tmp_path: Path, scale: int) -> None:
    """Columns of other names, times in another unit, weights, a column that names the relation, files in a list."""
    write = night_of(tmp_path, [1_760_000_000 * scale, 1_765_000_000 * scale])
    exported = {"bought": "bought.parquet", "saw it": "saw_it-1f.parquet"}
    files = {name: str(tmp_path / "night" / file) for name, file in exported.items()}
    bought, seen = prepare(write(tmp_path / "graph.toml", tmp_path / "night", files), tmp_path / "prepared").relations
    assert (len(bought.train), len(bought.test), len(seen.train)) == (3, 1, 3)
    assert bought.train.time is not None
    assert bought.train.weight is not None
    assert sorted(bought.train.time) == [1_760_000_000 * scale, 1_765_000_000 * scale, 1_770_000_000 * scale]
    assert sorted(bought.train.weight) == [1, 2, 3]


def test_engagements_that_would_be_lost_or_of_no_date_end_the_night(tmp_path: Path) -> None:
    write, file = night_of(tmp_path, [7, 8]), str(tmp_path / "night" / "bought.parquet")
    with pytest.raises(SystemExit, match="the times of bought go up to 8, no date"):
        write(tmp_path / "graph.toml", tmp_path / "night", {"bought": file})
    with pytest.raises(SystemExit, match="has edges of 'sold', of which .* has none"):
        write(tmp_path / "graph.toml", tmp_path / "night", {"sold": file})
