"""Arrays on disk: whole or not there, and never code."""

from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.arrays import READ_BYTES, map_array, save_array
from bundle.disk import write_text
from bundle.errors import BundleError, BundleIncomplete


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3,), (5, 7), (), (9000,)])
def test_what_was_saved_is_mapped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_mapped_array_cannot_be_written(tmp_path: Path) -> None:
    save_array(tmp_path / "a.npy", np.zeros(4))
    with pytest.raises(ValueError, match="read-only"):
        map_array(tmp_path / "a.npy")[0] = 1


def test_small_arrays_hold_no_descriptor(tmp_path: Path) -> None:
    def descriptors() -> int:
        return int(psutil.Process().num_fds())

    small, large = np.arange(READ_BYTES // 8), np.arange(READ_BYTES // 8 + 1)
    save_array(tmp_path / "small.npy", small)
    save_array(tmp_path / "large.npy", large)
    before = descriptors()
    held = [map_array(tmp_path / "small.npy") for _ in range(20)]
    assert descriptors() == before
    held.append(map_array(tmp_path / "large.npy"))
    assert descriptors() == before + 1
    np.testing.assert_array_equal(held[0], small)
    np.testing.assert_array_equal(held[-1], large)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleIncomplete, match=r"a\.npy is missing"):
        map_array(tmp_path / "a.npy")


def test_an_array_of_objects_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (tmp_path.joinpath("executed").touch, ())

    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.array([Canary()], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError):
        map_array(tmp_path / "a.npy")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"not an array at all" * 10])
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(BundleError, match=r"a\.npy"):
        map_array(tmp_path / "a.npy")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    save_array(tmp_path / "a.npy", np.arange(20, dtype=np.float32))
    whole = (tmp_path / "a.npy").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(BundleError):
            map_array(tmp_path / "a.npy")


def test_text_is_replaced_in_one_step(tmp_path: Path) -> None:
    write_text(tmp_path / "CURRENT", "old\n")
    write_text(tmp_path / "CURRENT", "new\n")
    assert (tmp_path / "CURRENT").read_text() == "new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]
