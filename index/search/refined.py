"""From a library's candidates to the promise of `Searcher`: filtered, scored exactly, never short."""

import math
import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from index.search.checks import CheckedSearcher
from index.search.eligible import Bitmap, count_of, has
from index.search.exact import ExactSearcher, Queries
from index.search.protocol import Hits
from index.search.ranking import Matrix, Query, Rows, inside, ranked

# Excluded rows fetched on top of k in the first round; a longer list is met by a second round.
FIRST_EXCLUDED = 1024
WIDER_DEPTH = 4
WIDER_ROUNDS = 3
# Above one row wanted in so many, a scan of all rows takes no longer than a search.
SCAN_SHARE = 8
# A search that finds less than this share of the candidates it should among eligible rows looked in the wrong place.
ENOUGH = 0.5


@runtime_checkable
class CandidateSource(Protocol):
    """A library's index behind one call. It may miss rows, repeat none, and pads short answers with -1."""

    def candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """About `n_candidates` likely rows for each query; called from several threads at once."""
        ...


@runtime_checkable
class SelectingSource(CandidateSource, Protocol):
    """A source that tests the bits of a bitmap while it searches."""

    def eligible_candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int, eligible: Bitmap
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """As `candidates`, of the rows whose bit is set alone."""
        ...


class RefinedSearcher(CheckedSearcher):
    """Scores a source's candidates exactly from the mapped vectors and drops the excluded ones.

    When too few are left it asks the source for more, and in the end scans every row: an answer is short only when
    nothing else is eligible. Where a bitmap keeps few rows these are scanned at once; else the source looks deeper, in
    the proportion in which the bitmap thins out what it finds. `refine` is how many candidates are scored for each one
    wanted; `filter_depth` how many times as deep as in that proportion, as it was measured to need. The bitmap of
    `candidates` is that of a version's, by which recall was measured without it.

    Recall was measured on `recall_at` rows (None: nobody says). Whoever wants fewer gets the best of as many
    candidates, because compressed scores order the first few worse than the first hundred; whoever wants more of a
    source whose depth is a number of rows (`depth_in_rows`) gets it deepened in proportion.
    """

    def __init__(
        self,
        vectors: Matrix,
        source: CandidateSource,
        *,
        depth: int,
        refine: float = 1.0,
        recall_at: int | None = None,
        depth_in_rows: bool = False,
        filter_depth: float = 1.0,
        candidates: Bitmap | None = None,
    ) -> None:
        super().__init__(vectors)
        self._source = source
        self._depth = depth
        self._refine = refine
        self._recall_at = recall_at
        self._depth_in_rows = depth_in_rows
        self._filter_depth = filter_depth
        self._candidates = candidates
        self._exact = ExactSearcher(vectors)
        self._scratch = threading.local()

    def _search(
        self, queries: Queries, k: int, depth: int | None, exclude: Sequence[Rows], eligible: Bitmap | None
    ) -> list[Hits]:
        depth = self._measured_depth(k) if depth is None else max(1, depth)
        wanted = self._wanted(k, min(max(map(len, exclude)), FIRST_EXCLUDED))
        if eligible is not None:
            return self._search_among(eligible, queries, k, wanted, depth, exclude)
        found = self._source.candidates(queries, wanted, depth)
        return [
            self._answer(query, k, rows, candidates, depth)
            for query, rows, candidates in zip(queries, exclude, found, strict=True)
        ]

    def _search_among(
        self, eligible: Bitmap, queries: Queries, k: int, wanted: int, depth: int, exclude: Sequence[Rows]
    ) -> list[Hits]:
        """The same among eligible rows: whoever wants `wanted` of them looks at `thinning` times as many rows."""
        n_eligible = count_of(eligible)
        filter_depth = 1.0 if eligible is self._candidates else self._filter_depth
        thinning = filter_depth * self.size / n_eligible
        if wanted * thinning * SCAN_SHARE >= n_eligible:
            return self._exact.search(queries, k, exclude=exclude, eligible=eligible)
        depth = math.ceil(depth * thinning)
        if isinstance(self._source, SelectingSource):
            n_candidates = min(n_eligible, math.ceil(filter_depth * wanted))
            found = self._source.eligible_candidates(queries, n_candidates, depth, eligible)
        else:
            found = self._source.candidates(queries, math.ceil(wanted * thinning), depth)
        hits = []
        for query, rows, candidates in zip(queries, exclude, found, strict=True):
            kept = self._kept(candidates, rows, eligible)
            if len(kept) < max(k, ENOUGH * wanted):
                hits += self._exact.search(query[np.newaxis], k, exclude=[rows], eligible=eligible)
            else:
                hits.append(ranked(self._vectors, query, kept, k))
        return hits

    def _measured_depth(self, k: int) -> int:
        """The depth at which `k` rows are found as well as those that recall was measured on."""
        if self._recall_at is None or not self._depth_in_rows or k <= self._recall_at:
            return self._depth
        return math.ceil(self._depth * k / self._recall_at)

    def _wanted(self, k: int, n_excluded: int) -> int:
        return min(self.size, math.ceil(max(k, self._recall_at or 0) * self._refine) + n_excluded)

    def _answer(self, query: Query, k: int, excluded: Rows, candidates: Rows, depth: int) -> Hits:
        kept = self._kept(candidates, excluded)
        if len(kept) >= k:
            return ranked(self._vectors, query, kept, k)
        gone = inside(excluded, self.size)
        k = min(k, self.size - len(gone))
        if k == 0:
            return Hits(np.empty(0, np.int32), np.empty(0, np.float32))
        return self._look_wider(query, k, gone, kept, depth)

    def _look_wider(self, query: Query, k: int, gone: Rows, kept: Rows, depth: int) -> Hits:
        """Ask for more, and deeper, until `k` are eligible; scan every row when a search would be no cheaper."""
        wanted = self._wanted(k, len(gone))
        for _ in range(WIDER_ROUNDS if wanted * SCAN_SHARE < self.size else 0):
            if len(kept) >= k:
                break
            depth *= WIDER_DEPTH
            kept = self._kept(self._source.candidates(query[np.newaxis], wanted, depth)[0], gone)
        if len(kept) < k:
            return self._exact.search(query[np.newaxis], k, exclude=[gone])[0]
        return ranked(self._vectors, query, kept, k)

    def _kept(self, candidates: Rows, excluded: Rows, eligible: Bitmap | None = None) -> Rows:
        """The candidates that are rows, eligible and not excluded, ascending, by a mask that each thread keeps."""
        rows = np.sort(candidates)
        if rows[0] < 0 or rows[-1] >= self.size:
            rows = rows[(rows >= 0) & (rows < self.size)]
        if eligible is not None:
            rows = rows[has(eligible, rows)]
        if len(excluded) == 0:
            return rows
        mask = self._mask()
        known = excluded[(excluded >= 0) & (excluded < self.size)]
        mask[known] = True
        kept = rows[~mask[rows]]
        mask[known] = False
        return kept

    def _mask(self) -> npt.NDArray[np.bool_]:
        try:
            mask: npt.NDArray[np.bool_] = self._scratch.mask
        except AttributeError:
            mask = self._scratch.mask = np.zeros(self.size, dtype=bool)
        return mask
