"""The heads of stored candidate lists, read once: a slate seldom needs more of a list than its first few dozen."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bundle.layout import ListQuery
from bundle.space import Bundle

# Longer than the largest share of a slate of 50, with room for whom the user follows already.
HEAD_LENGTH = 96
# Some 20 kB each; a version has a few hundred clusters.
HEADS_KEPT = 1024

# A candidate as the asker's answers show it, from its id, score and cluster.
Encode = Callable[[str, float, int], bytes]


class ListHead(NamedTuple):
    """The first candidates of a cluster's list, best first: rows, scores, and each encoded, or nothing."""

    rows: list[int]
    scores: list[float]
    encoded: list[bytes]


def read_head(
    bundle: Bundle,
    encode: Encode | None,
    space: str,
    candidate_type: str,
    query: ListQuery,
    cluster: int,
    weight: float,
) -> ListHead:
    """The head of `cluster`'s list; scores are those stored times `weight`, in float32."""
    chosen = bundle.space(space)
    lists = chosen.clusters.lists[candidate_type, query]
    at = cluster - lists.first
    rows = lists.rows[at, :HEAD_LENGTH]
    scores = (np.float32(weight) * lists.scores[at, :HEAD_LENGTH]).tolist()
    if encode is None:
        return ListHead(rows.tolist(), scores, [])
    ids = chosen.entities[candidate_type].ids.externals(rows)
    encoded = [encode(external, score, cluster) for external, score in zip(ids, scores, strict=True)]
    return ListHead(rows.tolist(), scores, encoded)
