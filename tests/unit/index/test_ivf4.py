"""The searcher of our own: its file, damage to it, filters during the scan, and the same answers in NumPy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import engine
from bundle.errors import BundleInvalid, QueryError
from index.builder.devices import CPU
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec
from index.search.eligible import pack
from index.search.exact import ExactSearcher
from index.search.ivf4 import FEW_ELIGIBLE, Ivf4Searcher
from index.search.ivf4_file import HEADER_BYTES, layout, map_ivf4
from index.search.open import read_searcher
from index.search.projection import read_projection
from index.search.protocol import Searcher
from index.search.refined import RefinedSearcher
from tests.support.levels import LEVELS, at_level, has_level

Vectors = npt.NDArray[np.float32]
N, WIDTH, K = 6000, 21, 30
SPEC = IndexSpec("ivf4", depth=450, refine=4.0, lists=64)
ENTRY = SPEC.entry("items.ivf4", K)


def drawn(n: int, seed: int) -> Vectors:
    """Points about fifty centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).normal(0, 1, (50, WIDTH))
    return (centres[rng.integers(0, 50, n)] + rng.normal(0, 0.5, (n, WIDTH))).astype(np.float32)


VECTORS, QUERIES = drawn(N, 1), drawn(60, 2)


def write(directory: Path, vectors: Vectors = VECTORS, threads: int = 1) -> Path:
    path = directory / "items.ivf4"
    write_index(SPEC, vectors, QUERIES, path, seed=1, threads=threads, device=CPU)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ivf4"))


@pytest.fixture
def searcher(path: Path) -> Searcher:
    return read_searcher(path, ENTRY, VECTORS)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set, in use during the test; one that this processor lacks is refused."""
    if not has_level(request.param):
        with pytest.raises(ValueError, match="this processor has no"):
            engine.native().set_level(request.param.encode())
    with at_level(request.param):
        yield request.param


def recall(searcher: Searcher, **filters: object) -> float:
    """Of the rows that exact search answers under the same filters, the share found."""
    judge = ExactSearcher(VECTORS)
    pairs = zip(searcher.search(QUERIES, K, **filters), judge.search(QUERIES, K, **filters), strict=True)  # type: ignore[arg-type]
    return float(np.mean([len(np.intersect1d(a.rows, b.rows)) / len(b.rows) for a, b in pairs]))


def test_every_instruction_set_writes_the_same_file_and_gives_the_same_answers(
    level: str, path: Path, searcher: Searcher, tmp_path: Path
) -> None:
    assert write(tmp_path, threads=3).read_bytes() == path.read_bytes()
    hits = searcher.search(QUERIES, K)
    engine.native().set_level(b"plain")
    plain = searcher.search(QUERIES, K)
    assert all(a.rows.tolist() == b.rows.tolist() for a, b in zip(hits, plain, strict=True))
    assert all(a.scores.tobytes() == b.scores.tobytes() for a, b in zip(hits, plain, strict=True))


def test_numpy_reads_the_same_file_and_finds_the_same(
    path: Path, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "available", lambda: False)
    judge = read_searcher(path, ENTRY, VECTORS)
    assert isinstance(judge, RefinedSearcher)
    assert isinstance(searcher, Ivf4Searcher)
    ours, theirs = searcher.search(QUERIES, K), judge.search(QUERIES, K)
    shared = [len(np.intersect1d(a.rows, b.rows)) / K for a, b in zip(ours, theirs, strict=True)]
    assert np.mean(shared) > 0.98
    for hits, others in zip(ours, theirs, strict=True):
        score_of = dict(zip(others.rows.tolist(), others.scores.tolist(), strict=True))
        both = [i for i, row in enumerate(hits.rows.tolist()) if row in score_of]
        np.testing.assert_allclose(hits.scores[both], [score_of[int(hits.rows[i])] for i in both], rtol=1e-5)


def test_a_code_is_the_row_less_its_centroid_to_half_a_step(path: Path) -> None:
    projection = read_projection(path, ENTRY, WIDTH)
    file = map_ivf4(path, N, projection.held)
    seen = []
    for number, centroid in enumerate(file.centroids):
        rows, codes = file.list_codes(number)
        decoded = centroid + (codes - np.float32(7.5)) * file.scale
        inner = (codes > 0) & (codes < 15)
        scores, expected = decoded @ projection.for_queries.T, VECTORS[rows]
        assert np.abs(scores - expected).mean() < 4 * file.scale.max() + np.abs(expected).mean()
        assert inner.mean() > 0.9
        seen += rows.tolist()
    assert sorted(seen) == list(range(N))


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_recall_among_eligible_rows_is_that_among_all(searcher: Searcher, share: float) -> None:
    chosen = np.random.default_rng(3).random(N) < share
    assert chosen.sum() > FEW_ELIGIBLE
    assert recall(searcher, eligible=pack(chosen)) >= recall(searcher) - 0.01 > 0.95


def test_rows_that_are_eligible_and_unlike_the_query_are_found(searcher: Searcher) -> None:
    """The worst rows of all, by every query together: whoever looked only near the query would find none."""
    far = np.argsort((QUERIES @ VECTORS.T).mean(axis=0))[: FEW_ELIGIBLE + 300]
    mask = np.zeros(N, dtype=bool)
    mask[far] = True
    assert recall(searcher, eligible=pack(mask)) > 0.95


def test_few_eligible_rows_are_all_scored(searcher: Searcher) -> None:
    mask = np.zeros(N, dtype=bool)
    mask[::200] = True
    assert recall(searcher, eligible=pack(mask)) == 1.0


def test_exclusions_of_every_kind_of_number_are_left_out(searcher: Searcher) -> None:
    top = [hits.rows for hits in searcher.search(QUERIES, 5)]
    wild = [np.concatenate([rows.astype(np.int64), [-1, N, 1 << 40]]) for rows in top]
    for hits, gone in zip(searcher.search(QUERIES, K, exclude=wild), wild, strict=True):
        assert len(hits.rows) == K
        assert not np.isin(hits.rows, gone).any()


def test_queries_of_any_size_rank_alike(searcher: Searcher) -> None:
    plain = searcher.search(QUERIES[:5], K)
    for size in (1e-30, 1e15):
        scaled = searcher.search((QUERIES[:5] * np.float32(size)).astype(np.float32), K)
        found = [len(np.intersect1d(a.rows, b.rows)) for a, b in zip(plain, scaled, strict=True)]
        assert min(found) > 0.9 * K


def test_a_query_of_zeros_is_answered_in_full(searcher: Searcher) -> None:
    assert len(searcher.search(np.zeros((1, WIDTH), np.float32), K)[0].rows) == K


def test_queries_that_lie_otherwise_in_memory_are_understood(searcher: Searcher) -> None:
    wide = np.repeat(QUERIES, 2, axis=1)[:, ::2]
    plain = searcher.search(QUERIES, K)
    assert all((a.rows == b.rows).all() for a, b in zip(searcher.search(wide, K), plain, strict=True))


@pytest.mark.parametrize("without_engine", [False, True], ids=["engine", "numpy"])
@pytest.mark.parametrize(
    "damage",
    ["empty", "short", "cut", "long", "magic", "rows", "held", "lists", "blocks", "first_block", "order"],
)
def test_a_damaged_file_is_refused_by_name(
    damage: str, without_engine: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "available", lambda: not without_engine)
    content = bytearray(path.read_bytes())
    held, lists, blocks = np.frombuffer(content[16:40], dtype="<u8").tolist()
    at = layout(held, lists, blocks)["first_block"]
    match damage:
        case "empty":
            content.clear()
        case "short":
            del content[HEADER_BYTES - 1 :]
        case "cut":
            del content[-64:]
        case "long":
            content += bytes(64)
        case "magic":
            content[0] ^= 1
        case "first_block":
            content[at : at + 4] = b"\1\0\0\0"
        case "order":
            content[at + 4 : at + 8] = b"\xff\xff\xff\x7f"
        case field:
            start = 8 + 8 * ("rows", "held", "lists", "blocks").index(field)
            content[start : start + 8] = b"\xff" * 8
    altered = tmp_path / path.name
    altered.write_bytes(content)
    altered.with_suffix(".queries.npy").write_bytes(path.with_suffix(".queries.npy").read_bytes())
    with pytest.raises(BundleInvalid, match=str(altered)):
        read_searcher(altered, ENTRY, VECTORS)


@pytest.mark.parametrize("seed", range(8))
def test_altered_codes_and_numbers_answer_within_bounds(seed: int, path: Path, tmp_path: Path) -> None:
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    held, lists, blocks = np.frombuffer(content[16:40].tobytes(), dtype="<u8").tolist()
    rng = np.random.default_rng(seed)
    start = layout(held, lists, blocks)["centroids"]
    places = rng.integers(start, len(content), len(content) // 4)
    content[places] = rng.integers(0, 256, len(places))
    altered = tmp_path / path.name
    altered.write_bytes(content.tobytes())
    altered.with_suffix(".queries.npy").write_bytes(path.with_suffix(".queries.npy").read_bytes())
    for hits in read_searcher(altered, ENTRY, VECTORS).search(QUERIES, K):
        assert len(hits.rows) <= K
        assert ((hits.rows >= 0) & (hits.rows < N)).all()
        np.testing.assert_allclose(hits.scores, np.sort(hits.scores)[::-1])


def test_the_engine_refuses_arrays_that_do_not_fit_together(searcher: Searcher) -> None:
    assert isinstance(searcher, Ivf4Searcher)
    search, handle = engine.native().search, searcher.handle
    rows, scores, found = np.empty((1, K), np.int32), np.empty((1, K), np.float32), np.empty(1, np.int64)
    one = QUERIES[:1]
    good = [handle, one, 4.0, 2.0, None, None, None, rows, scores, found]
    search(*good)
    bitmap = np.zeros(3, np.uint8)
    wrong: dict[int, list[object]] = {
        0: [None, 7, engine.native()],
        1: [one.astype(np.float64), one[0], one[:, :-1].copy(), QUERIES[:2], None, one[:, ::2], b"12345678"],
        2: [-1.0, np.nan, "deep"],
        4: [np.zeros(3, np.int64)],
        5: [np.array([9], np.int64), np.array([-1], np.int64), np.zeros(2, np.int64)],
        6: [bitmap, bitmap.astype(np.int8)],
        7: [np.empty((1, K - 1), np.int32), np.empty((1, 0), np.int32), rows.astype(np.int64), rows.tobytes()],
        8: [np.empty((2, K), np.float32), None],
        9: [np.empty(2, np.int64)],
    }
    for place, values in wrong.items():
        for value in values:
            with pytest.raises((TypeError, ValueError, BufferError)):
                search(*[value if i == place else given for i, given in enumerate(good)])
    with pytest.raises(TypeError, match="10 arguments are wanted"):
        search(handle)  # type: ignore[call-arg]


def test_depth_and_refine_out_of_all_bounds_are_an_error_of_ours(searcher: Searcher) -> None:
    with pytest.raises(QueryError, match="cannot be run"):
        searcher.search(QUERIES, K, depth=1 << 40)


def test_the_index_keeps_what_it_borrows(path: Path) -> None:
    vectors = VECTORS.copy()
    made = read_searcher(path, ENTRY, vectors)
    expected = made.search(QUERIES, K)
    assert isinstance(made, Ivf4Searcher)
    handle = made.handle
    del made, vectors
    rows, scores, found = np.empty((60, K), np.int32), np.empty((60, K), np.float32), np.empty(60, np.int64)
    engine.native().search(handle, QUERIES, 4.5, 4.0, None, None, None, rows, scores, found)
    assert all((rows[i] == hits.rows).all() for i, hits in enumerate(expected))
