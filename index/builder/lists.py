"""Candidate lists: a centroid or medoid query finds the same for every user, so it is answered here, exactly."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.space import CandidateLists
from index.search.exact import ExactSearcher


def candidate_lists(
    queries: Float32[npt.NDArray[np.float32], "clusters d"],
    embeddings: Float32[npt.NDArray[np.float32], "n d"],
    length: int,
) -> CandidateLists:
    """The best `length` rows (or all) of one type for each query by θᵀ·query, best first; no popularity term."""
    length = min(length, len(embeddings))
    if length == 0:
        empty = (len(queries), 0)
        return CandidateLists(np.empty(empty, np.int32), np.empty(empty, np.float32))
    hits = ExactSearcher(embeddings).search(queries, length)
    return CandidateLists(np.stack([hit.rows for hit in hits]), np.stack([hit.scores for hit in hits]))
