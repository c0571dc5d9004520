"""The loop closes: what users did during the day is in the version that serves in the morning."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import TRAINING, Pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_one_night_of_the_demo_ends_with_a_version_that_has_the_day_s_engagements(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    for name in ("graph", "run", "bundles"):
        shutil.copytree(pipeline.bundles.parent / name, tmp_path / name)
    script = ROOT / "examples" / "nightly" / "nightly.py"
    done = subprocess.run(
        [sys.executable, str(script), "--dir", str(tmp_path), "--quick", *TRAINING],
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
