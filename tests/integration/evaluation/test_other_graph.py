"""`twhin evaluate` with a run and a version of different graphs: refused in one line, whatever is measured."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.errors import RunIncomplete, UsageError
from bundle.versions import publish
from cli.evaluate import app
from service.settings import Limits, Settings
from tests.support.servers import running
from tests.support.toy import build_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `run`, the version `bundles/toy` made from it, and `other`, a run of another graph."""
    directory = tmp_path_factory.mktemp("two_graphs")
    build_toy(directory)
    publish(directory / "bundles", "toy")
    shutil.copytree(directory / "run", directory / "other")
    for name, key in (("run.json", "graph_digest"), ("graph/graph.json", "digest")):
        file = directory / "other" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), key: "f" * 64}))
    return directory


def evaluate(*arguments: object) -> None:
    CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize("what", ["follow", "mixtures", "ranking", "all"])
def test_a_version_of_another_graph_is_refused(toy: Path, tmp_path: Path, what: str) -> None:
    with pytest.raises(UsageError, match=r"toy was built from graph 000000000000, the run .*other has graph ff.*--run"):
        evaluate(what, "--run", toy / "other", "--bundles", toy / "bundles", "--report", tmp_path)


def test_a_service_of_another_graph_is_refused(toy: Path) -> None:
    settings = Settings(bundles=toy / "bundles", limits=Limits(timeout_ms=10_000))
    with running(settings) as url, pytest.raises(UsageError, match=f"What {url} serves was built from graph 0000"):
        evaluate("follow", "--run", toy / "other", "--url", url)


def test_a_missing_run_is_said_to_be_missing(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(RunIncomplete, match=r"file\.txt is no directory. Name a run directory"):
        evaluate("follow", "--run", tmp_path / "file.txt", "--bundles", toy / "bundles")
    with pytest.raises(RunIncomplete, match="nope does not exist. Name a run directory"):
        evaluate("follow", "--run", "nope", "--bundles", toy / "bundles")
