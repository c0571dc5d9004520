"""The columns an index holds: an inner product kept, idle columns dropped, and the same for vectors of nothing."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.arrays import save_array
from bundle.errors import BundleInvalid
from index.builder.fit_projection import STEP, FittedProjection, fit_projection
from index.builder.spec import IndexSpec
from index.search.projection import QueryProjection, projection_file, read_projection, scaled_projection

N, WIDTH = 2000, 41
Vectors = npt.NDArray[np.float32]


def fitted(vectors: Vectors, queries: Vectors, step: int = STEP) -> FittedProjection:
    return fit_projection(vectors, queries, scale=0.3, step=step, rng=np.random.default_rng(1))


def drawn(n: int, idle: int, seed: int) -> Vectors:
    """Vectors whose last `idle` columns but one hardly vary, and whose last varies most."""
    spread = np.r_[np.ones(WIDTH - 1 - idle), np.full(idle, 0.01), 5.0]
    vectors: Vectors = (np.random.default_rng(seed).normal(1, 1, (n, WIDTH)) * spread).astype(np.float32)
    return vectors


def test_scores_stay_but_for_what_is_the_same_for_every_row() -> None:
    vectors, queries = drawn(N, 0, 1), drawn(50, 0, 2)
    projection = fitted(vectors, queries)
    found = QueryProjection(projection.for_queries).of_queries(queries) @ projection.of_vectors(vectors).T
    true = queries @ vectors.T
    apart = found - true
    np.testing.assert_allclose(apart - apart.mean(axis=1, keepdims=True), 0, atol=2e-3)
    assert projection.held == 48
    np.testing.assert_allclose(projection.of_vectors(vectors).mean(axis=0), 0, atol=1e-3)


def test_columns_that_hardly_vary_are_dropped() -> None:
    vectors, queries = drawn(N, 28, 1), drawn(50, 28, 2)
    projection = fitted(vectors, queries)
    assert projection.held == STEP
    found = QueryProjection(projection.for_queries).of_queries(queries) @ projection.of_vectors(vectors).T
    for scores, true in zip(found, queries @ vectors.T, strict=True):
        assert np.corrcoef(scores, true)[0, 1] > 0.99


@pytest.mark.parametrize("step", [1, 5, 64])
def test_the_columns_are_a_multiple_of_the_step(step: int) -> None:
    projection = fitted(drawn(N, 0, 1), drawn(50, 0, 2), step)
    assert projection.held % step == 0
    assert projection.held >= 30


@pytest.mark.parametrize(("n", "q"), [(1, 1), (200, 50), (200, 0)])
def test_zeros_and_few_of_them_have_a_map_of_finite_numbers(n: int, q: int) -> None:
    projection = fitted(np.zeros((n, WIDTH), np.float32), np.zeros((q, WIDTH), np.float32))
    assert np.isfinite(projection.for_queries).all()
    assert np.isfinite(projection.of_vectors(np.zeros((n, WIDTH), np.float32))).all()


def test_a_query_is_mapped_alike_alone_and_in_a_batch() -> None:
    queries = drawn(50, 0, 2)
    columns = QueryProjection(fitted(drawn(N, 0, 1), queries).for_queries)
    batch = columns.of_queries(queries)
    assert all(np.array_equal(batch[i : i + 1], columns.of_queries(queries[i : i + 1])) for i in range(len(queries)))


def test_versions_from_before_scale_the_last_column() -> None:
    query = np.array([[1, 2, 3]], dtype=np.float32)
    assert scaled_projection(3, 4, 0.5).of_queries(query).tolist() == [[1, 2, 6, 0]]


@pytest.mark.parametrize("array", [np.zeros((WIDTH + 1, 16), np.float32), np.zeros((WIDTH, 16)), np.zeros(WIDTH, "f4")])
def test_a_map_that_does_not_fit_is_refused_by_name(tmp_path: Path, array: npt.NDArray[np.floating]) -> None:
    path = tmp_path / "index.faiss"
    save_array(projection_file(path), array)
    with pytest.raises(BundleInvalid, match="index.queries.npy"):
        read_projection(path, IndexSpec("pq", depth=1).entry(path.name, 10), WIDTH)
