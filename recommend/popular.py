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
    for rank, row in enumerate(_eligible(relation, exclusions)):
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


def _eligible(relation: Relation, exclusions: Exclusions) -> Iterator[int]:
    """Every eligible row: the stored list first, then whoever is not on it."""
    yield from _kept(relation.popular.astype(np.int64), exclusions)
    if len(relation.popular) < len(relation.sources):
        degrees = relation.sources.degrees()
        eligible = np.arange(len(degrees)) if exclusions.eligible is None else rows_of(exclusions.eligible)
        rest = np.setdiff1d(eligible, relation.popular)
        yield from _kept(rest[np.argsort(-degrees[rest], kind="stable")], exclusions)


def _kept(rows: Int64[npt.NDArray[np.int64], " n"], exclusions: Exclusions) -> Iterator[int]:
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from chunk[exclusions.keeps(chunk)].tolist()
