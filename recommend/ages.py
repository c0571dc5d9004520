"""How engagements fade with age in a mixture: as `index/builder/mixtures.py` lets them, so that live ones count alike.

An age is counted back from the same user's newest engagement of the same clock: shares divide by the sum, so they are
those of ages counted back from now. What has no time has no age.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.ids import ABSENT
from bundle.manifest import ClustersEntry
from bundle.space import Relation, Space
from recommend.types import LiveEdges, Rows, in_sorted

# As new as can be: of an engagement without a time, or on a clock that cannot be compared with that of the live ones.
NO_TIME = np.iinfo(np.int64).max
Times = Int64[npt.NDArray[np.int64], " n"]


def times_of(space: Space, relation: Relation, row: int | None, targets: Rows, live: LiveEdges) -> Times:
    """When the user of `row` engaged with each of `targets`, ascending rows, last: on the clock of the relation."""
    if relation.times is None:
        return np.full(len(targets), NO_TIME)
    dates = np.full(len(targets), np.iinfo(np.int64).min)
    if row is not None:
        trained = relation.targets.row(row)
        known = in_sorted(targets, trained)
        start = int(relation.targets.indptr[row])
        dates[known] = relation.times[start : start + len(trained)][np.searchsorted(trained, targets[known])]
    rows, when = live_times(space, relation, live)
    there = in_sorted(rows, targets)
    np.maximum.at(dates, np.searchsorted(targets, rows[there]), when[there])
    return dates


def live_times(space: Space, relation: Relation, live: LiveEdges) -> tuple[Rows, Times]:
    """What was added live, by row, and when, on the clock of the relation."""
    name = relation.entry.name
    rows = live.row_of_each("added", name, space.entities[relation.entry.target].ids)
    when = ticks(space.entry.clusters, name, live.times_of(name))
    return rows[rows != ABSENT], when[rows != ABSENT]


def ticks(counting: ClustersEntry, relation: str, seconds: tuple[float, ...]) -> Times:
    """Seconds since 1970 on the clock of a relation, inf as NO_TIME."""
    clock = counting.clocks.get(relation)
    if clock is None or clock.per_second is None:
        return np.full(len(seconds), NO_TIME)
    exact = np.array(seconds, dtype=np.float64) * clock.per_second
    dated = np.isfinite(exact)
    return np.where(dated, np.round(np.where(dated, exact, 0.0)).astype(np.int64), NO_TIME)


def fades(
    times: Times,
    clocks: Int32[npt.NDArray[np.int32], " n"],
    counts: Float32[npt.NDArray[np.float32], " n"],
    half_life: float,
) -> Float32[npt.NDArray[np.float32], " n"]:
    """2^(-age / half-life) of each engagement; `counts` says which count at all, from the newest of these on its clock
    the age is counted.
    """
    decay = np.ones(len(times))
    for clock in np.unique(clocks).tolist():
        own = np.flatnonzero((clocks == clock) & (times != NO_TIME) & (counts > 0))
        if len(own):
            ages = times[own].max().astype(np.float64) - times[own].astype(np.float64)
            with np.errstate(under="ignore"):
                decay[own] = np.exp2(-(ages / half_life))
    return decay.astype(np.float32)
