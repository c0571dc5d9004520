"""Adjacency by row: the edges of one relation grouped by source (or by target), as CSR arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

_NONE = np.empty(0, dtype=np.int32)


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

    def take(self, rows: Int64[npt.NDArray[np.int64], " n"]) -> "Csr":
        """Some rows, in the order given and renumbered from 0, without weights."""
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.degrees()[rows], dtype=np.int64)])
        return Csr(indptr, np.concatenate([_NONE, *(self.row(row) for row in rows.tolist())]))

    def transposed(self, n_columns: int) -> "Csr":
        """The same edges grouped by their other end, without weights."""
        return csr_from_pairs(self.indices, np.repeat(np.arange(len(self), dtype=np.int32), self.degrees()), n_columns)


def empty_csr(n_rows: int) -> Csr:
    """`n_rows` empty rows."""
    return Csr(np.zeros(n_rows + 1, dtype=np.int64), _NONE)


def csr_from_pairs(
    rows: Int32[npt.NDArray[np.int32], " entries"],
    indices: Int32[npt.NDArray[np.int32], " entries"],
    n_rows: int,
    weights: Float32[npt.NDArray[np.float32], " entries"] | None = None,
    *,
    distinct: bool = False,
) -> Csr:
    """Group `indices` by `rows`, ascending within a row; with `distinct` only the first of equal pairs stays."""
    # Row and other end in one 64-bit key: one sort of such keys is several times as fast as one of two columns, and
    # sorting the keys alone as fast again as finding their order, which only weights ask for. Equal pairs then stand
    # side by side; the sort is stable, so the first that was given is the first there.
    keys = rows.astype(np.int64) << 32 | indices
    if weights is None:
        keys.sort()
    else:
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], weights[order]
    if distinct:
        kept = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, weights = keys[kept], None if weights is None else weights[kept]
    return csr_from_sorted(keys >> 32, (keys & 0xFFFFFFFF).astype(np.int32), n_rows, weights)


def csr_from_sorted(
    rows: Int64[npt.NDArray[np.int64], " entries"],
    indices: Int32[npt.NDArray[np.int32], " entries"],
    n_rows: int,
    weights: Float32[npt.NDArray[np.float32], " entries"] | None = None,
) -> Csr:
    """Entries that stand in the order of their `rows` already, ascending."""
    indptr = np.searchsorted(rows, np.arange(n_rows + 1)).astype(np.int64)
    return Csr(indptr, indices, weights)


def concatenated(parts: Sequence[Csr]) -> Csr:
    """The rows of `parts` one after another; with weights where every part has them."""
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.degrees() for part in parts)])
    weights = [part.weights for part in parts if part.weights is not None]
    joined = np.concatenate(weights) if parts and len(weights) == len(parts) else None
    return Csr(np.cumsum(lengths), np.concatenate([_NONE, *(part.indices for part in parts)]), joined)
