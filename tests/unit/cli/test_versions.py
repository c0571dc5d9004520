"""What `twhin bundle show` and `diff` show a person, and where `twhin serve` finds its versions."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bundle.errors import BundleInvalid, BundleNotFound
from bundle.versions import publish
from cli.main import app as whole
from cli.serve import serve
from cli.versions import _for_people, app
from tests.support.service_bundle import write_toy_bundle
from tests.support.signing import rewrite_manifest
from tests.support.terminal import on_terminal

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


def test_the_list_of_versions_has_their_names_whole_on_a_usual_terminal(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / GOLDEN.name)
    command = [sys.executable, "-c", "from cli.main import main; main()", "bundle", "show", "--bundles", str(tmp_path)]
    row = next(line for line in on_terminal(command, 80).splitlines() if GOLDEN.name in line)
    assert "3 passed" in row


def test_every_run_of_a_version_is_named_with_what_it_was_warm_started_from(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path, "v9")

    def of_two_runs(manifest: Any) -> None:
        run = {"graph_digest": "3" * 64, "training_config_digest": "4" * 64}
        ancestors = [f"v{number}" for number in range(8, 0, -1)]
        manifest["spaces"]["other"] = manifest["spaces"]["main"]
        manifest["lineage"] |= {"parent": "v8", "ancestors": ancestors, "others": {"other": {**run, "parent": "v0"}}}

    rewrite_manifest(tmp_path / "v9", of_two_runs)
    shown = CliRunner().invoke(app, ["show", "--bundles", str(tmp_path), "v9"], catch_exceptions=False).output
    rows = {
        " ".join(line.split("│")[1].split()): line.split("│")[2].strip() for line in shown.splitlines() if "│" in line
    }
    assert rows["run of main"] != rows["run of other"]
    assert rows["warm start from of main"].startswith("v8, before that v7,")
    assert rows["warm start from of main"].endswith("v4, and 3 before")
    assert rows["warm start from of other"] == "v0"


@pytest.mark.parametrize("command", ["show", "history", "prune"])
def test_a_directory_that_is_not_there_is_no_directory_without_versions(tmp_path: Path, command: str) -> None:
    with pytest.raises(BundleNotFound, match="is no directory"):
        CliRunner().invoke(app, [command, "--bundles", str(tmp_path / "typo")], catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_a_version_that_may_not_be_looked_into_hides_no_other_and_is_not_removed(tmp_path: Path) -> None:
    """As where a builder has a umask of its own. Root, who may look into everything, goes without that right here."""
    for version in ("v1", "v2", "v3"):
        write_toy_bundle(tmp_path, version)
    publish(tmp_path, "v3")
    (tmp_path / "v2").chmod(0)
    lowered = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    ask = [*lowered, sys.executable, "-c", "from cli.main import main; main()", "bundle"]
    where = ("--bundles", str(tmp_path))
    try:
        listed, named, pruned = (
            subprocess.run([*ask, *words, *where], capture_output=True, text=True, check=False)
            for words in (("show", "--json"), ("show", "v2"), ("prune", "--keep", "1"))
        )
    finally:
        (tmp_path / "v2").chmod(0o755)
    told = {one["version"]: one.get("fault", "") for one in json.loads(listed.stdout)["versions"]}
    assert set(told) == {"v1", "v2", "v3"}
    assert "v2/manifest.json cannot be read: Permission denied. Correct the path or its permissions" in told["v2"]
    assert (named.returncode, named.stderr.count("\n")) == (6, 1)
    assert "Permission denied" in named.stderr
    assert pruned.stdout == "Removed 1: v1.\n"


def test_a_version_dated_as_to_come_is_told_by_name(tmp_path: Path) -> None:
    for version in ("v1", "v2", "v3"):
        write_toy_bundle(tmp_path, version)
    rewrite_manifest(tmp_path / "v1", lambda manifest: manifest.update(created="2999-01-01T00:00:00Z"))
    for command in (["publish"], ["bundle", "verify"], ["bundle", "show"]):
        with pytest.raises(BundleInvalid, match="v1 in .* is dated 2999-01-01"):
            CliRunner().invoke(whole, [*command, "latest", "--bundles", str(tmp_path)], catch_exceptions=False)
    CliRunner().invoke(whole, ["publish", "v2", "--bundles", str(tmp_path)], catch_exceptions=False)
    pruned = CliRunner().invoke(
        whole, ["bundle", "prune", "--keep", "1", "--bundles", str(tmp_path)], catch_exceptions=False
    )
    assert pruned.stdout == "Removed 0: nothing to do.\n"
    assert "v1, dated as to come" in pruned.stderr


def test_publishing_tells_what_requests_can_no_longer_name(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write_toy_bundle(tmp_path, version)

    def without_bots(manifest: Any) -> None:
        users = manifest["spaces"]["main"]["entities"][0]
        users["attributes"] = [{**one, "name": one["name"].replace("bot", "robot")} for one in users["attributes"]]

    rewrite_manifest(tmp_path / "v2", without_bots)
    said = [
        CliRunner().invoke(whole, ["publish", version, "--bundles", str(tmp_path)], catch_exceptions=False).stderr
        for version in ("v1", "v2", "v2")
    ]
    assert said[0] == said[2] == ""
    assert "attribute 'bot' of user is gone" in said[1]


def test_serve_takes_its_versions_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_BUNDLES", str(tmp_path / "named"))
    command = typer.Typer()
    command.command()(serve)
    with pytest.raises(BundleNotFound, match="named"):
        CliRunner().invoke(command, ["--port", "0"], catch_exceptions=False)
