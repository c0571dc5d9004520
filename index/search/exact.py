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
        """Candidates of each query: its best `k` of every block of rows, so none of its best is missing."""
        found: list[list[Rows]] = [[NO_ROWS] for _ in queries]
        for rows, block in self._blocks(eligible):
            # One query reads the vectors once however it is done, and waking BLAS's threads costs more than that.
            scores = np.einsum("ij,qj->qi", block, queries) if len(queries) == 1 else queries @ block.T
            for i, gone in enumerate(excluded):
                scores[i, _positions(rows, gone)] = -np.inf
                found[i].append(rows[_top_positions(scores[i], k)])
        return [np.concatenate(parts) for parts in found]

    def _blocks(self, eligible: Bitmap | None) -> Iterator[tuple[Rows, Queries]]:
        """The rows to score, ascending, and their vectors: as they lie where every row is eligible, else gathered."""
        if eligible is None:
            for first in range(0, self.size, BLOCK_ROWS):
                block = self._vectors[first : first + BLOCK_ROWS]
                yield np.arange(first, first + len(block)), block
            return
        # As many rows at a time as have about a block of eligible ones among them, however few those are.
        step = 8 * (BLOCK_ROWS * self.size // (8 * count_of(eligible)))
        for first in range(0, self.size, step):
            rows = rows_of(eligible, first, min(first + step, self.size))
            for start in range(0, len(rows), BLOCK_ROWS):
                block_rows = rows[start : start + BLOCK_ROWS]
                yield block_rows, self._vectors.take(block_rows, axis=0)


def _positions(rows: Rows, some: Rows) -> Rows:
    """Where those of `some` that are in `rows` stand there; both ascend."""
    here = some[np.searchsorted(some, rows[0]) : np.searchsorted(some, rows[-1], side="right")]
    at = np.searchsorted(rows, here)
    known: Rows = at[rows[at] == here]
    return known


def _top_positions(scores: Float32[npt.NDArray[np.float32], " n"], k: int) -> Rows:
    """Positions of the best `k` finite scores, with everything that ties with the last of them."""
    if k < len(scores):
        floor = np.partition(scores, len(scores) - k)[len(scores) - k]
        # The product over a block may differ from the exact score in its last bits.
        floor -= 1e-5 * max(1.0, abs(float(floor)))
        return np.flatnonzero((scores >= floor) & (scores > -np.inf))
    return np.flatnonzero(scores > -np.inf)
