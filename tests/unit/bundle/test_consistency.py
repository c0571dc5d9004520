"""Well-signed nonsense: numbers that do not agree with one another are refused by the file at fault."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.errors import BundleError, BundleInvalid
from bundle.verify import verify_bundle
from bundle.versions import current_version, open_version, publish
from tests.support.service_bundle import write_toy_bundle
from tests.support.signing import rewrite_array, rewrite_manifest


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundles"), "v1")


@pytest.fixture
def version(written: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(written, tmp_path / "v1"))


def _set(*at: int, to: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[at] = to
        return array

    return change


def _swap(first: int, second: int) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[[first, second]] = array[[second, first]]
        return array

    return change


NONSENSE = {
    "ids/user.npy, in another order": _swap(3, 4),
    "ids/user.npy, one twice": lambda ids: np.concatenate([ids[:5], ids[4:5], ids[6:]]),
    "ids/user.npy, one below 0": _set(0, to=-7),
    "ids/hashtag.offsets.npy, falling": _swap(3, 4),
    "ids/hashtag.offsets.npy, not to the end": _set(-1, to=9),
    "ids/hashtag.offsets.npy, not from the start": _set(0, to=2),
    "ids/hashtag.offsets.npy, an empty id": lambda offsets: np.concatenate([offsets[:4], offsets[3:4], offsets[5:]]),
    "ids/hashtag.utf8.npy, not UTF-8": _set(-1, to=0xFF),
    "ids/hashtag.utf8.npy, not ascending": _set(0, to=ord("z")),
    "attributes/user/000.offsets.npy, falling": _swap(1, 2),
    "attributes/user/000.offsets.npy, not to the end": _set(-1, to=5),
    "attributes/user/000.utf8.npy, not ascending": _set(0, to=ord("z")),
    "attributes/user/001.indptr.npy, not to the end": _set(-1, to=3),
    "attributes/user/001.codes.npy, a category too far": _set(0, to=2),
    "attributes/user/001.codes.npy, one twice": _set(1, to=0),
    "attributes/user/002.values.npy, not finite": _set(5, to=np.nan),
    "attributes/user/004.values.npy, no truth value": _set(5, to=2),
    "attributes/hashtag/000.offsets.npy, falling": _swap(3, 4),
    "attributes/hashtag/000.utf8.npy, not UTF-8": _set(0, to=0xFF),
    "vectors/user.npy, not finite": _set(7, 3, to=np.nan),
    "relations.npy, not finite": _set(0, 0, 3, to=np.inf),
    "edges/000.targets.indptr.npy, falling": _swap(3, 9),
    "edges/000.targets.indptr.npy, not to the end": _set(-1, to=17),
    "edges/000.targets.indptr.npy, past the end": _set(-1, to=2**40),
    "edges/000.targets.npy, a row too far": _set(5, to=400),
    "edges/000.targets.npy, a row below 0": _set(5, to=-1),
    "edges/000.targets.npy, not ascending": _swap(0, 1),
    "edges/000.sources.npy, a row too far": _set(5, to=2**30),
    "edges/001.targets.weights.npy, negative": _set(3, to=-1.0),
    "edges/001.targets.weights.npy, not finite": _set(3, to=np.nan),
    "popular/000.npy, a row too far": _set(3, to=400),
    "popular/000.npy, one twice": lambda rows: np.concatenate([rows[:4], rows[3:4], rows[5:]]),
    "popular/000.npy, the least first": lambda rows: rows[::-1],
    "clusters/centroids.npy, not finite": _set(3, 3, to=np.nan),
    "clusters/medoid_types.npy, no such type": _set(3, to=1),
    "clusters/medoid_rows.npy, a row too far": _set(3, to=400),
    "clusters/of_user.npy, no such cluster": _set(3, to=8),
    "clusters/of_user.npy, below 0": _set(3, to=-1),
    "clusters/sizes.npy, other members": _set(3, to=999),
    "mixtures/indptr.npy, falling": _swap(3, 9),
    "mixtures/indptr.npy, not to the end": _set(-1, to=1),
    "mixtures/clusters.npy, no such cluster": _set(3, to=8),
    "mixtures/weights.npy, all 0": lambda weights: weights * 0,
    "mixtures/weights.npy, one negative": _set(0, to=-0.5),
    "mixtures/weights.npy, not to 1": lambda weights: weights * 2,
    "lists/user.centroid.rows.npy, a row too far": _set(3, 3, to=400),
    "lists/user.centroid.rows.npy, one twice": lambda rows: np.where(np.arange(rows.shape[1]) == 1, rows[:, :1], rows),
    "lists/user.medoid.scores.npy, the worst first": lambda scores: scores[:, ::-1],
    "lists/user.medoid.scores.npy, shorter": lambda scores: scores[:, :-1],
    "pq/user.golden.npy, other vectors": lambda golden: golden + 1,
    "pq/user.codebooks.npy, too few codewords": lambda books: books[:, :255],
    "pq/hashtag.codes.npy, too few bytes": lambda codes: codes[:, :-1],
    "vectors/user.npy, too few rows": lambda vectors: vectors[:-1],
    "vectors/user.npy, of float64": lambda vectors: vectors.astype(np.float64),
    "relations.npy, of another relation": lambda vectors: vectors[:1],
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_numbers_that_do_not_agree_are_refused_by_file(version: Path, nonsense: str) -> None:
    file = f"spaces/main/{nonsense.partition(',')[0]}"
    rewrite_array(version, file, NONSENSE[nonsense])
    with pytest.raises(BundleInvalid, match=file.replace(".", r"\.")):
        publish(version.parent, "v1")
    assert current_version(version.parent) is None


def test_a_sound_version_passes(version: Path) -> None:
    verify_bundle(open_version(version.parent, "v1"))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("spaces",), {}, "spaces: "),
        (("spaces", "main", "dim"), 10**400, "spaces.main.dim: "),
        (("spaces", "main", "dim"), "many", "spaces.main.dim: "),
        (("spaces", "main", "dim"), 1e400, "spaces.main.dim: "),
        (("spaces", "main", "entities"), [], "no entity type"),
        (("spaces", "main", "relations"), [], "default.relation"),
        (("spaces", "main", "default", "relation"), "uses", "does not lead from"),
        (("spaces", "main", "columns"), [], "columns"),
        (("spaces", "main", "strategies", "blend", "weights"), {}, "strategies.blend has no weight but 0"),
        (("spaces", "main", "strategies", "blend", "weights", "user"), float("nan"), "user: "),
        (("spaces", "main", "indexes", "user", "file"), "../../../etc/passwd", "file: "),
        (("spaces", "main", "indexes", "user", "file"), "spaces/none.hnsw", "lists no spaces/none.hnsw"),
        (("files", "a\0b"), {"sha256": "0" * 64, "size_bytes": 0}, "files"),
        (("files", "../v2/a.npy"), {"sha256": "0" * 64, "size_bytes": 0}, "files"),
        (("files", "/etc/passwd"), {"sha256": "0" * 64, "size_bytes": 0}, "files"),
        (("created",), "yesterday", "created: "),
        (("lineage",), None, "lineage: "),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_by_key(
    version: Path, place: tuple[str, ...], value: object, said: str
) -> None:
    def change(manifest: Any) -> None:
        for key in place[:-1]:
            manifest = manifest[key]
        manifest[place[-1]] = value

    rewrite_manifest(version, change)
    with pytest.raises(BundleError, match=rf"manifest\.json.*{said}"):
        publish(version.parent, "v1")
