"""One page with everything that is measured, as `make report` writes it."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.settings import merged
from training.config import TrainConfig

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_the_page_holds_every_part_and_the_same_numbers_as_json(twhin: Command, pipeline: Any, tmp_path: Path) -> None:
    twhin(
        *("evaluate", "all", "--run", pipeline.run, "--bundles", pipeline.bundles, "--users", 60),
        *("--old", pipeline.run, "--report", tmp_path),
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Candidates: ", "Cold start", "A mixture against one vector", "Ranking features", "Compression"):
        assert heading in page
    assert "Drift from" in page
    assert re.search(r"(?:src|href|url\()\W*(?:https?:)?//", page) is None, "nothing is loaded from elsewhere"
    assert "default-src 'none'" in page
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    cold = [row["shown"] for one in numbers["follow"] for row in one["cold"]]
    assert {"in training", "by engagements"} <= set(cold)
    assert len({one["clusters"] for one in numbers["mixtures"]["mixtures"]}) == 3
    made = numbers["provenance"]
    assert (made["version"], made["run"]) == (pipeline.version, str(pipeline.run))
    assert made["training"]["dim"] == "16"
    again = merged(None, [f"{name}={value}" for name, value in made["training"].items()])  # as --set has them
    trained = json.loads((pipeline.run / "run.json").read_text(encoding="utf-8"))["config"]
    assert TrainConfig.model_validate(again) == TrainConfig.model_validate(trained)
    assert made["settings"] == {"users": "60", "seed": "1", "old": str(pipeline.run)}
    assert made["machine"]
    for text in (made["version"], made["run"], made["graph_digest"][:12], "dim=16", "users=60", made["machine"]):
        assert text in page


def test_parts_can_be_left_out(twhin: Command, pipeline: Any, tmp_path: Path) -> None:
    skipped = [word for part in ("mixtures", "ranking", "compression") for word in ("--skip", part)]
    source = ("--run", pipeline.run, "--bundles", pipeline.bundles)
    twhin("evaluate", "all", *source, *skipped, "--users", 20, "--report", tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Candidates: " in page
    assert "Compression:" not in page
    assert "skipped=mixtures, ranking, compression" in page
