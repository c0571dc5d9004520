"""A sample of vectors: all of a type are never needed to learn from."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64


def sample(
    vectors: Float32[npt.NDArray[np.float32], "n width"],
    limit: int,
    rng: np.random.Generator,
    among: Int64[npt.NDArray[np.int64], " some"] | None = None,
) -> Float32[npt.NDArray[np.float32], "at_most_limit width"]:
    """`limit` distinct rows, of those `among` whom to draw, in their order, contiguous; all when there are no more."""
    if among is not None:
        some = among if len(among) <= limit else among[np.sort(rng.choice(len(among), limit, replace=False))]
        return np.ascontiguousarray(vectors[some])
    if len(vectors) <= limit:
        return np.ascontiguousarray(vectors)
    return np.ascontiguousarray(vectors[np.sort(rng.choice(len(vectors), limit, replace=False))])
