"""What `twhin bundle show` and `diff` show a person, and where `twhin serve` finds its versions."""

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bundle.errors import BundleNotFound
from cli.serve import serve
from cli.versions import _for_people, app

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "format-1-hnsw"


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


def test_a_version_is_shown_on_a_page(tmp_path: Path) -> None:
    """What it holds and was measured to do, in a line each; the whole manifest with --all or --json."""
    shutil.copytree(GOLDEN, tmp_path / GOLDEN.name)
    in_short, everything = (
        CliRunner().invoke(app, ["show", "--bundles", str(tmp_path), GOLDEN.name, *options], catch_exceptions=False)
        for options in ((), ("--all",))
    )
    assert len(in_short.output.splitlines()) < 30 < len(everything.output.splitlines())
    for said in ("gate recall@100 of user", "likes: user to item, by blend", "40 entities, 8 dimensions", "160 edges"):
        assert said in in_short.output


def test_serve_takes_its_versions_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_BUNDLES", str(tmp_path / "named"))
    command = typer.Typer()
    command.command()(serve)
    with pytest.raises(BundleNotFound, match="named"):
        CliRunner().invoke(command, ["--port", "0"], catch_exceptions=False)
