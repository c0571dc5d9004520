"""Writing a version: names, immutability, what a failure leaves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import (
    BundleInvalid,
    BundleNotFound,
    BundlesBusy,
)
from bundle.reader import read_manifest
from bundle.versions import (
    list_versions,
    publish,
    version_path,
)
from bundle.writer import BundleWriter

Write = Callable[..., Path]


def test_a_version_is_immutable(tmp_path: Path, write: Write) -> None:
    write("one")
    with pytest.raises(BundleInvalid, match="immutable"):
        BundleWriter(tmp_path, "one")


@pytest.mark.parametrize("name", ["..", "", "a/b", ".hidden", "x" * 65, "a\nb", "ü"])
def test_a_name_that_is_no_version_name_reaches_no_path(tmp_path: Path, write: Write, name: str) -> None:
    write("one")
    with pytest.raises(BundleNotFound):
        version_path(tmp_path, name)
    with pytest.raises(BundleInvalid):
        BundleWriter(tmp_path, name)


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleInvalid, match=r"spaces/s/a\.npy: row 2 holds NaN"),
        BundleWriter(tmp_path / "new" / "bundles", "one") as writer,
    ):
        writer.array("spaces/s/a.npy", np.array([0, 1, np.nan], dtype=np.float32))
    assert list(tmp_path.iterdir()) == []


def test_two_builders_of_one_version_do_not_meet(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, "one"), pytest.raises(BundlesBusy, match="building 'one'"):
        BundleWriter(tmp_path, "one")
    with BundleWriter(tmp_path, "one"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_or_being_built_is_numbered(tmp_path: Path, write: Write) -> None:
    write("one")
    with BundleWriter(tmp_path, "one-2"), BundleWriter.of_free_name(tmp_path, "one") as writer:
        assert writer.version == "one-3"
    with pytest.raises(BundleInvalid, match="no version name"):
        BundleWriter.of_free_name(tmp_path, "a b")
    with pytest.raises(BundleInvalid, match="means something else"):
        BundleWriter.of_free_name(tmp_path, "latest")


def test_a_version_in_a_directory_of_another_name_is_refused(tmp_path: Path, write: Write) -> None:
    write("one").rename(tmp_path / "two")
    with pytest.raises(BundleInvalid, match="is of version 'one'"):
        publish(tmp_path, "two")


@pytest.mark.parametrize("name", ["CURRENT", "HISTORY", "LOCK", "latest", "current", "CURRENT.partial"])
def test_a_name_with_another_meaning_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleInvalid, match="means something else"):
        BundleWriter(tmp_path, name)


def test_a_name_taken_during_the_build_is_not_overwritten(tmp_path: Path, write: Write) -> None:
    elsewhere = write("one").rename(tmp_path / "elsewhere")
    with BundleWriter(tmp_path, "one") as slow:
        quick = elsewhere.rename(tmp_path / "one")  # a version may also be copied here
        with pytest.raises(BundleInvalid, match="immutable"):
            slow.commit(read_manifest(quick))
    assert list_versions(tmp_path) == ["one"]


def test_room_is_taken_before_a_mapped_file_is_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, "one") as writer:
        writer.create("spaces/s/a.npy", np.float32, (1 << 18,))
        status = (writer.root / "spaces/s/a.npy").stat()
        assert status.st_blocks * 512 >= status.st_size
