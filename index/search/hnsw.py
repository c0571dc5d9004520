"""hnswlib behind a wrapper: it checks neither width nor NaN, and its one `ef` is shared by all threads."""

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import BundleInvalid
from index.search.projection import QueryProjection


class HnswSource:
    """Candidates from a hierarchical navigable small world graph. `depth` is ef, the breadth of the search.

    The library looks as far as max(ef, k) and keeps ef in the index; asking for `depth` results with ef at
    its least makes the breadth an argument of the call, so threads may use different ones at once.
    """

    def __init__(self, index: Any, projection: QueryProjection) -> None:
        self._index = index
        self._projection = projection
        self._size = int(index.get_current_count())
        index.set_ef(1)
        index.set_num_threads(1)

    def candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """All that a search of breadth max(`depth`, `n_candidates`) comes upon last."""
        breadth = min(self._size, max(depth, n_candidates))
        try:
            labels, _ = self._index.knn_query(self._projection.of_queries(queries), k=breadth, num_threads=1)
        except RuntimeError:
            # A graph that cannot reach `breadth` rows from its entry point; the caller widens or scans.
            return np.full((len(queries), 1), -1, dtype=np.int64)
        found: npt.NDArray[np.int64] = labels.view(np.int64)
        return found


def read_hnsw(path: Path, projection: QueryProjection, size: int) -> HnswSource:
    """Read the graph at `path`, whose digest the caller has checked. Raises BundleInvalid."""
    index = hnswlib.Index(space="ip", dim=projection.held)
    try:
        index.load_index(str(path))
    except RuntimeError as error:
        raise BundleInvalid(f"{path} is no index that hnswlib reads: {error}. Build the version again.") from error
    if index.get_current_count() != size:
        raise BundleInvalid(
            f"{path} has {index.get_current_count()} rows; the version has {size}. Build the version again."
        )
    return HnswSource(index, projection)
