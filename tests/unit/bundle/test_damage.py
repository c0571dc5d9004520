"""Damaged versions: a truncated, altered, missing or additional file is refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import (
    BundleAltered,
    BundleError,
    BundleFormatUnsupported,
    BundleIncomplete,
    BundleInvalid,
)
from bundle.reader import read_manifest
from bundle.verify import check_digests, check_files
from bundle.versions import (
    current_version,
    publish,
)

Write = Callable[..., Path]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _add_another(path: Path) -> None:
    path.with_name("b.npy").write_bytes(b"")


def _link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (_truncate, BundleIncomplete, "a.npy is cut short"),
        (Path.unlink, BundleIncomplete, "a.npy is missing"),
        (_alter, BundleAltered, "a.npy differs from its digest"),
        (_lengthen, BundleAltered, "a.npy has 529 bytes"),
        (_add_another, BundleAltered, "b.npy is not in the manifest"),
        (_link, BundleAltered, "a.npy points outside"),
    ],
)
def test_a_damaged_version_is_refused_by_name(
    tmp_path: Path, write: Write, damage: Callable[[Path], None], error: type[BundleError], named: str
) -> None:
    write("good")
    publish(tmp_path, "good")
    damage(write("bad") / "spaces" / "s" / "a.npy")
    with pytest.raises(error, match=named):
        publish(tmp_path, "bad")
    assert current_version(tmp_path) == "good"


def test_an_unknown_format_is_named_and_not_misread(write: Write) -> None:
    path = write("one")
    file = path / "manifest.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(BundleFormatUnsupported, match="format 2; this release reads format 1"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}', '{"format_version": "x"}', "\0"])
def test_what_is_no_manifest_is_refused(write: Write, text: str) -> None:
    path = write("one")
    (path / "manifest.json").write_text(text)
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        read_manifest(path)


def test_an_intact_version_passes(write: Write) -> None:
    path = write("one")
    manifest = read_manifest(path)
    check_files(path, manifest)
    check_digests(path, manifest)
