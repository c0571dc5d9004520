"""Adjacency by row: the edges of one relation grouped by source (or by target), as CSR arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64


@dataclass(frozen=True, slots=True)
class Csr:
    """Row i is `indices[indptr[i]:indptr[i + 1]]`, with `weights` in step where there are any."""

    indptr: Int64[npt.NDArray[np.int64], " rows_plus_1"]
    indices: Int32[npt.NDArray[np.int32], " entries"]
    weights: Float32[npt.NDArray[np.float32], " entries"] | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, row: int) -> Int32[npt.NDArray[np.int32], " n"]:
        """The neighbours of `row`."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def row_weights(self, row: int) -> Float32[npt.NDArray[np.float32], " n"]:
        """The weights of `row`'s edges, in step with `row(row)`; ones where the relation has none."""
        start, stop = int(self.indptr[row]), int(self.indptr[row + 1])
        if self.weights is None:
            return np.ones(stop - start, dtype=np.float32)
        return self.weights[start:stop]

    def degrees(self) -> Int64[npt.NDArray[np.int64], " rows"]:
        """The number of neighbours of every row."""
        return np.diff(self.indptr)


def csr_from_pairs(
    rows: Int32[npt.NDArray[np.int32], " entries"],
    indices: Int32[npt.NDArray[np.int32], " entries"],
    n_rows: int,
    weights: Float32[npt.NDArray[np.float32], " entries"] | None = None,
) -> Csr:
    """Group `indices` by `rows`, ascending within a row."""
    order = np.lexsort((indices, rows))
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=indptr[1:])
    ordered_weights = None if weights is None else weights[order].astype(np.float32)
    return Csr(indptr, indices[order].astype(np.int32), ordered_weights)
