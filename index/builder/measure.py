"""What a searcher does on given queries: recall against exact search and how sure it is, CPU time a query."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from index.builder.devices import one_thread
from index.builder.queries import RealQueries
from index.builder.room import blocks
from index.search.among import AmongSearcher
from index.search.eligible import Bitmap, count_of
from index.search.exact import ExactSearcher
from index.search.native import ScanSearcher
from index.search.protocol import Hits, Searcher
from index.search.ranking import exact_scores

Rows = Float32[npt.NDArray[np.float32], "_ width"]

# Two scores are equal when they differ by no more than the rounding of a sum of d products.
TOLERANCE = 1e-5
# The judge misses nothing, so a few queries are enough to time it.
EXACT_QUERIES = 32
# Standard errors between a mean and its bounds: one time in fifty the truth lies below the lower one.
SURE = 2.0


@dataclass(frozen=True, slots=True)
class Truth:
    """Queries with the exact score of their k-th best row: what an approximate answer is held against.

    `longest` is the length of the longest row: no score is above a query's length times that.
    """

    queries: RealQueries
    k: int
    worst_scores: Float32[npt.NDArray[np.float32], " q"]
    longest: float

    def first(self, n: int) -> "Truth":
        """The first `n` queries alone."""
        return Truth(self.queries.first(n), self.k, self.worst_scores[:n], self.longest)

    def joined(self, other: "Truth") -> "Truth":
        """These queries and those of `other`, which was found for the same k."""
        worst = np.concatenate([self.worst_scores, other.worst_scores])
        return Truth(self.queries.joined(other.queries), self.k, worst, self.longest)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Mean recall@k over all queries, its standard error, and the mean by kind of query; CPU microseconds of one query
    asked alone, on one thread."""

    recall: float
    standard_error: float
    recall_by_kind: Mapping[str, float]
    cpu_us_per_query: float

    @property
    def at_least(self) -> float:
        """What recall on all queries surely reaches: the lower bound of a one-sided interval of 98%."""
        return self.recall - SURE * self.standard_error

    @property
    def at_most(self) -> float:
        """What recall on all queries may reach: the upper bound of the same interval on the other side."""
        return self.recall + SURE * self.standard_error


def find_truth(
    vectors: Float32[npt.NDArray[np.float32], "n width"],
    queries: RealQueries,
    k: int,
    candidates: Bitmap | None = None,
) -> Truth:
    """Answer `queries` exactly, among `candidates` where not all rows are; k is at most the number of these."""
    k = min(k, len(vectors) if candidates is None else count_of(candidates))
    hits = ExactSearcher(vectors).search(queries.queries, k, eligible=candidates)
    return Truth(queries, k, np.array([hit.scores[-1] for hit in hits], dtype=np.float32), longest_of(vectors))


def longest_of(vectors: Float32[npt.NDArray[np.float32], "n width"]) -> float:
    """The length of the longest row."""
    parts = (vectors[block] for block in blocks(*vectors.shape))
    return max((float(np.linalg.norm(part, axis=1).max()) for part in parts), default=0.0)


def recall_of(hits: Sequence[Hits], truth: Truth) -> npt.NDArray[np.float64]:
    """Recall@k of every answer: the share of its k that score at least the exact k-th score.

    By scores and not by rows, so that any of several equal rows counts.
    """
    # Of short vectors all scores are small, and what is nothing beside 1 would be all of them.
    most = np.minimum(1.0, truth.longest * np.linalg.norm(truth.queries.queries.astype(np.float64), axis=1))
    floors = truth.worst_scores - TOLERANCE * np.maximum(most, np.abs(truth.worst_scores))
    good = [np.count_nonzero(hit.scores >= floor) for hit, floor in zip(hits, floors, strict=True)]
    return np.minimum(np.array(good), truth.k) / truth.k


def exactly_scored(hits: Sequence[Hits], queries: Rows, vectors: Rows) -> list[Hits]:
    """The same rows, in the same order, with their exact scores: those of a searcher over compact rows are not."""
    return [Hits(hit.rows, exact_scores(vectors, query, hit.rows)) for hit, query in zip(hits, queries, strict=True)]


def measure(searcher: Searcher, truth: Truth, depth: int | None = None, *, exact: Rows | None = None) -> Measurement:
    """Ask one query at a time on one thread, as a service does. `exact`: the vectors, where it scores compact rows."""
    if isinstance(searcher.inner if isinstance(searcher, AmongSearcher) else searcher, ExactSearcher | ScanSearcher):
        truth = truth.first(EXACT_QUERIES)
    queries = truth.queries.queries
    with one_thread():
        searcher.search(queries[:8], truth.k, depth=depth)  # maps pages and fills caches
        started = time.thread_time()
        hits = [searcher.search(queries[i : i + 1], truth.k, depth=depth)[0] for i in range(len(queries))]
        spent = time.thread_time() - started
    if exact is not None:
        hits = exactly_scored(hits, queries, exact)
    recalls = recall_of(hits, truth)
    by_kind = {
        kind: float(recalls[truth.queries.kind_of == position].mean())
        for position, kind in enumerate(truth.queries.kinds)
        if (truth.queries.kind_of == position).any()
    }
    standard_error = float(recalls.std()) / math.sqrt(len(recalls))
    return Measurement(float(recalls.mean()), standard_error, by_kind, 1e6 * spent / len(queries))
