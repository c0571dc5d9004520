"""Topping up: a source that gives too little is asked deeper before every row is scanned."""

import numpy as np
import numpy.typing as npt
import pytest

from index.search.eligible import pack, rows_of
from index.search.refined import RefinedSearcher

N, WIDTH = 1000, 4


class Shallow:
    """A source that finds one row for each unit of depth, best first, and remembers how deep it was asked."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        self._vectors = vectors
        self.depths: list[int] = []
        self.wanted: list[int] = []

    def candidates(self, queries: npt.NDArray[np.float32], n_candidates: int, depth: int) -> npt.NDArray[np.int64]:
        self.depths.append(depth)
        self.wanted.append(n_candidates)
        order = np.argsort(-(queries @ self._vectors.T), axis=1)[:, :n_candidates]
        return np.where(np.arange(order.shape[1]) < depth, order, -1).astype(np.int64)


@pytest.fixture
def vectors() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 1, (N, WIDTH)).astype(np.float32)


@pytest.fixture
def query(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors[:1]


def best(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int) -> list[int]:
    rows: list[int] = np.argsort(-(vectors @ query[0]))[:k].tolist()
    return rows


def test_enough_at_first_asks_once(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32]) -> None:
    source = Shallow(vectors)
    hits = RefinedSearcher(vectors, source, depth=50).search(query, 20)[0]
    assert hits.rows.tolist() == best(vectors, query, 20)
    assert source.depths == [50]


@pytest.mark.parametrize(
    ("depth", "k", "asked"),
    [
        pytest.param(2, 20, [2, 8, 32], id="until there are enough"),
        pytest.param(1, 100, [1, 4, 16, 64], id="never enough, so a scan ends it"),
    ],
)
def test_too_few_asks_deeper(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], depth: int, k: int, asked: list[int]
) -> None:
    source = Shallow(vectors)
    hits = RefinedSearcher(vectors, source, depth=depth).search(query, k)[0]
    assert hits.rows.tolist() == best(vectors, query, k)
    assert source.depths == asked


def test_most_of_the_rows_are_scanned_at_once(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32]) -> None:
    source = Shallow(vectors)
    assert len(RefinedSearcher(vectors, source, depth=1).search(query, 900)[0].rows) == 900
    assert source.depths == [1]


@pytest.mark.parametrize(
    ("k", "in_rows", "wanted", "depth"),
    [
        pytest.param(1, False, 30, 50, id="fewer are the best of as many candidates as recall was measured with"),
        pytest.param(20, False, 30, 50, id="as many as measured"),
        pytest.param(80, False, 120, 50, id="more, of lists: no deeper"),
        pytest.param(80, True, 120, 200, id="more, of rows: deeper in proportion"),
        pytest.param(1, True, 30, 50, id="fewer, of rows: as deep as measured"),
    ],
)
def test_every_k_is_asked_as_recall_was_measured(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int, in_rows: bool, wanted: int, depth: int
) -> None:
    source = Shallow(vectors)
    searcher = RefinedSearcher(vectors, source, depth=50, refine=1.5, recall_at=20, depth_in_rows=in_rows)
    searcher.search(query, k)
    assert (source.wanted[0], source.depths[0]) == (wanted, depth)
    searcher.search(query, k, depth=7)  # whoever names a depth gets that one
    assert 7 in source.depths


class Selecting(Shallow):
    """One that tests the bitmap itself."""

    def eligible_candidates(
        self, queries: npt.NDArray[np.float32], n_candidates: int, depth: int, eligible: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int64]:
        rows = rows_of(eligible)
        self.depths.append(depth)
        self.wanted.append(n_candidates)
        return rows[np.argsort(-(queries @ self._vectors[rows].T), axis=1)[:, :n_candidates]]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [pytest.param(Shallow, 20, id="asks for more"), pytest.param(Selecting, 10, id="leaves it to the source")],
)
def test_a_bitmap_that_keeps_half_deepens_the_search_twofold(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], kind: type[Shallow], wanted: int
) -> None:
    source, eligible = kind(vectors), np.arange(N) % 2 == 0
    hits = RefinedSearcher(vectors, source, depth=50).search(query, 10, eligible=pack(eligible))[0]
    assert hits.rows.tolist() == [row for row in best(vectors, query, N) if eligible[row]][:10]
    assert (source.depths, source.wanted) == ([100], [wanted])


def test_a_bitmap_that_keeps_few_is_scanned_at_once(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32]
) -> None:
    source, eligible = Shallow(vectors), np.arange(N) % 5 == 0
    hits = RefinedSearcher(vectors, source, depth=50).search(query, 10, eligible=pack(eligible))[0]
    assert hits.rows.tolist() == [row for row in best(vectors, query, N) if eligible[row]][:10]
    assert source.depths == []


def test_a_search_that_comes_upon_few_eligible_rows_ends_in_a_scan_of_them(
    vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32]
) -> None:
    eligible = np.ones(N, dtype=bool)
    eligible[best(vectors, query, N // 2)] = False  # the nearer half
    source = Shallow(vectors)
    hits = RefinedSearcher(vectors, source, depth=50).search(query, 10, eligible=pack(eligible))[0]
    assert hits.rows.tolist() == best(vectors, query, N)[N // 2 : N // 2 + 10]
    assert len(source.depths) == 1
