"""Index files that no library should be trusted with: opened in a child, refused by name, never a crash here."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import BundleInvalid
from index.builder.devices import find_device
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec
from index.search.probe import IndexFile, index_file, probe

ROWS, WIDTH = 500, 9
SPECS = {
    "hnsw": IndexSpec("hnsw", depth=50, links=8, build_depth=50),
    "ivf4": IndexSpec("ivf4", depth=400, refine=2.0, lists=8),
    "ivf_sq8": IndexSpec("ivf_sq8", depth=4, lists=8),
    "ivf_pq": IndexSpec("ivf_pq", depth=4, lists=8),
    "pq": IndexSpec("pq", depth=100),
}


def written(kind: str, directory: Path) -> IndexFile:
    """A sound index file of a kind."""
    vectors = np.random.default_rng(1).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
    spec = SPECS[kind]
    path = directory / spec.file_name
    write_index(spec, vectors, vectors[:50], path, seed=1, threads=1, device=find_device())
    return index_file(path, spec.entry(path.name, 10), ROWS, WIDTH)


def test_sound_files_pass_together(tmp_path: Path) -> None:
    probe([written(kind, tmp_path) for kind in SPECS])


def test_nothing_to_open_starts_nothing() -> None:
    probe([])


def test_a_file_that_crashes_hnswlib_is_named_and_we_live(tmp_path: Path) -> None:
    file = written("hnsw", tmp_path)
    content = bytearray(file.path.read_bytes())
    # The links of every element point far outside: the library follows them without a look.
    content[96 : len(content) // 2] = b"\xff" * (len(content) // 2 - 96)
    file.path.write_bytes(bytes(content))
    with pytest.raises(BundleInvalid, match=str(file.path)):
        probe([file])


@pytest.mark.parametrize("kind", list(SPECS))
def test_a_cut_file_is_named(kind: str, tmp_path: Path) -> None:
    file = written(kind, tmp_path)
    file.path.write_bytes(file.path.read_bytes()[: file.path.stat().st_size // 2])
    with pytest.raises(BundleInvalid, match=str(file.path)):
        probe([file])


def test_the_file_at_fault_is_named_among_sound_ones(tmp_path: Path) -> None:
    sound, cut = written("pq", tmp_path), written("ivf_sq8", tmp_path)
    cut.path.write_bytes(cut.path.read_bytes()[:100])
    with pytest.raises(BundleInvalid, match=str(cut.path)):
        probe([sound, cut])


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    file = written("hnsw", tmp_path).model_copy(update={"rows": ROWS + 1})
    with pytest.raises(BundleInvalid, match="has 500 rows; the version has 501"):
        probe([file])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_headers_of_random_bytes_never_crash_us(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    file = written(list(SPECS)[seed % len(SPECS)], tmp_path)
    content = np.frombuffer(file.path.read_bytes(), dtype=np.uint8).copy()
    content[rng.integers(0, 96, 8)] = rng.integers(0, 256, 8)
    file.path.write_bytes(content.tobytes())
    with contextlib.suppress(BundleInvalid):
        probe([file])
