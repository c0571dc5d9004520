"""The shape in which a library holds the vectors: the popularity column scaled, the width padded.

An inner product stays the same when a column is multiplied by a number and the query's coordinate is
divided by it. The embedding's columns are small and queries weigh popularity by a fraction, so without
this the one popularity column would decide alone which rows an index thinks are near one another.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32


@dataclass(frozen=True, slots=True)
class Columns:
    """`width` columns in the bundle, `padded` in the library; the last of `width` is multiplied by `scale`."""

    width: int
    padded: int
    scale: float = 1.0

    def of_vectors(self, vectors: Float32[npt.NDArray[np.float32], "n width"]) -> npt.NDArray[np.float32]:
        """The vectors as the library holds them: float32 [n, padded]."""
        return self._laid_out(vectors, self.scale)

    def of_queries(self, queries: Float32[npt.NDArray[np.float32], "q width"]) -> npt.NDArray[np.float32]:
        """The queries as the library needs them: float32 [q, padded]."""
        return self._laid_out(queries, 1.0 / self.scale)

    def _laid_out(self, rows: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.float32]:
        if self.padded == self.width and scale == 1.0:
            return rows
        laid_out = np.zeros((len(rows), self.padded), dtype=np.float32)
        laid_out[:, : self.width] = rows
        laid_out[:, self.width - 1] *= np.float32(scale)
        return laid_out
