"""What every searcher promises, asked of every kind: the suite a new one must pass."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from bundle.errors import QueryError
from index.builder.devices import find_device
from index.builder.filtered import FILTER_DEPTHS
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec
from index.search.exact import ExactSearcher
from index.search.open import read_searcher
from index.search.protocol import Hits, Searcher

N, DIM, K = 3000, 24, 20
WIDTH = DIM + 1  # the last column stands for popularity
SPECS = {
    "exact": IndexSpec("exact", depth=1),
    "hnsw": IndexSpec("hnsw", depth=200, popularity_scale=0.3, links=16, build_depth=100),
    "ivf4": IndexSpec("ivf4", depth=450, refine=4.0, popularity_scale=0.3, lists=32),
    "ivf_sq8": IndexSpec("ivf_sq8", depth=12, refine=1.5, popularity_scale=0.3, lists=32),
    "ivf_pq": IndexSpec("ivf_pq", depth=12, refine=8.0, popularity_scale=0.3, lists=32),
    "pq": IndexSpec("pq", depth=600, popularity_scale=0.3),
}
Vectors = npt.NDArray[np.float32]
Opener = Callable[[str, Vectors], Searcher]


def clustered(n: int, rng: np.random.Generator) -> Vectors:
    """Points about 30 centres, with a popularity column like ln(1 + degree)."""
    centres = np.random.default_rng(5).normal(0, 1, (30, DIM))
    points = centres[rng.integers(0, 30, n)] + rng.normal(0, 0.4, (n, DIM))
    return np.column_stack([points, np.log1p(rng.pareto(1.5, n))]).astype(np.float32)


@pytest.fixture(scope="session")
def open_kind(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Builds and opens a searcher of a kind over given vectors."""

    def build_and_open(kind: str, vectors: Vectors) -> Searcher:
        spec = SPECS[kind]
        path = tmp_path_factory.mktemp("index") / spec.file_name
        if kind != "exact":
            write_index(spec, vectors, vectors[:100], path, seed=1, threads=1, device=find_device())
        return read_searcher(path, spec.entry(path.name, K), vectors)

    return build_and_open


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    return clustered(N, np.random.default_rng(1))


@pytest.fixture(scope="session")
def queries() -> Vectors:
    """Like the vectors, with a weight of popularity instead of a popularity."""
    made = clustered(60, np.random.default_rng(2))
    made[:, -1] = 0.3
    return made


@pytest.fixture(scope="session", params=list(SPECS))
def searcher(request: pytest.FixtureRequest, vectors: Vectors, open_kind: Opener) -> Searcher:
    return open_kind(request.param, vectors)


@pytest.fixture(scope="session")
def judge(vectors: Vectors) -> ExactSearcher:
    return ExactSearcher(vectors)


def same(left: Hits, right: Hits) -> bool:
    return left.rows.tolist() == right.rows.tolist() and left.scores.tolist() == right.scores.tolist()


def test_it_says_its_size_and_width(searcher: Searcher) -> None:
    assert (searcher.size, searcher.width) == (N, WIDTH)
    assert isinstance(searcher, Searcher)


def test_scores_are_exact_inner_products_best_first(searcher: Searcher, vectors: Vectors, queries: Vectors) -> None:
    for query, hits in zip(queries, searcher.search(queries, K), strict=True):
        np.testing.assert_allclose(hits.scores, vectors[hits.rows].astype(np.float64) @ query, rtol=1e-5, atol=1e-5)
        assert np.all(np.diff(hits.scores) <= 0)
        assert hits.rows.dtype == np.int32
        assert hits.scores.dtype == np.float32


def test_it_finds_nearly_all_of_the_best(searcher: Searcher, judge: ExactSearcher, queries: Vectors) -> None:
    pairs = zip(searcher.search(queries, K), judge.search(queries, K), strict=True)
    assert np.mean([len(np.intersect1d(a.rows, b.rows)) / K for a, b in pairs]) > 0.93


def test_a_batch_equals_single_queries(searcher: Searcher, queries: Vectors) -> None:
    batch = searcher.search(queries, K)
    assert all(same(hits, searcher.search(queries[i : i + 1], K)[0]) for i, hits in enumerate(batch))


def test_k_larger_than_the_index_gives_every_row_once(searcher: Searcher, queries: Vectors) -> None:
    hits = searcher.search(queries[:2], N + 50)
    assert all(sorted(hit.rows.tolist()) == list(range(N)) for hit in hits)


def test_excluded_rows_never_come_back_and_others_fill_their_place(
    searcher: Searcher, judge: ExactSearcher, queries: Vectors
) -> None:
    exclude = [hits.rows[::2] for hits in judge.search(queries, 2 * K)]
    for hits, gone in zip(searcher.search(queries, K, exclude=exclude), exclude, strict=True):
        assert len(hits.rows) == K
        assert not np.isin(hits.rows, gone).any()


def test_exclusions_of_thousands_leave_what_is_left(searcher: Searcher, queries: Vectors) -> None:
    gone = np.random.default_rng(3).permutation(N)[: N - 7]
    left = np.setdiff1d(np.arange(N), gone)
    hits = searcher.search(queries[:3], K, exclude=[gone, gone, gone[:100]])
    assert [sorted(hit.rows.tolist()) for hit in hits[:2]] == [left.tolist(), left.tolist()]
    assert len(hits[2].rows) == K


def test_everything_excluded_gives_nothing(searcher: Searcher, queries: Vectors) -> None:
    hits = searcher.search(queries[:1], K, exclude=[np.arange(N)])[0]
    assert len(hits.rows) == len(hits.scores) == 0


def test_exclusions_unknown_or_repeated_do_no_harm(searcher: Searcher, queries: Vectors) -> None:
    plain = searcher.search(queries[:1], N + 1)[0]
    hits = searcher.search(queries[:1], N + 1, exclude=[np.array([-1, N, N + 7, 5, 5, -9])])[0]
    assert hits.rows.tolist() == [row for row in plain.rows.tolist() if row != 5]


def test_no_row_comes_twice(searcher: Searcher, queries: Vectors) -> None:
    assert all(len(np.unique(hits.rows)) == 300 for hits in searcher.search(queries, 300))


def test_no_queries_give_no_answers(searcher: Searcher) -> None:
    assert searcher.search(np.empty((0, WIDTH), dtype=np.float32), K) == []


@pytest.mark.parametrize("width", [1, WIDTH - 1, WIDTH + 1, 4096])
def test_another_width_is_refused(searcher: Searcher, width: int) -> None:
    with pytest.raises(QueryError, match=f"needs n×{WIDTH}"):
        searcher.search(np.zeros((1, width), dtype=np.float32), K)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(searcher: Searcher, queries: Vectors, bad: float) -> None:
    query = queries[:2].copy()
    query[1, 3] = bad
    with pytest.raises(QueryError, match="NaN or Inf"):
        searcher.search(query, K)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(searcher: Searcher, queries: Vectors, k: int) -> None:
    with pytest.raises(QueryError, match="at least 1"):
        searcher.search(queries[:1], k)


def test_one_exclusion_list_for_two_queries_is_refused(searcher: Searcher, queries: Vectors) -> None:
    with pytest.raises(QueryError, match="one exclusion list a query"):
        searcher.search(queries[:2], K, exclude=[np.array([1])])


def test_a_depth_of_one_still_answers_in_full(searcher: Searcher, queries: Vectors) -> None:
    assert all(len(hits.rows) == 200 for hits in searcher.search(queries, 200, depth=1))


def test_threads_with_their_own_depths_and_exclusions_do_not_mix(searcher: Searcher, queries: Vectors) -> None:
    exclude = [np.random.default_rng(i).integers(0, N, 500) for i in range(len(queries))]

    def ask(i: int) -> Hits:
        return searcher.search(queries[i : i + 1], K, depth=40 + 5 * i, exclude=[exclude[i]])[0]

    alone = [ask(i) for i in range(len(queries))]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, [*range(len(queries))] * 4))
    assert all(same(hits, alone[i % len(queries)]) for i, hits in enumerate(together))


@pytest.mark.parametrize("kind", list(SPECS))
def test_many_equal_vectors_are_all_found(kind: str, open_kind: Opener) -> None:
    vectors = clustered(1000, np.random.default_rng(4))
    vectors[::2] = vectors[0]  # 500 rows that no score tells apart
    hits = open_kind(kind, vectors).search(vectors[:1], 500)[0]
    assert len(np.unique(hits.rows)) == 500
    top = hits.rows[hits.scores == hits.scores[0]]
    assert top.tolist() == sorted(top.tolist())


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf4", "ivf_sq8"])
def test_vectors_of_zeros_answer_in_full(kind: str, open_kind: Opener) -> None:
    zeros = np.zeros((200, WIDTH), dtype=np.float32)
    assert len(open_kind(kind, zeros).search(zeros[:1], 150)[0].rows) == 150


def bitmap_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The packed bitmap of a mask, made bit by bit."""
    packed = np.zeros((len(mask) + 7) // 8, dtype=np.uint8)
    for row in np.flatnonzero(mask).tolist():
        packed[row >> 3] |= 1 << (row & 7)
    return packed


SHARES = [0.8, 0.5, 0.1, 0.01, 0.001]


@pytest.fixture(params=["scattered", "by direction"])
def order(request: pytest.FixtureRequest, vectors: Vectors) -> npt.NDArray[np.float64]:
    """A number for every row, by which the eligible ones are drawn: by chance, or those that lie one way."""
    if request.param == "scattered":
        return np.random.default_rng(7).random(N)
    return vectors[:, 0].argsort().argsort() / N


@pytest.mark.parametrize("share", SHARES)
def test_among_eligible_rows_it_finds_nearly_all_of_the_best(
    searcher: Searcher, vectors: Vectors, queries: Vectors, order: npt.NDArray[np.float64], share: float
) -> None:
    mask = order < share
    rows = np.flatnonzero(mask)
    best = [rows[np.argsort(-(vectors[rows] @ query), kind="stable")[:K]] for query in queries]
    found = [hits.rows for hits in searcher.search(queries, K, eligible=bitmap_of(mask))]
    assert all(len(one) == min(K, len(rows)) and mask[one].all() for one in found)
    assert np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, best, strict=True)]) > 0.95


@pytest.mark.parametrize("share", SHARES)
def test_eligible_and_excluded_rows_together_leave_the_difference_in_full(
    searcher: Searcher, queries: Vectors, order: npt.NDArray[np.float64], share: float
) -> None:
    mask = order < share
    gone = np.concatenate([np.flatnonzero(mask)[::2], [-1, N + 3]])
    hits = searcher.search(queries[:2], N, eligible=bitmap_of(mask), exclude=[gone, gone[:0]])
    assert np.sort(hits[0].rows).tolist() == np.flatnonzero(mask)[1::2].tolist()
    assert np.sort(hits[1].rows).tolist() == np.flatnonzero(mask).tolist()


def test_with_every_row_eligible_the_answer_is_the_same(searcher: Searcher, queries: Vectors) -> None:
    everything = bitmap_of(np.ones(N, dtype=bool))
    pairs = zip(searcher.search(queries, K, eligible=everything), searcher.search(queries, K), strict=True)
    assert all(same(*pair) for pair in pairs)


def test_nobody_eligible_gives_nothing(searcher: Searcher, queries: Vectors) -> None:
    hits = searcher.search(queries, K, eligible=np.zeros((N + 7) // 8, dtype=np.uint8))
    assert [len(one.rows) for one in hits] == [0] * len(queries)


@pytest.mark.parametrize("size", [0, N // 8 - 1, N // 8 + 1, N])
def test_a_bitmap_of_another_size_is_refused(searcher: Searcher, queries: Vectors, size: int) -> None:
    with pytest.raises(QueryError, match="bitmap"):
        searcher.search(queries, K, eligible=np.ones(size, dtype=np.uint8))


def test_a_bitmap_with_bits_past_the_last_row_is_refused(open_kind: Opener) -> None:
    vectors = clustered(13, np.random.default_rng(6))
    with pytest.raises(QueryError, match="past the last"):
        open_kind("exact", vectors).search(vectors[:1], 3, eligible=np.full(2, 255, dtype=np.uint8))


@pytest.mark.parametrize("kind", list(SPECS))
def test_as_deep_as_can_be_it_is_exact_among_eligible_rows(
    kind: str,
    vectors: Vectors,
    queries: Vectors,
    judge: ExactSearcher,
    order: npt.NDArray[np.float64],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    spec = SPECS[kind]
    path = tmp_path_factory.mktemp("deep") / spec.file_name
    if kind != "exact":
        write_index(spec, vectors, vectors[:100], path, seed=1, threads=1, device=find_device())
    entry = spec.entry(path.name, K)
    deep = entry.model_copy(update={"parameters": {**entry.parameters, "filter_depth": FILTER_DEPTHS[-1]}})
    eligible = bitmap_of(order < 0.8)
    pairs = zip(
        read_searcher(path, deep, vectors).search(queries, K, eligible=eligible),
        judge.search(queries, K, eligible=eligible),
        strict=True,
    )
    assert all(a.rows.tolist() == b.rows.tolist() for a, b in pairs)
