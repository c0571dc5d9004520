"""FAISS indexes as sources of candidates: inverted lists, product quantisation, HNSW graphs."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import BundleInvalid
from index.search.eligible import Bitmap
from index.search.projection import QueryProjection


class FaissSource:
    """Candidates from a FAISS index, whose search parameters are arguments of the call: nothing is shared.

    `depth` is the number of inverted lists visited (IVF), the breadth of the search, all of which is returned
    (HNSW), or the number of candidates looked at (PQ alone).
    """

    def __init__(self, index: Any, projection: QueryProjection) -> None:
        self._index = index
        self._projection = projection
        self._ivf = faiss.try_extract_index_ivf(index)
        # Making such an object takes as long as a tenth of a search. Of a function and not of a method: an index that
        # its own cache refers to would stay in memory after a swap, until the collector comes by, which is seldom.
        self._parameters = lru_cache(maxsize=64)(partial(_parameters, index, self._ivf))

    def candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """The `n_candidates` best by the index's own, compressed arithmetic."""
        # A query is too short to share among OpenMP's threads, which would spend the time waking up. The setting is
        # the calling thread's own, and callers have threads of their own.
        faiss.omp_set_num_threads(1)
        mapped = self._projection.of_queries(queries)
        if self._ivf is None:
            depth = n_candidates = min(self._index.ntotal, max(depth, n_candidates))
        parameters = self._parameters(depth)
        labels: npt.NDArray[np.int64] = self._index.search(mapped, n_candidates, params=parameters)[1]
        return labels


class FaissLists(FaissSource):
    """Candidates from inverted lists, whose scan tests each row's bit: what is not eligible costs nothing else."""

    def eligible_candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int, eligible: Bitmap
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """See `SelectingSource`."""
        faiss.omp_set_num_threads(1)
        mapped = self._projection.of_queries(queries)
        # FAISS keeps the address alone: `eligible` is the caller's until the search is over.
        selector = faiss.IDSelectorBitmap(self._index.ntotal, faiss.swig_ptr(eligible))
        parameters = _parameters(self._index, self._ivf, depth, selector)
        labels: npt.NDArray[np.int64] = self._index.search(mapped, n_candidates, params=parameters)[1]
        return labels


def _parameters(index: Any, ivf: Any, depth: int, selector: Any = None) -> Any:
    """What FAISS reads `depth` from, and never writes: threads share it."""
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=depth)
    if ivf is None:
        return None
    parameters = faiss.SearchParametersIVF(nprobe=min(depth, ivf.nlist), sel=selector)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=parameters)
    return parameters


def read_faiss(path: Path, projection: QueryProjection, size: int) -> FaissSource:
    """Map the index at `path`, whose digest the caller has checked. Raises BundleInvalid."""
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise BundleInvalid(f"{path} is no index that FAISS reads: {first:.200}. Build the version again.") from error
    if index.ntotal != size or index.d != projection.held:
        raise BundleInvalid(
            f"{path} has {index.ntotal} rows of {index.d}; the version has {size} of {projection.held}. "
            "Build the version again."
        )
    return (
        FaissSource(index, projection) if faiss.try_extract_index_ivf(index) is None else FaissLists(index, projection)
    )
