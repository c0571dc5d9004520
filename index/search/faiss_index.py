"""FAISS indexes as sources of candidates: inverted lists, product quantisation, HNSW graphs."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import BundleInvalid
from index.search.columns import Columns


class FaissSource:
    """Candidates from a FAISS index, whose search parameters are arguments of the call: nothing is shared.

    `depth` is the number of inverted lists visited (IVF), the breadth of the search (HNSW), or the number
    of candidates looked at (PQ alone).
    """

    def __init__(self, index: Any, columns: Columns) -> None:
        self._index = index
        self._columns = columns
        self._ivf = faiss.try_extract_index_ivf(index)
        self._hnsw = isinstance(index, faiss.IndexHNSW)

    def candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """The `n_candidates` best by the index's own, compressed arithmetic."""
        # A query is too short to share among OpenMP's threads, which would spend the time waking up. The setting is
        # the calling thread's own, and callers have threads of their own.
        faiss.omp_set_num_threads(1)
        laid_out = np.ascontiguousarray(self._columns.of_queries(queries))
        if self._ivf is not None:
            found = self._search_ivf(laid_out, n_candidates, depth)
        elif self._hnsw:
            breadth = max(depth, n_candidates)
            parameters = faiss.SearchParametersHNSW(efSearch=breadth)
            found = self._index.search(laid_out, n_candidates, params=parameters)[1]
        else:
            found = self._index.search(laid_out, min(self._index.ntotal, max(depth, n_candidates)))[1]
        labels: npt.NDArray[np.int64] = found
        return labels

    def _search_ivf(self, queries: npt.NDArray[np.float32], n_candidates: int, depth: int) -> Any:
        probes = min(depth, self._ivf.nlist)
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        if isinstance(self._index, faiss.IndexPreTransform):
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return self._index.search(queries, n_candidates, params=parameters)[1]


def read_faiss(path: Path, columns: Columns, size: int) -> FaissSource:
    """Map the index at `path`, whose digest the caller has checked. Raises BundleInvalid."""
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise BundleInvalid(f"{path} is no index that FAISS reads: {first:.200}. Build the version again.") from error
    if index.ntotal != size or index.d != columns.padded:
        raise BundleInvalid(
            f"{path} has {index.ntotal} rows of {index.d}; the version has {size} of {columns.padded}. "
            "Build the version again."
        )
    return FaissSource(index, columns)
