"""Growing arrays: what numpy reads back is what was appended, and equal content has an equal digest."""

from pathlib import Path

import numpy as np
import pytest

from bundle.growing import ArrayFiles, GrowingArray


@pytest.mark.parametrize("batches", [[], [0], [3], [1, 0, 5], [100_000, 7]])
def test_numpy_reads_what_was_appended(tmp_path: Path, batches: list[int]) -> None:
    array = GrowingArray(tmp_path / "sub" / "a.npy", np.int32)
    parts = [np.arange(count, dtype=np.int32) for count in batches]
    for part in parts:
        array.append(part)
    array.finish()
    found = np.load(tmp_path / "sub" / "a.npy", allow_pickle=False)
    assert found.dtype == np.int32
    assert found.tolist() == [value for part in parts for value in part.tolist()]


def test_digests_tell_type_length_and_values_not_batches(tmp_path: Path) -> None:
    def digest(name: str, *batches: np.ndarray) -> str:
        files = ArrayFiles(tmp_path / name)
        for batch in batches:
            files.append(tmp_path / name / "a.npy", batch)
        return files.finish()["a.npy"]

    base = digest("a", np.arange(4))
    assert digest("b", np.arange(2), np.arange(2, 4)) == base
    assert digest("c", np.arange(4, dtype=np.int32)) != base
    assert digest("d", np.arange(5)) != base
    assert digest("e", np.array([0, 1, 3, 2])) != base
