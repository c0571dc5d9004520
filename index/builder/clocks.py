"""Units of time, which no column names: which relations share a clock, and what a half-life means on it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.prepared import PreparedGraph, PreparedRelation
from index.builder.config import MixtureConfig

Times = Int64[npt.NDArray[np.int64], " _"]

# Units that people write are at least 24 apart, days and hours; times of one unit are not: since 1970 all are large.
UNIT_RATIO = 10.0
# A half-life so many times shorter than the span of the times, or longer, is hardly meant.
SPAN_RATIO = 1000.0
SAMPLE = 100_000
# Unix times of 1980 and 2100: a thousand apart, no two units overlap.
EARLIEST, LATEST = 3.2e8, 4.1e9


def may_need_times(relation: PreparedRelation, graph: PreparedGraph, mixtures: MixtureConfig) -> bool:
    """Whether a version may count the relation's edges by age: in mixtures, or for another between the same types."""
    ends = relation.source, relation.target
    alike = sum((one.source, one.target) == ends for one in graph.relations)
    return relation.train.time is not None and (mixtures.half_life is not None or alike > 1)


def clocks(times: Sequence[Times | None]) -> list[int]:
    """A number for each relation, the same for those whose times are of one magnitude; 0 for those without times.

    Seconds beside milliseconds, or days beside either, are different clocks: an age across them means nothing.
    """
    numbers: list[int] = []
    middles: list[float] = []
    for middle in map(_middle, times):
        alike = [number for number, other in enumerate(middles, 1) if middle is not None and _one_unit(middle, other)]
        if middle is None:
            numbers.append(0)
        elif alike:
            numbers.append(alike[0])
        else:
            middles.append(middle)
            numbers.append(len(middles))
    return numbers


def per_second(times: Times | None) -> float | None:
    """How many of the unit of `times` a second has, if they can be told to be Unix times of a known unit; else None.

    Of other numbers (days, ordinals) nobody can say which of them is now.
    """
    middle = _middle(times)
    for unit in (1.0, 1e3, 1e6, 1e9):
        if middle is not None and EARLIEST * unit < middle < LATEST * unit:
            return unit
    return None


def time_warnings(times: Mapping[str, Times | None], half_life: float) -> Iterator[str]:
    """What is odd about a half-life and the times of relations, by name; in sentences for a person."""
    middles = {name: middle for name, column in times.items() if (middle := _middle(column)) is not None}
    numbers = dict(zip(times, clocks(list(times.values())), strict=True))
    if len({numbers[name] for name in middles}) > 1:
        told = ", ".join(f"{name} about {middle:.3g}" for name, middle in middles.items())
        yield (
            f"The times of these relations differ as if in other units: {told}. Ages are counted in each apart, and "
            "mixtures.half_life is taken in the unit of each. Write all times in one unit."
        )
    undated = [name for name in middles if per_second(times[name]) is None]
    if undated:
        yield (
            f"The times of {', '.join(undated)} are no Unix times in seconds, milli-, micro- or nanoseconds, so what a "
            "user does live counts there as new as the newest edge, whenever it was."
        )
    for name, middle in middles.items():
        column = times[name]
        if column is None:
            continue
        low, high = np.quantile(_sampled(column), (0.1, 0.9))
        if high - low > SPAN_RATIO * half_life:
            yield (
                f"mixtures.half_life is {half_life:g}, and the times of {name} span {high - low:.3g}: of most users "
                "the newest engagement alone counts. It is in the unit of the time column."
            )
        elif half_life > SPAN_RATIO * max(high - low, 1.0):
            yield f"mixtures.half_life is {half_life:g}, and the times of {name} span {high - low:.3g}: no age shows."
        newest = float(column.max())
        if not _one_unit(middle, newest):
            yield (
                f"The newest time of {name} is {newest:.4g}, the middle one {middle:.4g}: a stray one, or one in "
                "another unit. Of its user nothing older counts."
            )


def _middle(times: Times | None) -> float | None:
    return None if times is None or len(times) == 0 else float(np.median(_sampled(times)))


def _sampled(times: Times) -> Times:
    return times[:: max(1, len(times) // SAMPLE)]


def _one_unit(time: float, other: float) -> bool:
    low, high = sorted((abs(time), abs(other)))
    return high < UNIT_RATIO * max(low, 1.0) and (time < 0) == (other < 0)
