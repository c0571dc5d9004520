"""What every searcher promises."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Integer


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
    ) -> list[Hits]:
        """The best `k` rows for each query, without the rows that `exclude[i]` names for query i.

        Fewer than `k` only when fewer are eligible; never -1, never a row twice. `depth` is how far an
        approximate searcher looks (HNSW: ef; IVF: nprobe); None takes the one the version was measured
        with. Safe to call from several threads at once. Raises QueryError for another width, NaN or
        Inf, or k < 1, before a library sees the query.
        """
        ...
