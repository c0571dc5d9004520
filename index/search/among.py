"""A searcher whose answers are among some of its rows alone: those that a version gives as candidates.

Searchers that know these rows' bitmap itself from a filter's search no deeper for it than they were measured with.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from index.search.checks import check_query
from index.search.eligible import Bitmap, check_bitmap
from index.search.protocol import Hits, Searcher


class AmongSearcher:
    """`inner` that never answers a row without a bit in `candidates`, whatever else a call asks to be eligible."""

    def __init__(self, inner: Searcher, candidates: Bitmap) -> None:
        """Raises QueryError for a bitmap of another size."""
        self.inner = inner
        self._candidates = check_bitmap(candidates, inner.size)

    @property
    def size(self) -> int:
        """Rows that have numbers, candidates or not."""
        return self.inner.size

    @property
    def width(self) -> int:
        """Floats in a query."""
        return self.inner.width

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
        if eligible is None or eligible is self._candidates:
            return self.inner.search(queries, k, depth=depth, exclude=exclude, eligible=self._candidates)
        check_query(queries, k, self.width)
        kept = check_bitmap(eligible, self.size) & self._candidates
        return self.inner.search(queries, k, depth=depth, exclude=exclude, eligible=kept)


def among(searcher: Searcher, candidates: Bitmap | None) -> Searcher:
    """The searcher, kept to `candidates` where not all rows are."""
    return searcher if candidates is None else AmongSearcher(searcher, candidates)
