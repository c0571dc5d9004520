"""A sample of vectors: all of a type are never needed to learn from."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from index.search.eligible import Bitmap, count_of, rows_of

BLOCK_ROWS = 1 << 20


def sample_rows(n: int, limit: int, rng: np.random.Generator) -> Int64[npt.NDArray[np.int64], " at_most_limit"]:
    """`limit` of `n` rows, ascending, one out of each of as many equal stretches; all when there are no more.

    Memory follows the sample: a permutation of 10⁸ rows would take 800 MB.
    """
    if n <= limit:
        return np.arange(n, dtype=np.int64)
    bounds = np.arange(limit + 1, dtype=np.int64) * n // limit
    return bounds[:-1] + (rng.random(limit) * np.diff(bounds)).astype(np.int64)


def sample_among(
    candidates: Bitmap, limit: int, rng: np.random.Generator
) -> Int64[npt.NDArray[np.int64], " at_most_limit"]:
    """`limit` of the rows in the bitmap, ascending; all when there are no more."""
    ranks, done, parts = sample_rows(count_of(candidates), limit, rng), 0, [np.empty(0, np.int64)]
    for rows in row_blocks_of(candidates):
        parts.append(rows[ranks[np.searchsorted(ranks, done) : np.searchsorted(ranks, done + len(rows))] - done])
        done += len(rows)
    return np.concatenate(parts)


def row_blocks_of(candidates: Bitmap) -> Iterator[Int64[npt.NDArray[np.int64], " some"]]:
    """The rows in the bitmap, ascending, some at a time."""
    for first in range(0, 8 * len(candidates), BLOCK_ROWS):
        yield rows_of(candidates, first, first + BLOCK_ROWS)


def sample(
    vectors: Float32[npt.NDArray[np.float32], "n width"],
    limit: int,
    rng: np.random.Generator,
    among: Int64[npt.NDArray[np.int64], " some"] | None = None,
) -> Float32[npt.NDArray[np.float32], "at_most_limit width"]:
    """`limit` distinct rows, of those `among` whom to draw, in their order, contiguous; all when there are no more."""
    rows = sample_rows(len(vectors) if among is None else len(among), limit, rng)
    return np.ascontiguousarray(vectors[rows if among is None else among[rows]])
