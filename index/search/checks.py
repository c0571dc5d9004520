"""What every searcher asks of a query before any library sees it: hnswlib reads past the buffer of a short one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.errors import QueryError
from index.search.eligible import Bitmap, check_bitmap
from index.search.protocol import Hits
from index.search.ranking import NO_ROWS, Matrix, Rows


class CheckedSearcher(ABC):
    """Size, width and checks of a searcher over `vectors`; what is left to a kind is the search of sound queries."""

    def __init__(self, vectors: Matrix) -> None:
        self._vectors = vectors

    @property
    def size(self) -> int:
        """Rows in the index."""
        return len(self._vectors)

    @property
    def width(self) -> int:
        """Floats in a query."""
        return int(self._vectors.shape[1])

    def search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        *,
        depth: int | None = None,
        exclude: Sequence[Integer[npt.NDArray[np.integer], " _"]] | None = None,
        eligible: Bitmap | None = None,
    ) -> list[Hits]:
        """See `Searcher.search`."""
        queries = check_query(queries, k, self.width)
        if exclude is not None and len(exclude) != len(queries):
            raise QueryError("give one exclusion list a query, or none.")
        if eligible is not None:
            eligible = check_bitmap(eligible, self.size)
        if self.size == 0 or len(queries) == 0 or (eligible is not None and not eligible.any()):
            return [Hits(np.empty(0, np.int32), np.empty(0, np.float32)) for _ in queries]
        return self._search(queries, k, depth, [NO_ROWS] * len(queries) if exclude is None else exclude, eligible)

    @abstractmethod
    def _search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        depth: int | None,
        exclude: Sequence[Rows],
        eligible: Bitmap | None,
    ) -> list[Hits]:
        """The answers to queries and by a bitmap that are checked, over an index that has rows to give."""


def check_query(queries: npt.NDArray[np.floating], k: int, width: int) -> Float32[npt.NDArray[np.float32], "q width"]:
    """The queries as contiguous float32.

    Raises QueryError for another width, NaN, Inf (also what only becomes Inf in float32) or k < 1.
    """
    if k < 1:
        raise QueryError(f"k is {k}; ask for at least 1.")
    if queries.ndim != 2 or queries.shape[1] != width:
        found = "×".join(str(size) for size in queries.shape)
        raise QueryError(f"the queries are {found}; this index needs n×{width}.")
    single = np.ascontiguousarray(queries) if queries.dtype == np.float32 else _narrowed(queries)
    if not np.isfinite(single).all():
        raise QueryError("a query holds NaN or Inf; every coordinate must be a finite float32.")
    return single


def _narrowed(queries: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(queries, dtype=np.float32)
