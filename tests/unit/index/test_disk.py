"""A full disk while an index is written is an error of ours, whichever library writes."""

import errno
from pathlib import Path

import numpy as np
import pytest

from bundle.disk import full_disk_named
from bundle.errors import DiskFull
from index.builder.devices import CPU
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec

SPECS = {
    "hnsw": IndexSpec("hnsw", depth=50, links=8, build_depth=50),
    "ivf_sq8": IndexSpec("ivf_sq8", depth=4, lists=8),
    "pq": IndexSpec("pq", depth=100),
}


@pytest.mark.parametrize("kind", list(SPECS))
def test_a_library_that_finds_no_room_is_named(kind: str, tmp_path: Path) -> None:
    """Both libraries write to a device that is always full: FAISS raises its own error, hnswlib none."""
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full, the device on which every write finds no room")
    vectors = np.random.default_rng(1).normal(0, 1, (500, 9)).astype(np.float32)
    path = tmp_path / SPECS[kind].file_name
    path.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="Make room"), full_disk_named(tmp_path, "Make room."):
        write_index(SPECS[kind], vectors, vectors[:50], path, seed=1, threads=1, device=CPU)


def test_the_system_s_own_error_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="vectors.npy"), full_disk_named(tmp_path, "Make room."):
        raise OSError(errno.ENOSPC, "No space left on device", "vectors.npy")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("a wrong dimension")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), full_disk_named(tmp_path, "Make room."):
        raise error
