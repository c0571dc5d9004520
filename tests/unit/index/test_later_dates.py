"""A version dated as to come, by a clock that was wrong: a build says so, `latest` is refused, and none is lost."""

import shutil
from pathlib import Path

import pytest

from bundle.errors import BundleInvalid
from bundle.layout import MANIFEST
from bundle.versions import latest_version, list_versions, prune
from tests.support.toy import build_toy


def test_a_version_of_a_clock_that_was_ahead_is_not_the_latest(
    tmp_path: Path,
) -> None:
    first = build_toy(tmp_path)
    assert first.warnings == build_toy(tmp_path, "second").warnings == ()
    year, file = first.manifest.created.year, first.path / MANIFEST
    file.write_text(file.read_text().replace(f'"created": "{year}', f'"created": "{year + 73}'))
    (said,) = build_toy(tmp_path, "third").warnings
    assert said.startswith("toy has a date to come, as when a clock was put back: ")
    assert list_versions(tmp_path / "bundles") == ["second", "third", "toy"]
    with pytest.raises(BundleInvalid, match=f"toy in .* is dated {year + 73}-.* to come: a clock is wrong"):
        latest_version(tmp_path / "bundles")
    assert prune(tmp_path / "bundles", keep=1) == ["second"]
    shutil.rmtree(first.path)
    assert latest_version(tmp_path / "bundles") == "third"
