"""Choosing a searcher: of a few that were tried on real queries the cheapest that surely reaches the target."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from index.builder.config import IndexConfig
from index.builder.measure import Measurement
from index.builder.spec import IndexSpec


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table: a spec, what it did, what it takes.

    `bytes_per_vector` is the index file over its rows; an exact search needs the vectors themselves.
    """

    spec: IndexSpec
    measurement: Measurement
    bytes_per_vector: float
    build_cpu_seconds: float


def choose(trials: Sequence[Trial], config: IndexConfig) -> Trial:
    """The cheapest trial whose recall surely reaches the target, within the memory limit; failing that, the one that
    comes nearest.

    "Cheapest" is CPU time, or bytes a vector when the settings prefer memory. "Surely": many trials are compared on one
    sample of queries, and the cheapest of those that reach the target there owes it to luck more often than not, so the
    lower bound of its recall must reach it.
    """
    small = _small(trials, config)
    good = [trial for trial in small if trial.measurement.at_least >= config.target_recall]
    return min(good, key=_cost(config)) if good else max(small, key=lambda trial: trial.measurement.recall)


def undecided(trials: Sequence[Trial], config: IndexConfig) -> list[Trial]:
    """The trials that would be chosen if more queries showed them to reach the target, the cheapest first."""
    chosen, cost = choose(trials, config), _cost(config)
    sure = chosen.measurement.at_least >= config.target_recall
    doubtful = [
        trial
        for trial in _small(trials, config)
        if trial.measurement.at_least < config.target_recall <= trial.measurement.at_most
        and (not sure or cost(trial) < cost(chosen))
    ]
    return sorted(doubtful, key=cost)


def deeper(trials: Sequence[Trial], missed: Trial) -> list[Trial]:
    """The trials that found no less than the one that missed its floor when it was judged."""
    return [trial for trial in trials if trial is not missed and trial.measurement.recall >= missed.measurement.recall]


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in recall, CPU time and bytes at once, by rising recall."""
    kept = [trial for trial in trials if not any(_beats(other, trial) for other in trials)]
    return sorted(kept, key=lambda trial: trial.measurement.recall)


def _small(trials: Sequence[Trial], config: IndexConfig) -> list[Trial]:
    """The trials within the memory limit; the smallest of all where none is."""
    limit = math.inf if config.memory_limit_bytes_per_vector is None else config.memory_limit_bytes_per_vector
    return [trial for trial in trials if trial.bytes_per_vector <= limit] or [
        min(trials, key=lambda trial: trial.bytes_per_vector)
    ]


def _cost(config: IndexConfig) -> Callable[[Trial], tuple[float, float]]:
    """What a trial costs, first what the settings would rather spare."""
    if config.prefer == "memory":
        return lambda trial: (trial.bytes_per_vector, trial.measurement.cpu_us_per_query)
    return lambda trial: (trial.measurement.cpu_us_per_query, trial.bytes_per_vector)


def _beats(other: Trial, trial: Trial) -> bool:
    ours = (trial.measurement.recall, -trial.measurement.cpu_us_per_query, -trial.bytes_per_vector)
    theirs = (other.measurement.recall, -other.measurement.cpu_us_per_query, -other.bytes_per_vector)
    return theirs != ours and all(their >= our for their, our in zip(theirs, ours, strict=True))
