"""Parts that do not agree with one another are refused: files and manifest, names, a run and its graph."""

import json
from pathlib import Path

import pytest

from bundle.errors import BundleInvalid, RunError, UsageError
from bundle.layout import SpaceLayout
from bundle.reader import open_bundle, read_manifest
from bundle.run import open_run
from tests.support.toy import build_toy, write_toy_run


def test_an_array_of_another_shape_than_the_manifest_lists_is_refused(tmp_path: Path) -> None:
    path = build_toy(tmp_path).path
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["spaces/default/popular/000.npy"]["shape"] = [7]
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleInvalid, match=r"popular/000\.npy is <i4 .*the manifest lists <i4 \(7,\)"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("auto", "none", "no strategy"),
        ("auto_newcomer", "none", "no strategy"),
        ("default", {"relation": "none", "user_type": "user", "candidate_type": "item"}, "no relation"),
        ("default", {"relation": "likes", "user_type": "user", "candidate_type": "none"}, "no entity type"),
        ("dim", 7, "do not divide"),
    ],
)
def test_a_manifest_that_names_what_is_not_there_is_refused(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = build_toy(tmp_path).path
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["spaces"]["default"][key] = value
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleInvalid, match=said):
        read_manifest(path)


def test_a_run_whose_graph_changed_is_refused(tmp_path: Path) -> None:
    run = write_toy_run(tmp_path / "run")
    open_run(run)
    file = run / "graph" / "graph.json"
    file.write_text(file.read_text().replace('"digest": "0', '"digest": "1'))
    with pytest.raises(RunError, match="changed after the training"):
        open_run(run)


@pytest.mark.parametrize("name", ["", "..", "a/b", "9", "a\n", "a" * 65])
def test_a_space_with_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a space"):
        SpaceLayout(name)
