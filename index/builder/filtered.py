"""What a searcher finds among eligible rows, and how much deeper than in proportion it must look for that.

Filters that keep a half down to a thousandth of the rows: rows drawn by chance, as an attribute that has nothing to do
with what users like, and those nearest to some row, as an attribute that says just that.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.manifest import Gate
from index.builder.devices import one_thread
from index.builder.measure import SURE, Truth, exactly_scored, longest_of, recall_of
from index.builder.queries import RealQueries
from index.builder.room import blocks
from index.builder.sample import sample_among, sample_rows
from index.search.eligible import Bitmap, count_of, pack
from index.search.exact import ExactSearcher
from index.search.protocol import Searcher

Vectors = Float32[npt.NDArray[np.float32], "_ width"]

SHARES = (0.5, 0.1, 0.01, 0.001)
# Recall of exact search among the eligible that every version must reach under every one of the filters.
FLOOR = 0.95
# So many times as deep as in proportion, the least that does; the last is so deep that all eligible rows are scanned.
FILTER_DEPTHS = (1.0, 2.0, 4.0, 1e9)
QUERIES = 64
# Rows by which it is known how near the nearest share of all is.
SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class FilteredSearch:
    """By the share of rows that a filter keeps: recall under the worse of both filters, CPU microseconds of a query.

    `at_least` is what the lowest recall surely reaches on all queries.
    """

    filter_depth: float
    recall: Mapping[float, float]
    at_least: float
    cpu_us: Mapping[float, float]

    def gate(self, metric: str) -> Gate:
        """The floor that the worst of them must reach."""
        return Gate(metric=f"{metric}, filtered", floor=FLOOR, measured=min(self.recall.values()))


def measure_filtered(
    open_searcher: Callable[[float], Searcher],
    vectors: Vectors,
    queries: RealQueries,
    k: int,
    rng: np.random.Generator,
    candidates: Bitmap | None = None,
) -> FilteredSearch:
    """Ask the searcher that `open_searcher` opens, with the least `filter_depth` that surely reaches the floor.

    The filters keep shares of `candidates`, where not all rows are.
    """
    queries, longest = queries.first(QUERIES), longest_of(vectors)
    filters = [
        (share, eligible, _truth(vectors, longest, eligible, queries, k))
        for share, eligible in _filters(vectors, rng, candidates)
    ]
    found = _measured(open_searcher, FILTER_DEPTHS[0], filters, vectors)
    for filter_depth in FILTER_DEPTHS[1:]:
        if found.at_least >= FLOOR:
            break
        found = _measured(open_searcher, filter_depth, filters, vectors)
    return found


def _filters(vectors: Vectors, rng: np.random.Generator, candidates: Bitmap | None) -> Iterator[tuple[float, Bitmap]]:
    some = sample_rows(len(vectors), SAMPLE, rng) if candidates is None else sample_among(candidates, SAMPLE, rng)
    middle = vectors[some[rng.integers(len(some))]]
    near = np.sort(vectors[some] @ middle)
    for share in SHARES:
        least = float(near[-max(1, round(share * len(some)))])
        yield share, _kept(vectors, candidates, lambda block: rng.random(len(block)), 1 - share)
        yield share, _kept(vectors, candidates, lambda block: block @ middle, least)


def _kept(
    vectors: Vectors, candidates: Bitmap | None, score: Callable[[Vectors], npt.NDArray[np.floating]], least: float
) -> Bitmap:
    """The candidates whose score is at least `least`; where there are none, the first candidate."""
    parts = []
    for block in blocks(*vectors.shape):
        part, first = pack(np.asarray(score(vectors[block]) >= least)), block.start // 8
        parts.append(part if candidates is None else part & candidates[first : first + len(part)])
    bitmap = np.concatenate(parts)
    if not count_of(bitmap):
        byte = 0 if candidates is None else int(np.argmax(candidates > 0))
        bits = 1 if candidates is None else int(candidates[byte])
        bitmap[byte] = bits & -bits  # the lowest of them
    return bitmap


def _truth(vectors: Vectors, longest: float, eligible: Bitmap, queries: RealQueries, k: int) -> Truth:
    hits = ExactSearcher(vectors).search(queries.queries, k, eligible=eligible)
    return Truth(queries, len(hits[0].rows), np.array([hit.scores[-1] for hit in hits], dtype=np.float32), longest)


def _measured(
    open_searcher: Callable[[float], Searcher],
    filter_depth: float,
    filters: list[tuple[float, Bitmap, Truth]],
    vectors: Vectors,
) -> FilteredSearch:
    searcher = open_searcher(filter_depth)
    recall, cpu_us, at_least = dict.fromkeys(SHARES, 1.0), dict.fromkeys(SHARES, 0.0), 1.0
    for share, eligible, truth in filters:
        asked = truth.queries.queries
        with one_thread():
            searcher.search(asked[:4], truth.k, eligible=eligible)
            started = time.thread_time()
            hits = [searcher.search(asked[i : i + 1], truth.k, eligible=eligible)[0] for i in range(len(truth.queries))]
            spent = time.thread_time() - started
        recalls = recall_of(exactly_scored(hits, asked, vectors), truth)
        recall[share] = min(recall[share], float(recalls.mean()))
        at_least = min(at_least, float(recalls.mean() - SURE * recalls.std() / math.sqrt(len(recalls))))
        cpu_us[share] = max(cpu_us[share], 1e6 * spent / len(asked))
    return FilteredSearch(filter_depth, recall, at_least, cpu_us)
