"""Which entities may be answered: by edges into them, at most so many; and an `ivf4` that holds these alone."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import engine
from bundle.errors import ConfigError, QueryError
from index.builder.candidates import choose_candidates
from index.builder.config import CandidatesConfig
from index.builder.devices import CPU
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec
from index.search.among import AmongSearcher, among
from index.search.eligible import has, mask_of, pack, rows_of
from index.search.exact import ExactSearcher
from index.search.open import read_searcher
from index.search.protocol import Hits, Searcher
from tests.unit.index.test_ivf4 import QUERIES, VECTORS, WIDTH, K, N

DEGREES = np.array([5, 0, 3, 3, 1, 3, 9], dtype=np.int64)
SPEC = IndexSpec("ivf4", depth=450, refine=4.0, lists=32)
ROWS = np.sort(np.random.default_rng(3).permutation(N)[: N // 3])
MASK = np.isin(np.arange(N), ROWS)
CANDIDATES = pack(MASK)
SIXTH = np.isin(np.arange(N), ROWS[::2])


def chosen(**settings: int) -> list[int] | None:
    found = choose_candidates("item", DEGREES, CandidatesConfig(**settings))
    return None if found is None else rows_of(found.bitmap).tolist()


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, None),
        ({"max_count": 7}, None),
        ({"min_in_degree": 1}, [0, 2, 3, 4, 5, 6]),
        ({"min_in_degree": 4}, [0, 6]),
        ({"max_count": 2}, [0, 6]),
        ({"max_count": 4}, [0, 2, 3, 6]),
        ({"min_in_degree": 3, "max_count": 6}, [0, 2, 3, 5, 6]),
        ({"min_in_degree": 3, "max_count": 1}, [6]),
    ],
)
def test_those_with_most_edges_are_candidates_and_of_equal_ones_the_first(
    settings: dict[str, int], rows: list[int] | None
) -> None:
    assert chosen(**settings) == rows


def test_settings_that_leave_nobody_are_refused_with_the_most_there_is() -> None:
    with pytest.raises(ConfigError, match="no item has so many training edges into it; the most is 9"):
        chosen(min_in_degree=10)


def write(directory: Path) -> Path:
    path = directory / "items.ivf4"
    write_index(SPEC, VECTORS, QUERIES, path, seed=1, threads=1, device=CPU, candidates=CANDIDATES)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ivf4"))


@pytest.fixture(params=["engine", "numpy", "exact"])
def searcher(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> Searcher:
    if request.param == "exact":
        return among(ExactSearcher(VECTORS), CANDIDATES)
    if request.param == "numpy":
        monkeypatch.setattr(engine, "available", lambda: False)
    return read_searcher(path, SPEC.entry(path.name, K), VECTORS, CANDIDATES)


def judged(mask: npt.NDArray[np.bool_]) -> list[Hits]:
    return ExactSearcher(VECTORS).search(QUERIES, K, eligible=pack(mask))


def recall(found: list[Hits], mask: npt.NDArray[np.bool_]) -> float:
    pairs = zip(found, judged(mask), strict=True)
    return float(np.mean([len(np.intersect1d(a.rows, b.rows)) / K for a, b in pairs]))


def test_only_candidates_are_answered_and_nearly_the_best_of_them(searcher: Searcher) -> None:
    assert (searcher.size, searcher.width) == (N, WIDTH)
    found = searcher.search(QUERIES, K)
    assert all(MASK[hits.rows].all() and len(hits.rows) == K for hits in found)
    assert recall(found, MASK) > 0.93


def test_a_filter_narrows_the_candidates_further(searcher: Searcher) -> None:
    found = searcher.search(QUERIES, K, eligible=pack(SIXTH | ~MASK))
    assert all(SIXTH[hits.rows].all() and len(hits.rows) == K for hits in found)
    assert recall(found, SIXTH) > 0.93


def test_a_filter_that_keeps_no_candidate_finds_nothing(searcher: Searcher) -> None:
    assert [len(hits.rows) for hits in searcher.search(QUERIES[:2], K, eligible=pack(~MASK))] == [0, 0]


def test_who_wants_more_than_there_are_gets_every_candidate_once_less_the_excluded(searcher: Searcher) -> None:
    gone = ROWS[:100]
    hits = searcher.search(QUERIES[:1], N, exclude=[gone])[0]
    np.testing.assert_array_equal(np.sort(hits.rows), ROWS[100:])


def test_a_bitmap_of_another_size_is_refused(searcher: Searcher) -> None:
    with pytest.raises(QueryError, match="the bitmap is"):
        searcher.search(QUERIES, K, eligible=CANDIDATES[:-1])
    with pytest.raises(QueryError, match="the bitmap is"):
        AmongSearcher(ExactSearcher(VECTORS), CANDIDATES[:-1])


def test_the_file_holds_the_candidates_alone(path: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.ivf4"
    write_index(SPEC, VECTORS, QUERIES, whole, seed=1, threads=1, device=CPU)
    assert path.stat().st_size < 0.4 * whole.stat().st_size
    assert path.read_bytes() == write(tmp_path).read_bytes()


def test_the_version_s_own_bitmap_is_searched_no_deeper_than_was_measured(path: Path) -> None:
    entry = SPEC.entry(path.name, K)
    scanned = entry.model_copy(update={"parameters": {**entry.parameters, "filter_depth": 1e9}})
    plain, deep = (read_searcher(path, one, VECTORS, CANDIDATES) for one in (entry, scanned))
    shallow = [one.search(QUERIES, K, depth=1, eligible=CANDIDATES) for one in (plain, deep)]
    assert [hits.rows.tolist() for hits in shallow[0]] == [hits.rows.tolist() for hits in shallow[1]]
    assert recall(shallow[1], MASK) < 1
    assert recall(deep.search(QUERIES, K, depth=1, eligible=pack(SIXTH)), SIXTH) == 1


def test_a_mask_comes_back_from_its_bitmap() -> None:
    np.testing.assert_array_equal(mask_of(CANDIDATES, N), MASK)
    assert has(CANDIDATES, ROWS).all()
