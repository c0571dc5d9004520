"""Product quantisation: our decoder against FAISS's, degenerate sizes, honest distortion."""

import numpy as np
import pytest

from bundle.errors import ConfigError
from index.builder.compression import Compression, compress, decode_by_faiss, default_subquantizers


def made(n: int, dim: int, parts: int, *, rotated: bool = False) -> tuple[np.ndarray, Compression]:
    """Correlated vectors and what compressing them gives."""
    rng = np.random.default_rng(1)
    vectors = (rng.normal(0, 1, (n, 6)) @ rng.normal(0, 1, (6, dim)) + rng.normal(0, 0.1, (n, dim))).astype(np.float32)
    return vectors, compress(vectors, parts, rotated=rotated, training_vectors=2000, rng=rng)


@pytest.mark.parametrize(("dim", "parts"), [(16, 4), (12, 12), (6, 1), (8, 2)])
def test_we_decode_bit_for_bit_as_faiss(dim: int, parts: int) -> None:
    _, compressed = made(600, dim, parts)
    np.testing.assert_array_equal(
        compressed.quantizer.decode(compressed.codes), decode_by_faiss(compressed.quantizer, compressed.codes)
    )
    np.testing.assert_array_equal(compressed.quantizer.decode(compressed.codes[:32]), compressed.golden)


def test_with_a_rotation_we_decode_as_faiss_to_the_last_digits() -> None:
    _, compressed = made(600, 16, 4, rotated=True)
    rotation = compressed.quantizer.rotation
    assert rotation is not None
    directions = rotation / np.linalg.norm(rotation, axis=1, keepdims=True)
    np.testing.assert_allclose(directions @ directions.T, np.eye(16), atol=1e-5)
    # The rotation is a matrix product, whose order of summation is the linear algebra library's own.
    np.testing.assert_allclose(compressed.quantizer.decode(compressed.codes[:32]), compressed.golden, atol=1e-5)


@pytest.mark.parametrize("rows", ["zeros", "few", "one direction"])
def test_a_rotation_of_vectors_that_fill_no_space_is_finite(rows: str) -> None:
    rng = np.random.default_rng(1)
    line = rng.normal(0, 1, (600, 1)) * rng.normal(0, 1, (1, 16))
    vectors = {"zeros": np.zeros((600, 16)), "few": np.ones((3, 16)), "one direction": line}[rows].astype(np.float32)
    made = compress(vectors, 4, rotated=True, training_vectors=2000, rng=rng)
    assert made.mse < 0.01


def test_a_rotation_helps_correlated_vectors() -> None:
    assert made(3000, 16, 4, rotated=True)[1].mse < made(3000, 16, 4)[1].mse


@pytest.mark.parametrize("n", [1, 3, 255])
def test_fewer_vectors_than_codewords_are_kept_exactly(n: int) -> None:
    vectors, compressed = made(n, 8, 2)
    np.testing.assert_array_equal(compressed.quantizer.decode(compressed.codes), vectors)
    assert compressed.mse == 0
    assert compressed.cosine == pytest.approx(1)


def test_no_vectors_at_all() -> None:
    _, compressed = made(0, 8, 2)
    assert compressed.codes.shape == (0, 2)


def test_parts_that_do_not_divide_are_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"d = 12 divides into 1, 2, 3, 4, 6, 12"):
        made(300, 12, 5)


@pytest.mark.parametrize(("dim", "parts"), [(128, 32), (100, 25), (7, 1), (96, 24), (50, 10)])
def test_the_default_compresses_at_least_sixteen_times(dim: int, parts: int) -> None:
    assert default_subquantizers(dim) == parts


def test_zero_vectors_count_as_well_rebuilt() -> None:
    zeros = np.zeros((300, 8), dtype=np.float32)
    assert compress(zeros, 2, rotated=False, training_vectors=300, rng=np.random.default_rng(1)).cosine == 1.0
