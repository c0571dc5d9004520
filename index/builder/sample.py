"""A sample of vectors: all of a type are never needed to learn from."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32


def sample(
    vectors: Float32[npt.NDArray[np.float32], "n width"], limit: int, rng: np.random.Generator
) -> Float32[npt.NDArray[np.float32], "at_most_limit width"]:
    """`limit` distinct rows in their order, contiguous; all of them when there are no more."""
    if len(vectors) <= limit:
        return np.ascontiguousarray(vectors)
    return np.ascontiguousarray(vectors[np.sort(rng.choice(len(vectors), limit, replace=False))])
