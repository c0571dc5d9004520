"""Choosing a searcher: of a few that were tried on real queries the cheapest that reaches the target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from index.builder.config import IndexConfig
from index.builder.measure import Measurement
from index.builder.spec import IndexSpec

# Chosen on one half of the queries and judged on the other: what is only just enough on the first is avoided.
MARGIN = 0.003


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table: a spec, what it did, what it takes.

    `bytes_per_vector` is the index file over its rows; an exact search needs the vectors themselves.
    """

    spec: IndexSpec
    measured: Measurement
    bytes_per_vector: float
    build_cpu_seconds: float


def choose(trials: Sequence[Trial], config: IndexConfig) -> Trial:
    """The cheapest trial that reaches the target within the memory limit; failing that, the one that comes nearest.

    "Cheapest" is CPU time, or bytes a vector when the settings prefer memory.
    """
    limit = math.inf if config.memory_limit_bytes_per_vector is None else config.memory_limit_bytes_per_vector
    small = [trial for trial in trials if trial.bytes_per_vector <= limit] or [
        min(trials, key=lambda trial: trial.bytes_per_vector)
    ]
    wanted = min(1.0, config.target_recall + MARGIN)
    good = [trial for trial in small if trial.measured.recall >= wanted]
    if not good:
        return max(small, key=lambda trial: trial.measured.recall)
    if config.prefer == "memory":
        return min(good, key=lambda trial: (trial.bytes_per_vector, trial.measured.cpu_us_per_query))
    return min(good, key=lambda trial: (trial.measured.cpu_us_per_query, trial.bytes_per_vector))


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in recall, CPU time and bytes at once, by rising recall."""
    kept = [trial for trial in trials if not any(_beats(other, trial) for other in trials)]
    return sorted(kept, key=lambda trial: trial.measured.recall)


def _beats(other: Trial, trial: Trial) -> bool:
    ours = (trial.measured.recall, -trial.measured.cpu_us_per_query, -trial.bytes_per_vector)
    theirs = (other.measured.recall, -other.measured.cpu_us_per_query, -other.bytes_per_vector)
    return theirs != ours and all(their >= our for their, our in zip(theirs, ours, strict=True))
