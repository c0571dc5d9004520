"""What a searcher does on given queries: recall against exact search, CPU time a query."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from index.builder.devices import one_thread
from index.builder.queries import RealQueries
from index.search.exact import ExactSearcher
from index.search.protocol import Hits, Searcher

# Two scores are equal when they differ by no more than the rounding of a sum of d products.
TOLERANCE = 1e-5
# The judge misses nothing, so a few queries are enough to time it.
EXACT_QUERIES = 32


@dataclass(frozen=True, slots=True)
class Truth:
    """Queries with the exact score of their k-th best row: what an approximate answer is held against."""

    queries: RealQueries
    k: int
    worst_scores: Float32[npt.NDArray[np.float32], " q"]

    def first(self, n: int) -> "Truth":
        """The first `n` queries alone."""
        return Truth(self.queries.first(n), self.k, self.worst_scores[:n])


@dataclass(frozen=True, slots=True)
class Measurement:
    """Mean recall@k over all queries and by their kind; CPU microseconds of one query asked alone, on one thread."""

    recall: float
    recall_by_kind: Mapping[str, float]
    cpu_us_per_query: float


def find_truth(vectors: Float32[npt.NDArray[np.float32], "n width"], queries: RealQueries, k: int) -> Truth:
    """Answer `queries` exactly; k is at most the number of rows."""
    k = min(k, len(vectors))
    hits = ExactSearcher(vectors).search(queries.queries, k)
    return Truth(queries, k, np.array([hit.scores[-1] for hit in hits], dtype=np.float32))


def recall_of(hits: Sequence[Hits], truth: Truth) -> npt.NDArray[np.float64]:
    """Recall@k of every answer: the share of its k that score at least the exact k-th score.

    By scores and not by rows, so that any of several equal rows counts.
    """
    floors = truth.worst_scores - TOLERANCE * np.maximum(1.0, np.abs(truth.worst_scores))
    good = [np.count_nonzero(hit.scores >= floor) for hit, floor in zip(hits, floors, strict=True)]
    return np.minimum(np.array(good), truth.k) / truth.k


def measure(searcher: Searcher, truth: Truth, depth: int | None = None) -> Measurement:
    """Ask one query at a time on one thread, as a service does."""
    if isinstance(searcher, ExactSearcher):
        truth = truth.first(EXACT_QUERIES)
    queries = truth.queries.queries
    with one_thread():
        searcher.search(queries[:8], truth.k, depth=depth)  # maps pages and fills caches
        started = time.thread_time()
        hits = [searcher.search(queries[i : i + 1], truth.k, depth=depth)[0] for i in range(len(queries))]
        spent = time.thread_time() - started
    recalls = recall_of(hits, truth)
    by_kind = {
        kind: float(recalls[truth.queries.kind_of == position].mean())
        for position, kind in enumerate(truth.queries.kinds)
        if (truth.queries.kind_of == position).any()
    }
    return Measurement(float(recalls.mean()), by_kind, 1e6 * spent / len(queries))
