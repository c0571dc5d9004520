"""What a build says where a version that is there counts as newer than the one just built."""

from pathlib import Path

from bundle.layout import MANIFEST
from bundle.versions import list_versions
from tests.support.toy import build_toy


def test_a_build_after_a_clock_was_put_back_says_which_version_counts_as_newer(tmp_path: Path) -> None:
    first = build_toy(tmp_path)
    assert first.warnings == build_toy(tmp_path, "second").warnings == ()
    year, file = first.manifest.created.year, first.path / MANIFEST
    file.write_text(file.read_text().replace(f'"created": "{year}', f'"created": "{year + 73}'))
    (said,) = build_toy(tmp_path, "third").warnings
    assert said.startswith("toy has a later date, as when a clock was put back: `latest`")
    assert list_versions(tmp_path / "bundles") == ["second", "third", "toy"]
