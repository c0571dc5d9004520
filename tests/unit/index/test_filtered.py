"""The build's measurement under filters: what is found is deepened until it reaches the floor, at last by a scan."""

import numpy as np
import numpy.typing as npt
import pytest

from index.builder.filtered import FILTER_DEPTHS, FLOOR, SHARES, FilteredSearch, measure_filtered
from index.builder.queries import RealQueries
from index.search.eligible import rows_of
from index.search.protocol import Searcher
from index.search.refined import RefinedSearcher

N, WIDTH, K = 4000, 6, 10


class Lossy:
    """A source that finds the best rows, but for every row whose number is below `missing` of a thousand."""

    def __init__(self, vectors: npt.NDArray[np.float32], missing: int) -> None:
        self._vectors, self._missing = vectors, missing
        self.searches = 0

    def candidates(self, queries: npt.NDArray[np.float32], n_candidates: int, depth: int) -> npt.NDArray[np.int64]:
        return self.eligible_candidates(queries, n_candidates, depth, np.full((N + 7) // 8, 255, dtype=np.uint8))

    def eligible_candidates(
        self, queries: npt.NDArray[np.float32], n_candidates: int, depth: int, eligible: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int64]:
        self.searches += 1
        rows = rows_of(eligible)
        rows = rows[rows % 1000 >= self._missing]
        return rows[np.argsort(-(queries @ self._vectors[rows].T), axis=1)[:, :n_candidates]]


@pytest.fixture
def vectors() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 1, (N, WIDTH)).astype(np.float32)


def _measured(source: Lossy, vectors: npt.NDArray[np.float32]) -> FilteredSearch:
    queries = np.random.default_rng(2).normal(0, 1, (80, WIDTH)).astype(np.float32)
    real = RealQueries(queries, ("any",), np.zeros(len(queries), dtype=np.int64))

    def opened(filter_depth: float) -> Searcher:
        return RefinedSearcher(vectors, source, depth=5, filter_depth=filter_depth)

    return measure_filtered(opened, vectors, real, K, np.random.default_rng(3))


def test_a_searcher_that_finds_what_is_eligible_is_asked_in_proportion(vectors: npt.NDArray[np.float32]) -> None:
    source = Lossy(vectors, missing=0)
    found = _measured(source, vectors)
    assert (found.filter_depth, found.recall) == (FILTER_DEPTHS[0], dict.fromkeys(SHARES, 1.0))
    assert source.searches > 0
    assert found.gate("recall").passed


def test_a_searcher_that_misses_rows_at_any_depth_ends_in_scans(vectors: npt.NDArray[np.float32]) -> None:
    found = _measured(Lossy(vectors, missing=200), vectors)
    assert (found.filter_depth, found.recall) == (FILTER_DEPTHS[-1], dict.fromkeys(SHARES, 1.0))
    assert (found.gate("recall").measured, found.gate("recall").floor) == (1.0, FLOOR)


def test_every_share_has_its_cost(vectors: npt.NDArray[np.float32]) -> None:
    found = _measured(Lossy(vectors, missing=0), vectors)
    assert found.cpu_us.keys() == dict.fromkeys(SHARES).keys()
    assert min(found.cpu_us.values()) > 0
