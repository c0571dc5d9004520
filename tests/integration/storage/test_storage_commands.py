"""`twhin bundle push|pull` and `twhin publish --to`, as an operator calls them."""

import json
import shutil
from pathlib import Path
from typing import Any

import obstore
import pytest
from click.testing import Result
from typer.testing import CliRunner

from bundle.errors import BundleAltered, BundlesBusy, GateRefused
from bundle.layout import MANIFEST
from bundle.reader import read_manifest
from bundle.verify import verify_bundle
from bundle.versions import current_version, open_version
from cli.main import app
from storage import push as push_module
from storage.layout import read_current
from storage.store import Store
from tests.integration.storage.conftest import URL
from tests.support.service_bundle import write_toy_bundle


def twhin(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_a_version_goes_by_way_of_a_store_from_where_it_is_built_to_where_it_is_served(
    store: Store, built: Path, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    said = twhin("bundle", "push", URL, "one", "--bundles", built).stdout
    assert said.startswith(f"{URL}/one is complete")
    assert store.read("CURRENT") is None
    assert "what s3://" in twhin("publish", "one", "--bundles", built, "--to", URL).stdout
    assert current_version(built) is None
    answer = json.loads(twhin("bundle", "pull", URL, "--bundles", far, "--json").stdout)
    assert (answer["version"], answer["changed"]) == ("one", True)
    twhin("publish", "two", "--bundles", built, "--to", URL)
    assert "two is current" in twhin("bundle", "pull", URL, "--bundles", far).stdout
    verify_bundle(open_version(far, "two"))


def test_a_damaged_version_is_not_sent(store: Store, built: Path) -> None:
    name = next(iter(read_manifest(built / "one").files))
    content = bytearray((built / "one" / name).read_bytes())
    content[-1] ^= 1
    (built / "one" / name).write_bytes(content)
    for command in (("bundle", "push", URL, "one"), ("publish", "one", "--to", URL)):
        with pytest.raises(BundleAltered):
            twhin(*command, "--bundles", built)
    assert store.listed() == []


def test_gates_are_kept_and_a_forced_passage_reaches_those_who_have_the_version(
    store: Store, built: Path, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    write_toy_bundle(built, "weak", recall=0.5)
    twhin("bundle", "push", URL, "weak", "--bundles", built)
    with pytest.raises(GateRefused):
        twhin("publish", "weak", "--bundles", built, "--to", URL)
    assert store.read("CURRENT") is None
    twhin("publish", "weak", "--bundles", built, "--to", URL, "--force", "a test")
    twhin("bundle", "pull", URL, "--bundles", far)
    assert {gate.forced for gate in read_manifest(far / "weak").evaluation.gates} >= {"a test"}
    verify_bundle(open_version(far, "weak"))
    twhin("publish", "weak", "--bundles", built, "--to", URL, "--force", "another reason")
    twhin("bundle", "pull", URL, "--bundles", far)
    verify_bundle(open_version(far, "weak"))
    now = read_current(store)
    assert now is not None
    assert {gate.forced for gate in read_manifest(far / "weak").evaluation.gates} >= {"another reason"}


def test_a_version_is_compared_with_the_one_that_the_store_publishes(store: Store, built: Path) -> None:
    for name, recall in (("one", 0.5), ("two", 0.3)):
        manifest = json.loads((built / name / MANIFEST).read_text())
        auto = next(iter(manifest["spaces"].values()))["auto"]
        manifest["evaluation"]["strategies"] = {auto: {"recall@10": recall}}
        (built / name / MANIFEST).write_text(json.dumps(manifest))
    twhin("publish", "one", "--bundles", built, "--to", URL)
    with pytest.raises(GateRefused, match="against version one"):
        twhin("publish", "two", "--bundles", built, "--to", URL)
    assert store.read(f"two/{MANIFEST}") is None


def test_whoever_publishes_meanwhile_is_not_overwritten(
    store: Store, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twhin("publish", "one", "--bundles", built, "--to", URL)
    real = push_module.push

    def slow_push(*arguments: Any) -> int:
        files = real(*arguments)
        monkeypatch.setattr(push_module, "push", real)
        twhin("publish", "one", "--bundles", built, "--to", URL)
        current = obstore.get(obstore.store.from_url(URL), "CURRENT").bytes()
        obstore.put(obstore.store.from_url(URL), "CURRENT", bytes(current) + b"\n")
        return files

    monkeypatch.setattr(push_module, "push", slow_push)
    with pytest.raises(BundlesBusy, match="has published one"):
        twhin("publish", "two", "--bundles", built, "--to", URL)


def test_what_the_store_s_version_let_requests_name_and_the_new_one_does_not_is_told(store: Store, built: Path) -> None:
    """Categories too where the version that the store publishes is here as well."""
    twhin("publish", "one", "--bundles", built, "--to", URL)
    manifest = json.loads((built / "two" / MANIFEST).read_text())
    user = next(one for one in manifest["spaces"]["main"]["entities"] if one["name"] == "user")
    renamed = [{**one, "name": "land"} if one["name"] == "country" else one for one in user["attributes"]]
    user["attributes"] = renamed
    (built / "two" / MANIFEST).write_text(json.dumps(manifest))
    said = twhin("publish", "two", "--bundles", built, "--to", URL, "--json")
    lost = ["Filters: attribute 'country' of user is gone. Filters by it are refused."]
    assert json.loads(said.stdout)["lost"] == lost
    assert f"Warning: {lost[0]}" in said.stderr
    twhin("publish", "one", "--bundles", built, "--to", URL)
    shutil.rmtree(built / "one")
    assert json.loads(twhin("publish", "two", "--bundles", built, "--to", URL, "--json").stdout)["lost"] == lost
