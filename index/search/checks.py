"""What a query must be before any library sees it: hnswlib, for one, reads past the buffer of a short one."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.errors import QueryError


def check_query(queries: npt.NDArray[np.floating], k: int, width: int) -> Float32[npt.NDArray[np.float32], "q width"]:
    """The queries as contiguous float32.

    Raises QueryError for another width, NaN, Inf (also what only becomes Inf in float32) or k < 1.
    """
    if k < 1:
        raise QueryError(f"k is {k}; ask for at least 1.")
    if queries.ndim != 2 or queries.shape[1] != width:
        found = "×".join(str(size) for size in queries.shape)
        raise QueryError(f"the queries are {found}; this index needs n×{width}.")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(queries, dtype=np.float32)
    if not np.isfinite(single).all():
        raise QueryError("a query holds NaN or Inf; every coordinate must be a finite float32.")
    return single


def check_exclusions(exclude: object, n_queries: int) -> None:
    """Raises QueryError unless there is one exclusion list a query, or none at all."""
    if exclude is not None and len(exclude) != n_queries:  # type: ignore[arg-type]
        raise QueryError("give one exclusion list a query, or none.")
