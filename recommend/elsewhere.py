"""What a user has by other relations between the same types, and how much each of it speaks for a candidate.

An edge of another relation counts for the share of that relation's edges that are edges of the one asked for too, less
what chance would make (`RelationEntry.elsewhere`): who viewed it may buy it. Where the version has times, the same
shares are counted a second time, each over its place from the newest on: what was viewed last is bought rather than
what was viewed long ago.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, Integer

from bundle.csr import Csr
from bundle.manifest import QueryWeights
from bundle.shards import ranges
from bundle.space import Relation, Space
from recommend.types import Rows, in_sorted

# Shares end where a thousandth is little, as damped paths and walks do.
FINEST = np.float32(1000.0)
Some = Integer[npt.NDArray[np.integer], " m"]
Terms = Float32[npt.NDArray[np.float32], " m"]


class DatedRows(NamedTuple):
    """Rows of a relation's targets, ascending, and when the user engaged with each on the relation's clock; NO_TIME
    (`recommend/ages.py`) for as new as can be, None where the version has no times of the relation."""

    rows: Rows
    times: Int64[npt.NDArray[np.int64], " n"] | None


class DatedLists(NamedTuple):
    """`DatedRows` of several people: row i of `lists` is what person i engaged with, and `times` are in step."""

    lists: Csr
    times: Int64[npt.NDArray[np.int64], " n"] | None = None

    def row(self, i: int) -> DatedRows:
        """Those of one person."""
        some = slice(int(self.lists.indptr[i]), int(self.lists.indptr[i + 1]))
        return DatedRows(self.lists.indices[some].astype(np.int64), None if self.times is None else self.times[some])

    def take(self, people: Int64[npt.NDArray[np.int64], " some"]) -> "DatedLists":
        """Those of some people, in the order given."""
        lists = self.lists.take(people)
        if self.times is None:
            return DatedLists(lists)
        return DatedLists(lists, self.times[ranges(self.lists.indptr[people], lists.degrees())])


class Elsewhere(NamedTuple):
    """Candidates that the user has by other relations: rows, ascending; for each the sum of the shares, and the sum of
    the shares over 1 + r, r the number of engagements by relations of the same clock that are newer."""

    rows: Rows
    shares: Float32[npt.NDArray[np.float32], " n"]
    recencies: Float32[npt.NDArray[np.float32], " n"]

    def shares_of(self, rows: Some) -> Terms:
        """The share of each of `rows`, 0 for what the user does not have."""
        return self._of(rows, self.shares)

    def recencies_of(self, rows: Some) -> Terms:
        """The recency of each of `rows`, 0 for what the user does not have or nobody knows the time of."""
        return self._of(rows, self.recencies)

    def terms_of(self, rows: Some) -> tuple[Terms, Terms]:
        """`ln(1 + 1000 x)` of the share and of the recency of each of `rows`: what `QueryWeights.elsewhere` and
        `QueryWeights.recency` multiply."""
        return np.log1p(FINEST * self.shares_of(rows)), np.log1p(FINEST * self.recencies_of(rows))

    def bonus_of(self, rows: Some, weights: QueryWeights) -> Terms:
        """What is added to the score of each of `rows`: both terms by their weights, and never less than 0."""
        share, recency = self.terms_of(rows)
        bonus: Terms = np.float32(weights.elsewhere) * share + np.float32(weights.recency) * recency
        return np.maximum(bonus, np.float32(0.0))

    def _of(self, rows: Some, values: Float32[npt.NDArray[np.float32], " n"]) -> Terms:
        out = np.zeros(len(rows), dtype=np.float32)
        if not len(self.rows):
            return out
        present = in_sorted(rows, self.rows)
        out[present] = values[np.searchsorted(self.rows, rows[present])]
        return out


_NONE = np.empty(0, dtype=np.float32)
NOTHING_ELSEWHERE = Elsewhere(np.empty(0, dtype=np.int64), _NONE, _NONE)


def elsewhere_of(space: Space, relation: Relation, engaged: Callable[[Relation], DatedRows]) -> Elsewhere:
    """What a user has by the relations that tell of `relation`; `engaged` is what the user has by each of them."""
    telling = [space.relations[name] for name in relation.entry.elsewhere]
    if not telling:
        return NOTHING_ELSEWHERE
    found = [engaged(other) for other in telling]
    each = zip(found, relation.entry.elsewhere.values(), strict=True)
    told = np.concatenate([np.full(len(one.rows), share, np.float32) for one, share in each])
    rows, places = np.unique(np.concatenate([one.rows for one in found]), return_inverse=True)
    shares, recencies = np.zeros(len(rows), dtype=np.float32), np.zeros(len(rows), dtype=np.float32)
    # In the manifest's order, one after another: the engine adds the same numbers in the same order.
    np.add.at(shares, places, told)
    np.add.at(recencies, places, told * _newest_first(space, telling, found))
    return Elsewhere(rows.astype(np.int64), shares, recencies)


def _newest_first(
    space: Space, telling: list[Relation], found: list[DatedRows]
) -> Float32[npt.NDArray[np.float32], " engagements"]:
    """Of each engagement 1 over 1 and the number of newer ones on its clock; 0 without a time."""
    numbers = {name: clock.number for name, clock in space.entry.clusters.clocks.items()}
    clocks = np.concatenate(
        [np.full(len(one.rows), numbers.get(by.entry.name, 0)) for by, one in zip(telling, found, strict=True)]
    )
    dated = np.concatenate([np.full(len(one.rows), one.times is not None) for one in found])
    times = np.concatenate([np.zeros(len(one.rows), np.int64) if one.times is None else one.times for one in found])
    out = np.zeros(len(times), dtype=np.float32)
    for clock in np.unique(clocks[dated]).tolist():
        own = np.flatnonzero(dated & (clocks == clock))
        newer = len(own) - np.searchsorted(np.sort(times[own]), times[own], side="right")
        out[own] = np.float32(1.0) / (1 + newer).astype(np.float32)
    return out
