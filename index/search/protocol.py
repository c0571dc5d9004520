"""What every searcher promises."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Integer, UInt8


class Hits(NamedTuple):
    """The answer to one query, best first: higher scores are better, scores are exact inner products."""

    rows: Int32[npt.NDArray[np.int32], " found"]
    scores: Float32[npt.NDArray[np.float32], " found"]


@runtime_checkable
class Searcher(Protocol):
    """Maximum-inner-product search over the rows of one entity type."""

    @property
    def size(self) -> int:
        """Rows in the index."""
        ...

    @property
    def width(self) -> int:
        """Floats in a query."""
        ...

    def search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        *,
        depth: int | None = None,
        exclude: Sequence[Integer[npt.NDArray[np.integer], " _"]] | None = None,
        eligible: UInt8[npt.NDArray[np.uint8], " bytes"] | None = None,
    ) -> list[Hits]:
        """The best `k` rows for each query, without the rows that `exclude[i]` names for query i.

        With `eligible` only rows whose bit is set are answered, by all queries of the call: bit `i & 7` (least
        significant first) of byte `i >> 3` is row i's, ceil(size / 8) bytes (`index.search.eligible`).
        Fewer than `k` only when fewer are eligible; never -1, never a row twice. `depth` is how far an
        approximate searcher looks (HNSW: ef; IVF: nprobe); None takes the one the version was measured
        with, deepened in proportion where few rows are eligible. Safe to call from several threads at once. Raises
        QueryError for another width, NaN or Inf, k < 1 or a bitmap of another size, before a library sees the query.
        """
        ...
