"""The last rung: candidates by falling in-degree, the same for everyone but for what is excluded."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32

from bundle.space import Relation
from service.recommend.exclusions import Exclusions
from service.recommend.types import NO_MODE, Pick

CHUNK = 256


def popular_picks(
    relation: Relation, exclusions: Exclusions, k: int, taken: frozenset[int] = frozenset()
) -> list[Pick]:
    """Up to `k` eligible targets that are not in `taken`; the score is ln(1 + in-degree)."""
    indptr = relation.sources.indptr
    picks: list[Pick] = []
    for rank, row in enumerate(_eligible(relation, exclusions)):
        if len(picks) == k:
            break
        if row not in taken:
            degree = int(indptr[row + 1] - indptr[row])
            picks.append(Pick(row, NO_MODE, rank, float(np.log1p(degree)), "popular"))
    return picks


def _eligible(relation: Relation, exclusions: Exclusions) -> Iterator[int]:
    """Every eligible row: the stored list first, then whoever is not on it."""
    yield from _kept(relation.popular, exclusions)
    if len(relation.popular) < len(relation.sources):
        degrees = relation.sources.degrees()
        rest = np.setdiff1d(np.arange(len(degrees), dtype=np.int32), relation.popular)
        yield from _kept(rest[np.argsort(-degrees[rest], kind="stable")], exclusions)


def _kept(rows: Int32[npt.NDArray[np.int32], " n"], exclusions: Exclusions) -> Iterator[int]:
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from chunk[exclusions.keeps(chunk)].tolist()
