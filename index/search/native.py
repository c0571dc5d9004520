"""Searchers of the compiled engine, which answers all queries of a call at once."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

import engine
from bundle.errors import QueryError
from engine.native import Searcher as SearcherHandle
from index.search.checks import CheckedSearcher
from index.search.eligible import Bitmap
from index.search.exact import ExactSearcher
from index.search.protocol import Hits
from index.search.ranking import Matrix, Rows, row_handle

# So much is done in the time that an `ivf4` of many rows is searched in: so many products, and of a row besides what so
# many take. Three queries of 3,600 rows of 129 are that much.
FEW_PRODUCTS, PRODUCTS_A_ROW = 1 << 21, 64


class NativeSearcher(CheckedSearcher):
    """What the engine's searchers have in common. `handle` is for callers in C++ (`engine/src/searcher.h`)."""

    # Whether every eligible row is scored: to no depth, and no longer among few.
    exact = False

    def __init__(self, vectors: Matrix, handle: SearcherHandle) -> None:
        super().__init__(vectors)
        self.handle = handle
        self._engine = engine.native()

    def takes_long(self, queries: int) -> bool:
        """Whether so many queries hold others up who wait on the same thread."""
        return False

    @abstractmethod
    def effort(self, depth: int | None, share: float = 1.0) -> tuple[float, float]:
        """What C++ is told of `depth` (None: as measured), or of a share of it: depth and refine, in deviations."""

    def search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        *,
        depth: int | None = None,
        exclude: Sequence[Integer[npt.NDArray[np.integer], " _"]] | None = None,
        eligible: Bitmap | None = None,
    ) -> list[Hits]:
        """See `Searcher.search`. The plain case is left to the engine's own checks, which take no time."""
        if exclude is None and eligible is None and 0 < k <= len(self._vectors) and queries.dtype == np.float32:
            try:
                return self._answers(queries, k, depth, None, None, None)
            except (TypeError, ValueError, BufferError):
                pass  # whatever is wrong, or only lies otherwise in memory: looked at below
        return super().search(queries, k, depth=depth, exclude=exclude, eligible=eligible)

    def _search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        depth: int | None,
        exclude: Sequence[Rows],
        eligible: Bitmap | None,
    ) -> list[Hits]:
        excluded, ends = _joined(exclude)
        try:
            return self._answers(queries, min(k, self.size), depth, excluded, ends, eligible)
        except ValueError as error:
            raise QueryError(f"the search cannot be run: {error}.") from error

    def _answers(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        depth: int | None,
        excluded: npt.NDArray[np.int32] | None,
        ends: npt.NDArray[np.int64] | None,
        eligible: Bitmap | None,
    ) -> list[Hits]:
        n = len(queries)
        rows, scores = np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float32)
        found = np.empty(n, dtype=np.int64)
        deviations, refine = self.effort(depth)
        self._engine.search(self.handle, queries, deviations, refine, excluded, ends, eligible, rows, scores, found)
        return [Hits(rows[i, :count], scores[i, :count]) for i, count in enumerate(found.tolist())]


class ScanSearcher(NativeSearcher):
    """Scores every eligible row, as `ExactSearcher` does, without arrays between: faster where rows or queries are few
    (docs/decisions/0161).
    """

    exact = True

    def __init__(self, vectors: Matrix) -> None:
        native = engine.native()
        super().__init__(vectors, native.exact_open(row_handle(native, vectors)))

    def takes_long(self, queries: int) -> bool:
        """See `NativeSearcher.takes_long`."""
        return queries * self.size * (self.width + PRODUCTS_A_ROW) > FEW_PRODUCTS

    def effort(self, depth: int | None, share: float = 1.0) -> tuple[float, float]:
        """Nothing: all rows are scored."""
        return 0.0, 0.0


def exact_searcher(vectors: Matrix) -> ExactSearcher | ScanSearcher:
    """Exact search by the engine where there is one, else in NumPy."""
    return ScanSearcher(vectors) if engine.available() else ExactSearcher(vectors)


def _joined(exclude: Sequence[Rows]) -> tuple[npt.NDArray[np.int32] | None, npt.NDArray[np.int64] | None]:
    """The lists one after the other, and where each ends; nothing when all are empty."""
    if not any(map(len, exclude)):
        return None, None
    ends = np.cumsum([len(rows) for rows in exclude], dtype=np.int64)
    joined = np.concatenate(exclude)
    # What int32 cannot hold is no row.
    return np.where((joined >= 0) & (joined < 1 << 31), joined, -1).astype(np.int32), ends
