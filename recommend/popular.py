"""The last rung: candidates by falling in-degree, the same for everyone but for what is excluded."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.space import Relation
from index.search.eligible import rows_of
from recommend.types import NO_MODE, NO_PICKS, POPULAR, Exclusions, Picks

# Candidates that are compared with the exclusions at a time: a slate seldom needs more.
CHUNK = 256


def popular_picks(relation: Relation, exclusions: Exclusions, k: int, taken: frozenset[int] = frozenset()) -> Picks:
    """Up to `k` eligible targets that are not in `taken`; the score is ln(1 + in-degree)."""
    ranked: list[tuple[int, int]] = []
    for rank, row in enumerate(_eligible(relation, exclusions, k + len(taken))):
        if len(ranked) == k:
            break
        if row not in taken:
            ranked.append((rank, row))
    if not ranked:
        return NO_PICKS
    ranks, rows = zip(*ranked, strict=True)
    indptr = relation.sources.indptr
    scores = tuple(math.log1p(indptr[row + 1] - indptr[row]) for row in rows)
    return Picks(rows, scores, (NO_MODE,) * len(rows), ranks, (POPULAR,) * len(rows))


def _eligible(relation: Relation, exclusions: Exclusions, wanted: int) -> Iterator[int]:
    """Eligible rows, `wanted` of them where there are as many: the stored list first, then whoever is not on it."""
    yield from _kept(relation.popular.astype(np.int64), exclusions)
    n = len(relation.sources)
    if len(relation.popular) < n:
        left = np.zeros(n, dtype=np.bool_)
        left[slice(None) if exclusions.eligible is None else rows_of(exclusions.eligible)] = True
        left[relation.popular] = False
        best = _most_popular(np.flatnonzero(left), relation.sources.degrees(), wanted + exclusions.count())
        yield from _kept(best, exclusions)


def _most_popular(
    rows: Int64[npt.NDArray[np.int64], " n"], degrees: Int64[npt.NDArray[np.int64], " all"], most: int
) -> Int64[npt.NDArray[np.int64], " best"]:
    """The `most` rows of the highest degree, highest first, of equal ones the first. Only they are sorted."""
    their = degrees[rows]
    if 0 < most < len(rows):
        least = np.partition(their, len(rows) - most)[len(rows) - most]
        above = np.flatnonzero(their > least)
        equal = np.flatnonzero(their == least)[: most - len(above)]
        rows = rows[np.sort(np.concatenate([above, equal]))]
        their = degrees[rows]
    return rows[np.argsort(-their, kind="stable")]


def _kept(rows: Int64[npt.NDArray[np.int64], " n"], exclusions: Exclusions) -> Iterator[int]:
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from chunk[exclusions.keeps(chunk)].tolist()
