"""Scoring some rows exactly: the same numbers however many there are, in memory that does not follow them."""

import numpy as np

from index.search.exact import ExactSearcher
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
