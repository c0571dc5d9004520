"""Fewer, better scaled columns for an index, learnt from the vectors and from the queries that will meet them.

With X the vectors' covariance and Q the queries' second moment, the vectors are stretched by Q^(α/2) and turned to the
principal directions of what comes out, the least of which are dropped. A query is stretched by Q^(-α/2) and turned
alike, so that the inner product stays. α = 1 makes an error in any column cost a query the same, α = 0 leaves the
vectors' own geometry, in which graphs and inverted lists find neighbours; docs/benchmarks-log.md has what lies between.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from index.builder.sample import sample

Matrix = Float64[npt.NDArray[np.float64], "width width"]

STRETCH = 0.25
# The part of the stretched variance that is kept: on a follow graph 96 columns of 129 hold it.
KEPT = 0.96
# Columns come in such steps: the width of the vector instructions, in floats.
STEP = 16
SAMPLE, SAMPLE_FLOATS = 1 << 16, 12 << 20
BLOCK_ROWS = 1 << 12
# A direction that no query has is still given this part of the mean weight.
FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class FittedProjection:
    """What vectors and queries are multiplied by, from the right; `centre` is the mean of the multiplied vectors."""

    for_vectors: Float32[npt.NDArray[np.float32], "width held"]
    centre: Float32[npt.NDArray[np.float32], " held"]
    for_queries: Float32[npt.NDArray[np.float32], "width held"]

    @property
    def held(self) -> int:
        """Columns of a vector in the library."""
        return int(self.for_vectors.shape[1])

    def of_vectors(self, vectors: Float32[npt.NDArray[np.float32], "n width"]) -> npt.NDArray[np.float32]:
        """The vectors as the library holds them: float32 [n, held].

        Without their mean, which every score would contain alike, and which would draw a graph's links to long vectors.
        """
        return vectors @ self.for_vectors - self.centre


def fit_projection(
    vectors: Float32[npt.NDArray[np.float32], "n width"],
    queries: Float32[npt.NDArray[np.float32], "q width"],
    *,
    scale: float,
    step: int,
    rng: np.random.Generator,
) -> FittedProjection:
    """The map for an index over `vectors`, whose last column is multiplied by `scale` first; `held` is a multiple of
    `step`."""
    scales = np.ones(vectors.shape[1])
    scales[-1] = scale
    stretch, shrink = _stretch(queries / scales)
    width = vectors.shape[1]
    rows = sample(vectors, max(4 * width, min(SAMPLE, SAMPLE_FLOATS // width)), rng)
    covariance = _covariance(rows, scales)
    variances, directions = np.linalg.eigh(stretch @ covariance @ stretch)  # ascending, the weakest first
    order = _alternating(_n_columns(variances[::-1], step))
    directions = _padded(directions[:, ::-1], order)
    for_vectors = scales[:, np.newaxis] * (stretch @ directions)
    return FittedProjection(
        for_vectors.astype(np.float32),
        (rows.mean(axis=0) @ for_vectors).astype(np.float32),
        ((shrink @ directions) / scales[:, np.newaxis]).astype(np.float32),
    )


def _covariance(
    rows: Float32[npt.NDArray[np.float32], "n width"], scales: Float64[npt.NDArray[np.float64], " width"]
) -> Matrix:
    """That of the rows times `scales`, in float64 a block at a time."""
    mean, covariance = rows.mean(axis=0, dtype=np.float64) * scales, np.zeros(2 * rows.shape[1:])
    for start in range(0, len(rows), BLOCK_ROWS):
        centred = rows[start : start + BLOCK_ROWS] * scales - mean
        covariance += centred.T @ centred
    return covariance / max(1, len(rows))


def _stretch(queries: Float64[npt.NDArray[np.float64], "q width"]) -> tuple[Matrix, Matrix]:
    """Q^(α/2) and its inverse, of the queries' second moment Q in units of its mean."""
    moments, directions = np.linalg.eigh(queries.T @ queries)
    mean = moments.mean()
    weights = np.maximum(moments / mean, FLOOR) if mean > 0 else np.ones_like(moments)
    return (
        (directions * weights ** (STRETCH / 2)) @ directions.T,
        (directions * weights ** (-STRETCH / 2)) @ directions.T,
    )


def _n_columns(variances: Float64[npt.NDArray[np.float64], " width"], step: int) -> int:
    """The columns that keep enough of the variance, as a multiple of `step`."""
    shares = np.cumsum(variances) / max(variances.sum(), np.finfo(np.float64).tiny)
    return step * math.ceil((1 + np.searchsorted(shares, KEPT)) / step)


def _alternating(held: int) -> list[int]:
    """The strongest direction beside the weakest, and so on: codes of two columns then have as much to tell each."""
    first = np.arange(held)
    return [int(i) for i in np.stack([first, first[::-1]], axis=1).ravel()[:held]]


def _padded(directions: Matrix, order: list[int]) -> Float64[npt.NDArray[np.float64], "width held"]:
    """The columns of `directions` in `order`; zeros for those that there are not."""
    wide = np.zeros((len(directions), max(len(directions), len(order))))
    wide[:, : len(directions)] = directions
    return wide[:, order]
