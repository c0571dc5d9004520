"""Exact search by matrix product: the judge of the others, and the searcher of small types."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from index.search.checks import CheckedSearcher
from index.search.eligible import Bitmap, count_of, rows_of
from index.search.protocol import Hits
from index.search.ranking import NO_ROWS, Rows, inside, ranked

Queries = Float32[npt.NDArray[np.float32], "q width"]

BLOCK_ROWS = 1 << 16
# Long vectors are gathered fewer at a time.
BLOCK_FLOATS = 1 << 23
BLOCK_QUERIES = 64


class ExactSearcher(CheckedSearcher):
    """Scores every eligible row: O(n · width) a query, `depth` means nothing. A batch shares the reading of the
    vectors.
    """

    def _search(
        self, queries: Queries, k: int, depth: int | None, exclude: Sequence[Rows], eligible: Bitmap | None
    ) -> list[Hits]:
        hits: list[Hits] = []
        for first in range(0, len(queries), BLOCK_QUERIES):
            part = queries[first : first + BLOCK_QUERIES]
            excluded = [inside(rows, self.size) for rows in exclude[first : first + BLOCK_QUERIES]]
            best = self._best_rows(part, k, excluded, eligible)
            hits.extend(ranked(self._vectors, query, rows, k) for query, rows in zip(part, best, strict=True))
        return hits

    def _best_rows(self, queries: Queries, k: int, excluded: Sequence[Rows], eligible: Bitmap | None) -> list[Rows]:
        """Candidates of each query: its best `k` of the rows so far, block by block, so none of its best is missing."""
        best = [_Best(k) for _ in queries]
        for rows, block in self._blocks(eligible):
            # One query reads the vectors once however it is done, and waking BLAS's threads costs more than that.
            scores = np.einsum("ij,qj->qi", block, queries) if len(queries) == 1 else queries @ block.T
            for i, gone in enumerate(excluded):
                scores[i, _positions(rows, gone)] = -np.inf
                best[i].add(rows, scores[i])
        return [each.rows() for each in best]

    def _blocks(self, eligible: Bitmap | None) -> Iterator[tuple[Rows, Queries]]:
        """The rows to score, ascending, and their vectors: as they lie where every row is eligible, else gathered."""
        most = max(8, min(BLOCK_ROWS, BLOCK_FLOATS // max(1, self.width)))
        if eligible is None:
            for first in range(0, self.size, most):
                block = self._vectors[first : first + most]
                yield np.arange(first, first + len(block)), block
            return
        # As many rows at a time as have about a block of eligible ones among them, however few those are.
        step = 8 * (most * self.size // (8 * count_of(eligible)))
        for first in range(0, self.size, step):
            rows = rows_of(eligible, first, min(first + step, self.size))
            for start in range(0, len(rows), most):
                block_rows = rows[start : start + most]
                yield block_rows, self._vectors.take(block_rows, axis=0)


def _positions(rows: Rows, some: Rows) -> Rows:
    """Where those of `some` that are in `rows` stand there; both ascend."""
    here = some[np.searchsorted(some, rows[0]) : np.searchsorted(some, rows[-1], side="right")]
    at = np.searchsorted(rows, here)
    known: Rows = at[rows[at] == here]
    return known


class _Best:
    """The rows of the best `k` finite scores so far, and everything that ties with the last of them."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._rows: list[Rows] = [NO_ROWS]
        self._scores = [np.empty(0, np.float32)]
        self._held, self._floor = 0, -np.inf

    def add(self, rows: Rows, scores: Float32[npt.NDArray[np.float32], " n"]) -> None:
        """Take the next rows, which follow those before."""
        if len(scores) > self._k and self._floor == -np.inf:
            self._floor = _floor(scores, self._k)
        good = np.flatnonzero((scores >= self._floor) & (scores > -np.inf))
        self._rows.append(rows[good])
        self._scores.append(scores[good])
        self._held += len(good)
        if self._held > 4 * self._k + len(rows) // 4:
            self._settle()

    def rows(self) -> Rows:
        """The rows, ascending."""
        self._settle()
        return self._rows[0]

    def _settle(self) -> None:
        rows, scores = np.concatenate(self._rows), np.concatenate(self._scores)
        if len(scores) > self._k:
            self._floor = max(self._floor, _floor(scores, self._k))
            good = scores >= self._floor
            rows, scores = rows[good], scores[good]
        self._rows, self._scores, self._held = [rows], [scores], len(rows)


def _floor(scores: Float32[npt.NDArray[np.float32], " n"], k: int) -> float:
    """What the best `k` scores reach, less what a product over a block may differ by from the exact score."""
    kth = float(np.partition(scores, len(scores) - k)[len(scores) - k])
    return kth - 1e-5 * max(1.0, abs(kth))
