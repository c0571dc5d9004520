"""Every file has a licence by REUSE.toml, as `reuse lint` would have it; every licence that is named has its text."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ANNOTATIONS = tomllib.loads((ROOT / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]


def test_the_first_entry_covers_every_file_and_the_others_files_that_there_are() -> None:
    first, *others = ANNOTATIONS
    assert first["path"] == "**"
    assert [entry["path"] for entry in others if not list(ROOT.glob(entry["path"]))] == []


def test_the_licences_that_are_named_are_those_whose_texts_are_there() -> None:
    named = {one for entry in ANNOTATIONS for one in re.split(r" AND | OR ", entry["SPDX-License-Identifier"])}
    assert named == {path.stem for path in (ROOT / "LICENSES").iterdir()}


def test_what_is_declared_of_the_packages_is_what_the_tree_says() -> None:
    own = ANNOTATIONS[0]["SPDX-License-Identifier"]
    for project in (ROOT / "pyproject.toml", ROOT / "client" / "pyproject.toml"):
        assert tomllib.loads(project.read_text(encoding="utf-8"))["project"]["license"] == own
    texts = {path.read_text(encoding="utf-8") for path in (ROOT / "LICENSE", ROOT / "client" / "LICENSE")}
    assert texts == {(ROOT / "LICENSES" / f"{own}.txt").read_text(encoding="utf-8")}


def test_a_file_of_somebody_else_says_what_the_entry_says() -> None:
    head = (ROOT / "tests" / "browser" / "axe.min.js").read_text(encoding="utf-8")[:1000]
    assert "Deque Systems" in head
    assert "Mozilla Public" in head
