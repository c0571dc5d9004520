"""What `twhin bundle show` and `diff` show a person, and where `twhin serve` finds its versions."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bundle.errors import BundleNotFound
from cli.serve import serve
from cli.versions import _for_people


def test_what_matters_most_comes_first_and_networks_are_left_out() -> None:
    space = "spaces.default"
    shown = _for_people(
        [
            f"{space}.dim",
            f"{space}.indexes.user.recall.all",
            f"{space}.strategies.rescored.rescoring.hidden.0.1",
            f"{space}.strategies.rescored.rescoring.pool",
            f"{space}.auto",
            f"{space}.default.relation",
            "evaluation.gates.0.measured",
        ]
    )
    assert shown == [
        f"{space}.default.relation",
        f"{space}.auto",
        "evaluation.gates.0.measured",
        f"{space}.indexes.user.recall.all",
        f"{space}.dim",
        f"{space}.strategies.rescored.rescoring.pool",
    ]


def test_serve_takes_its_versions_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_BUNDLES", str(tmp_path / "named"))
    app = typer.Typer()
    app.command()(serve)
    with pytest.raises(BundleNotFound, match="named"):
        CliRunner().invoke(app, ["--port", "0"], catch_exceptions=False)
