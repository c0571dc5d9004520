"""Scoring some rows exactly: the same numbers however many there are, in memory that does not follow them."""

import numpy as np
import pytest

from bundle.rows import CompactKind, CompactRows, encoded
from index.search.eligible import pack, rows_of
from index.search.exact import ExactSearcher
from index.search.native import ScanSearcher
from index.search.ranking import BLOCK_ROWS, exact_scores
from tests.support.memory import peak_bytes

WIDTH = 64


def test_a_query_that_ties_with_all_rows_takes_no_memory_for_their_vectors() -> None:
    vectors = np.ones((200_000, WIDTH), dtype=np.float32)
    searcher, nothing = ExactSearcher(vectors), np.zeros((1, WIDTH), dtype=np.float32)
    assert searcher.search(nothing, 3)[0].rows.tolist() == [0, 1, 2]
    assert peak_bytes(lambda: searcher.search(nothing, 3), tries=2) < vectors.nbytes // 2


def test_a_score_does_not_depend_on_its_block() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(BLOCK_ROWS + 100, WIDTH)).astype(np.float32)
    query = vectors[7]
    rows = rng.permutation(len(vectors))
    together = exact_scores(vectors, query, rows)
    some = rng.choice(len(rows), 50, replace=False)
    alone = [float(exact_scores(vectors, query, rows[at : at + 1])[0]) for at in some]
    assert together[some].tolist() == alone
    assert exact_scores(vectors, query, rows[:0]).tolist() == []


@pytest.mark.parametrize("kind", [None, "float16", "int8"])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 9_000])  # the last are more than are kept before the best are looked for
def test_the_engine_finds_what_the_judge_finds(kind: CompactKind | None, n: int) -> None:
    rng = np.random.default_rng(n)
    vectors = rng.normal(size=(n, WIDTH + 3)).astype(np.float32)
    vectors[n // 2 :] = vectors[: n - n // 2]  # each is there twice: of equal scores the lower row comes first
    rows = vectors if kind is None else CompactRows(encoded(vectors, kind, WIDTH), kind, WIDTH, WIDTH + 3)
    queries = np.concatenate([rng.normal(size=(10, WIDTH + 3)), np.zeros((1, WIDTH + 3))]).astype(np.float32)
    judge, engine = ExactSearcher(rows), ScanSearcher(rows)
    excluded = [rng.integers(-1, n + 5, size=rng.integers(0, 40)) for _ in queries]
    for eligible in (None, pack(rng.random(n) < 0.5), pack(np.arange(n) == n - 1), pack(np.zeros(n, dtype=bool))):
        allowed = set(range(n) if eligible is None else rows_of(eligible, 0, n).tolist())
        for k in (1, 10, n + 1):
            expected = judge.search(queries, k, exclude=excluded, eligible=eligible)
            found = engine.search(queries, k, exclude=excluded, eligible=eligible)
            for one, other, query, gone in zip(found, expected, queries, excluded, strict=True):
                np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-4)
                assert set(one.rows.tolist()).isdisjoint(gone.tolist())
                assert set(one.rows.tolist()) <= allowed
                apart = (np.diff(other.scores, prepend=np.inf) < -1e-3) & (
                    np.diff(other.scores, append=-np.inf) < -1e-3
                )
                assert one.rows[apart].tolist() == other.rows[apart].tolist()
                alone = engine.search(query[np.newaxis], k, exclude=[gone], eligible=eligible)[0]
                assert one.rows.tolist() == alone.rows.tolist()
                assert one.scores.tolist() == alone.scores.tolist()
                ties = np.flatnonzero(np.diff(one.scores) == 0)
                assert (one.rows[ties] < one.rows[ties + 1]).all()
