"""Exact scores and the one order every searcher answers in."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.rows import CompactRows, ScoredRows
from engine.native import Native
from engine.native import Rows as RowsHandle
from index.search.protocol import Hits

Matrix = ScoredRows  # n rows of `width` numbers
Query = Float32[npt.NDArray[np.float32], " width"]
Rows = Integer[npt.NDArray[np.integer], " _"]  # no bound name: a function may take several

# Rows that are gathered at a time.
BLOCK_ROWS = 1 << 14
NO_ROWS = np.empty(0, dtype=np.int64)


def exact_scores(vectors: Matrix, query: Query, rows: Rows) -> Float32[npt.NDArray[np.float32], " _"]:
    """`vectors[rows] · query`, each product summed alone, so that a row's score never depends on its company.

    Some rows at a time: a query that says nothing, as the vector of zeros, ties with all rows there are.
    """
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        np.einsum("ij,j->i", vectors.take(rows[part], axis=0), query, out=scores[part])
    return scores


def ranked(vectors: Matrix, query: Query, rows: Rows, k: int) -> Hits:
    """The best `k` of ascending `rows` by exact inner product; equal scores go to the lower row."""
    scores = exact_scores(vectors, query, rows)
    order = np.argsort(-scores, kind="stable")[:k]
    return Hits(rows[order].astype(np.int32), scores[order])


def row_handle(native: Native, rows: Matrix) -> RowsHandle:
    """The rows as the engine reads them."""
    if not isinstance(rows, CompactRows):
        return native.rows(np.ascontiguousarray(rows))
    if rows.kind == "float16":
        return native.half_rows(rows.stored.view(np.uint16))
    return native.coded_rows(rows.stored, rows.dim)


def inside(rows: Rows, n: int) -> Rows:
    """The distinct `rows` that an index of `n` rows has; -1 stands for an id it does not know."""
    return np.unique(rows[(rows >= 0) & (rows < n)])
