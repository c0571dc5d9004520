"""Rows of fewer bytes: what they decode to, in NumPy and in the engine, and rows that are not those of the vectors."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundle.errors import BundleError, BundleInvalid
from bundle.reader import open_bundle
from bundle.rows import CompactKind, CompactRows, encoded
from bundle.verify import verify_bundle
from index.builder.config import BuildConfig, ClusterConfig, CompressionConfig, IndexConfig, MapConfig
from tests.support.signing import rewrite_array, rewrite_manifest
from tests.support.toy import build_toy

KINDS: tuple[CompactKind, ...] = ("float16", "int8")
N, DIM, WIDTH = 300, 21, 23


def drawn(seed: int = 1) -> npt.NDArray[np.float32]:
    """Rows of every length, two of zeros, with other columns that are larger than the embedding."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 1, (N, WIDTH)) * rng.gamma(1, 1, (N, 1))
    vectors[:, DIM:] *= 20
    vectors[7:9] = 0
    return vectors.astype(np.float32)


def compact(vectors: npt.NDArray[np.float32], kind: CompactKind) -> CompactRows:
    return CompactRows(encoded(vectors, kind, DIM), kind, DIM, vectors.shape[1])


def test_int8_is_off_by_half_a_step_at_most_and_keeps_the_other_columns() -> None:
    vectors = drawn()
    decoded = compact(vectors, "int8")[:]
    step = np.abs(vectors[:, :DIM]).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(decoded - vectors)[:, :DIM] <= 0.501 * step)
    assert decoded[:, DIM:].tobytes() == vectors[:, DIM:].tobytes()


def test_float16_is_the_nearest_half() -> None:
    vectors = drawn()
    np.testing.assert_array_equal(compact(vectors, "float16")[:], vectors.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_however_it_is_asked_for(kind: CompactKind) -> None:
    rows = compact(drawn(), kind)
    some = np.array([5, 0, 299, 5])
    assert (len(rows), rows.shape) == (N, (N, WIDTH))
    assert rows[:].shape == (N, WIDTH)
    assert rows[some].tobytes() == rows.take(some, axis=0).tobytes() == np.stack([rows[int(i)] for i in some]).tobytes()
    assert rows[3:9].tobytes() == rows[:][3:9].tobytes()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_and_one_are_kept_too(kind: CompactKind, n: int) -> None:
    vectors = drawn()[:n]
    assert compact(vectors, kind)[:].shape == (n, WIDTH)
    assert compact(vectors, kind).nbytes == n * encoded(drawn(), kind, DIM)[0].nbytes


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1.0, 1e15])
def test_rows_of_any_size_decode_to_numbers(size: float) -> None:
    vectors = (drawn() * np.float32(size)).astype(np.float32)
    decoded = compact(vectors, "int8")[:]
    assert np.isfinite(decoded).all()
    assert np.abs(decoded - vectors).max() <= np.abs(vectors).max() / 250 + 1e-36


def built(directory: Path, kind: CompactKind) -> Path:
    config = BuildConfig(
        threads=1,
        clusters=ClusterConfig(count=2, list_length=20),
        index=IndexConfig(kind="ivf4", ivf_lists=4, depth=600, refine=4.0, queries=20, rows=kind),
        compression=CompressionConfig(subquantizers=1),
        map=MapConfig(points=0),
    )
    return build_toy(directory, config=config).path


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[CompactKind, Path]:
    """A version of each kind, built once."""
    return {kind: built(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_says_what_it_scores_and_what_that_costs(
    kind: CompactKind, versions: dict[CompactKind, Path]
) -> None:
    bundle = open_bundle(versions[kind])
    verify_bundle(bundle)
    for name, table in bundle.space().entities.items():
        assert table.compact is not None
        entry = bundle.space().entry.rows[name]
        assert (entry.kind, entry.bytes_per_vector) == (kind, table.compact.nbytes / len(table))
        assert entry.recall > 0.9
        assert bundle.space().entry.indexes[name].recall["recall@100"] == entry.recall


def _nan_scale(rows: Any) -> Any:
    rows[3, -4:] = np.frombuffer(np.float32(np.nan).tobytes(), dtype=np.uint8)
    return rows


def _shifted(rows: Any) -> Any:
    return rows[np.roll(np.arange(len(rows)), 1)]


DAMAGES: dict[str, tuple[CompactKind, Callable[[Any], Any]]] = {
    "int8 rows of others": ("int8", _shifted),
    "float16 rows of others": ("float16", _shifted),
    "a scale that is no number": ("int8", _nan_scale),
    "too few columns": ("int8", lambda rows: rows[:, :-1]),
    "too few rows": ("float16", lambda rows: rows[:-1]),
    "another type": ("float16", lambda rows: rows.astype(np.float32)),
    "halves that are no number": ("float16", lambda rows: rows * np.float16(np.inf)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_rows_that_are_not_the_vectors_are_refused_by_file(
    damage: str, versions: dict[CompactKind, Path], tmp_path: Path
) -> None:
    kind, change = DAMAGES[damage]
    path = Path(shutil.copytree(versions[kind], tmp_path / "toy"))
    rewrite_array(path, "spaces/default/vectors/item.rows.npy", change)
    with pytest.raises(BundleError, match=r"vectors/item\.rows\.npy"):
        verify_bundle(open_bundle(path))


def test_rows_of_no_type_are_refused(versions: dict[CompactKind, Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(versions["int8"], tmp_path / "toy"))

    def elsewhere(manifest: Any) -> None:
        rows = manifest["spaces"]["default"]["rows"]
        rows["nobody"] = rows["item"]

    rewrite_manifest(path, elsewhere)
    with pytest.raises(BundleInvalid, match="'nobody' is no entity type"):
        open_bundle(path)
