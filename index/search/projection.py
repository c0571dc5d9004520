"""The shape in which a library holds the vectors: a linear map that keeps the inner product and drops what is idle.

A library holds x·B and is asked q·A, with A·Bᵀ near the identity, so that the inner product stays what it was
while the columns are fewer and their scales such that a small error in any of them costs a query the same.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.arrays import map_array
from bundle.errors import BundleInvalid
from bundle.manifest import IndexEntry


@dataclass(frozen=True, slots=True)
class QueryProjection:
    """`for_queries` is A: `width` columns in the bundle, `held` in the library."""

    for_queries: Float32[npt.NDArray[np.float32], "width held"]

    @property
    def width(self) -> int:
        """QueryProjection of a vector in the bundle."""
        return int(self.for_queries.shape[0])

    @property
    def held(self) -> int:
        """QueryProjection of a vector in the library."""
        return int(self.for_queries.shape[1])

    def of_queries(self, queries: Float32[npt.NDArray[np.float32], "q width"]) -> npt.NDArray[np.float32]:
        """The queries as the library needs them: float32 [q, held].

        Each row is summed alone: a matrix product would give a query other last bits in another batch.
        """
        mapped: npt.NDArray[np.float32] = np.einsum("qi,ij->qj", queries, self.for_queries)
        return mapped


def projection_file(index: Path) -> Path:
    """Where A lies: beside the index at `index`."""
    return index.with_suffix(".queries.npy")


def read_projection(index: Path, entry: IndexEntry, width: int) -> QueryProjection:
    """The map that belongs to the index at `index`. Raises BundleInvalid when it does not fit `width` columns."""
    if "padded_width" in entry.parameters:  # a version from before there was a map
        return scaled_projection(
            width, int(entry.parameters["padded_width"]), float(entry.parameters.get("popularity_scale", 1.0))
        )
    path = projection_file(index)
    array = map_array(path)
    if array.dtype != np.float32 or array.ndim != 2 or len(array) != width:
        raise BundleInvalid(f"{path} is {array.dtype} {array.shape}; the vectors have {width} columns of float32.")
    return QueryProjection(np.array(array))


def scaled_projection(width: int, held: int, scale: float) -> QueryProjection:
    """The map of a library that holds the columns as they are, the last times `scale`, with zeros up to `held`."""
    for_queries = np.eye(width, held, dtype=np.float32)
    for_queries[width - 1, width - 1] /= np.float32(scale)
    return QueryProjection(for_queries)
