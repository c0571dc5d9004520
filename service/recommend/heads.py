"""The heads of stored candidate lists, read once: a slate seldom needs more of a list than its first few dozen."""

from typing import NamedTuple

import msgspec
import numpy as np

from bundle.space import Bundle
from service.recommend.plan import ListQuery
from service.wire.recommend import Candidate

# Longer than the largest share of a slate of 50, with room for whom the user follows already.
HEAD_LENGTH = 96
# Some 20 kB each; a version has a few hundred clusters.
HEADS_KEPT = 1024

_encode = msgspec.json.Encoder().encode


class Head(NamedTuple):
    """The first candidates of a cluster's list, best first: rows, scores, and each as an answer shows it."""

    rows: list[int]
    scores: list[float]
    shown: list[bytes]


def read_head(bundle: Bundle, space: str, candidate_type: str, query: ListQuery, cluster: int, weight: float) -> Head:
    """The head of `cluster`'s list; scores are those stored times `weight`, in float32."""
    chosen = bundle.space(space)
    lists = chosen.clusters.lists[candidate_type, query]
    rows = lists.rows[cluster, :HEAD_LENGTH]
    scores = (np.float32(weight) * lists.scores[cluster, :HEAD_LENGTH]).tolist()
    ids = chosen.entities[candidate_type].ids.externals(rows)
    shown = [_encode(Candidate(external, score, cluster)) for external, score in zip(ids, scores, strict=True)]
    return Head(rows.tolist(), scores, shown)
