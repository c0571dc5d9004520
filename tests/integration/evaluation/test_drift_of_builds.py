"""A build from a warm start says how far it is from the version before; every build says what it tried."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import Manifest
from bundle.reader import read_manifest
from cli.build import build_assessed
from tests.support.toy import ITEMS, USERS, build_toy, write_toy_run

TOY = {"clusters": {"count": 2}, "mixtures": {"modes": 2}, "index": {"queries": 50}}


def warm_run(path: Path, parent: str, turned: bool = False) -> Path:
    """The toy's run as if it were warm started from `parent`; with `turned`, jazz and chess change places."""
    run = write_toy_run(path)
    if turned:
        items = np.load(run / "vectors" / "item.npy")
        np.save(run / "vectors" / "item.npy", np.ascontiguousarray(items[:, [1, 0, *range(2, items.shape[1])]]))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"parent": parent}))
    return run


def built(directory: Path, run: Path) -> Manifest:
    return build_assessed(run, directory / "bundles", TOY, version="next", quick=True).manifest


def test_the_manifest_has_the_drift_since_the_version_before(tmp_path: Path) -> None:
    build_toy(tmp_path, "before")
    drift = built(tmp_path, warm_run(tmp_path / "warm", "before", turned=True)).evaluation.drift
    assert drift is not None
    assert drift.since == "before"
    users, items = drift.types["user"], drift.types["item"]
    assert (users.kept, users.added, users.removed) == (len(USERS), 0, 0)
    assert (users.cosine, users.distance, users.neighbours, users.clusters) == (pytest.approx(1, abs=1e-2), 0, 1, 0)
    assert items.kept == len(ITEMS)
    assert items.cosine == pytest.approx(0, abs=1e-2)  # what was along one axis lies along the other
    assert items.distance == pytest.approx(np.sqrt(2), abs=1e-2)
    assert read_manifest(tmp_path / "bundles" / "next").evaluation.drift == drift


@pytest.mark.parametrize("parent", ["gone", "../run"])
def test_a_parent_that_is_no_version_there_is_no_reason_to_fail(tmp_path: Path, parent: str) -> None:
    assert built(tmp_path, warm_run(tmp_path / "warm", parent)).evaluation.drift is None


def test_a_parent_of_other_dimensions_is_no_reason_to_fail(tmp_path: Path) -> None:
    build_toy(tmp_path, "before")
    manifest = tmp_path / "bundles" / "before" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dim": 8', '"dim": 16'))
    assert built(tmp_path, warm_run(tmp_path / "warm", "before")).evaluation.drift is None


def test_an_index_says_among_what_it_was_chosen(tmp_path: Path) -> None:
    settings = {**TOY, "index": {"queries": 50, "kind": "ivf4"}}
    manifest = build_assessed(write_toy_run(tmp_path / "run"), tmp_path / "bundles", settings, quick=True).manifest
    tried = manifest.spaces["default"].indexes["item"].tried
    assert [one.taken for one in tried].count(True) == 1
    assert [one.recall for one in tried] == sorted(one.recall for one in tried)
    assert {one.kind for one in tried} == {"ivf4"}
