"""Queries of users with any number of edges: their mean target, without a copy of all of them."""

import numpy as np

from index.builder.queries import mean_of
from index.builder.room import BLOCK_BYTES
from tests.support.memory import peak_bytes


def test_the_mean_of_a_million_edges_is_taken_in_blocks() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(500, 512)).astype(np.float32)
    rows = rng.integers(0, 500, 40_000).astype(np.int32)
    peak = peak_bytes(lambda: mean_of(vectors, rows))
    assert peak < 1.5 * BLOCK_BYTES  # of all of them it would be 80 MB
    weights = np.bincount(rows, minlength=500) / len(rows)
    np.testing.assert_allclose(mean_of(vectors, rows), weights @ vectors.astype(np.float64), atol=1e-6)


def test_of_a_few_edges_it_is_the_mean() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    assert np.array_equal(mean_of(vectors, np.arange(31, dtype=np.int32)), vectors[:31].mean(axis=0))
