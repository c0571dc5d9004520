"""Damaged versions: a truncated, altered, missing or additional file is refused by name."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import map_array
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
    open_version,
    prune,
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


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _link_to_a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _alter_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[12] ^= 0x20
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (_truncate, BundleIncomplete, "a.npy is cut short"),
        (Path.unlink, BundleIncomplete, "a.npy is missing"),
        (_alter, BundleAltered, "a.npy differs from its digest"),
        (_lengthen, BundleAltered, "a.npy has 529 bytes"),
        (_add_another, BundleAltered, "b.npy is not in the manifest"),
        (_link, BundleAltered, "a.npy points outside"),
        (_link_to_itself, BundleAltered, "a.npy points outside"),
        (_make_a_pipe, BundleAltered, "a.npy is a pipe or a device"),
        (_make_a_directory, BundleIncomplete, "a.npy is missing"),
        (_alter_the_header, BundleError, "a.npy"),
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
    file.write_text(file.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(BundleFormatUnsupported, match="format 3; this release reads formats up to 2"):
        read_manifest(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format_version": 1}', '{"format_version": "x"}', "\0", "\ud800", "[" * 100_000, '{"a":' * 5000],
)
def test_what_is_no_manifest_is_refused(write: Write, text: str) -> None:
    path = write("one")
    (path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        read_manifest(path)


@pytest.mark.parametrize(
    "damage",
    [_link, _link_to_itself, _link_to_a_device, _make_a_pipe, _make_a_directory],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("name", ["manifest.json", "spaces/s/a.npy", "spaces/s/ids/user.npy"])
def test_what_is_no_plain_file_is_refused(
    tmp_path: Path, write: Write, name: str, damage: Callable[[Path], None]
) -> None:
    damage(write("bad") / name)
    with pytest.raises(BundleError, match="bad"):
        publish(tmp_path, "bad")
    assert current_version(tmp_path) is None


def test_a_folder_that_leads_out_of_the_version_is_refused(tmp_path: Path, write: Write) -> None:
    folder = write("bad") / "spaces" / "s" / "ids"
    folder.rename(tmp_path / "ids")
    folder.symlink_to(tmp_path / "ids")
    with pytest.raises(BundleAltered, match="ids points outside"):
        publish(tmp_path, "bad")


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', " * 3, b"(" * 100, b"[lambda: 1]", b"1", b"{1: 2}", b"\xff" * 60]
)
def test_a_header_that_is_no_array_s_is_refused(write: Write, header: bytes) -> None:
    """numpy's parser of it raises whatever Python does."""
    file = write("one") / "spaces" / "s" / "a.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(400))
    with pytest.raises(BundleInvalid, match=r"a\.npy is not a \.npy array"):
        map_array(file)


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (2**70, 0), (2**62, 2**62)])
def test_a_header_with_a_shape_that_cannot_be_is_refused(write: Write, shape: tuple[int, ...]) -> None:
    file = write("one") / "spaces" / "s" / "a.npy"
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with pytest.raises(BundleError, match=r"a\.npy"):
        map_array(file)


def test_a_manifest_that_changed_after_publishing_is_refused(tmp_path: Path, write: Write) -> None:
    """It has the digest of every file but its own: what was published is written down beside the versions."""
    file = write("one") / "manifest.json"
    publish(tmp_path, "one")
    open_version(tmp_path, "one")
    file.write_text(file.read_text().replace('"user": 1.0', '"user": 3.0'))
    with pytest.raises(BundleAltered, match=r"manifest\.json is not as it was published"):
        open_version(tmp_path, "one")
    publish(tmp_path, "one")  # meant: it is judged anew
    assert open_version(tmp_path, "one").space().entry.strategies["unimodal"].weights.user == 3.0


def test_the_digests_of_what_was_published_are_those_of_sha256sum(tmp_path: Path, write: Write) -> None:
    for name in ("one", "two", "three"):
        write(name, recall=0.5)
        publish(tmp_path, name, force_reason="a test")
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert checked.stdout.splitlines() == [f"{name}/manifest.json: OK" for name in ("one", "two", "three")]
    prune(tmp_path, keep=1)
    assert "one" not in (tmp_path / "SHA256SUMS").read_text()


def test_an_intact_version_passes(write: Write) -> None:
    path = write("one")
    manifest = read_manifest(path)
    check_files(path, manifest)
    check_digests(path, manifest)


def _bits_in_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for position in (8, 12, 30, 60):
        content[position] ^= 0x20
    path.write_bytes(content)


def _a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_link_to_a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _a_link_out(path: Path) -> None:
    elsewhere = path.parents[-3] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
