"""Choosing a searcher: sweep a few configurations on real queries, keep the cheapest that reaches the target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from index.builder.config import IndexConfig
from index.builder.indexes import Plan
from index.builder.measure import Measured

Number = TypeVar("Number", int, float)

# Below this many rows a matrix product is as fast as any index and misses nothing.
SMALL_TYPE = 4096
# Chosen on one half of the queries and judged on the other: what is only just enough on the first is avoided.
MARGIN = 0.003
HNSW_DEPTHS = (75, 100, 150, 250, 400)
# Of the lists, one in so many is looked into.
IVF_SHARES = (64, 32, 16, 8, 4, 2)
IVF_PQ_REFINES = (1.5, 2.0, 3.0)
PQ_DEPTHS = (150, 250, 500, 1000)
# Rows that share an inverted list: 4-bit codes are scanned so fast that longer lists, which miss less, pay.
ROWS_A_LIST = {"ivf_sq8": 128, "ivf_pq": 512}


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table: a configuration, what it did, what it takes.

    `bytes_per_vector` is the index file over its rows; an exact search needs the vectors themselves.
    """

    plan: Plan
    measured: Measured
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


def plans_for(n: int, config: IndexConfig, *, with_hnsw: bool, cagra: bool = False) -> list[Plan]:
    """The configurations to try on `n` rows: all that the settings leave open.

    A graph takes longer to build than everything else together, so the caller says whether it may pay, and
    whether a GPU builds it.
    """
    if config.kind == "auto" and n <= SMALL_TYPE:
        return [_exact()]
    swept = ("exact", "pq", "ivf_pq", "ivf_sq8", *(("hnsw",) if with_hnsw else ()))
    kinds = swept if config.kind == "auto" else (config.kind,)
    plans = [plan for kind in kinds for plan in _PLANS[kind](n, config)]
    return [replace(plan, cagra=cagra and plan.kind == "hnsw") for plan in plans]


def _exact() -> Plan:
    return Plan("exact", depth=1)


def _exact_plans(_: int, __: IndexConfig) -> list[Plan]:
    return [_exact()]


def _hnsw_plans(_: int, config: IndexConfig) -> list[Plan]:
    return [
        Plan(
            "hnsw",
            depth=depth,
            popularity_scale=config.popularity_scale,
            links=config.hnsw_links or 16,
            build_depth=config.hnsw_build_depth or 120,
        )
        for depth in _fixed_or(config.depth, HNSW_DEPTHS)
    ]


def _probes(lists: int, config: IndexConfig) -> list[int]:
    """The numbers of lists to look into; never more than there are."""
    swept = [max(1, lists // share) for share in IVF_SHARES]
    return sorted({min(probes, lists) for probes in _fixed_or(config.depth, swept)})


def _ivf_sq8_plans(n: int, config: IndexConfig) -> list[Plan]:
    lists = _lists("ivf_sq8", n, config)
    return [
        Plan(
            "ivf_sq8",
            depth=probes,
            refine=config.refine or 1.2,
            popularity_scale=config.popularity_scale,
            lists=lists,
        )
        for probes in _probes(lists, config)
    ]


def _ivf_pq_plans(n: int, config: IndexConfig) -> list[Plan]:
    lists = _lists("ivf_pq", n, config)
    return [
        Plan(
            "ivf_pq",
            depth=probes,
            refine=refine,
            popularity_scale=config.popularity_scale,
            lists=lists,
            subquantizers=config.pq_subquantizers or 0,
        )
        for refine in _fixed_or(config.refine, IVF_PQ_REFINES)
        for probes in _probes(lists, config)
    ]


def _pq_plans(_: int, config: IndexConfig) -> list[Plan]:
    return [
        Plan(
            "pq",
            depth=depth,
            refine=config.refine or 1.0,
            popularity_scale=config.popularity_scale,
            subquantizers=config.pq_subquantizers or 0,
        )
        for depth in _fixed_or(config.depth, PQ_DEPTHS)
    ]


_PLANS = {
    "exact": _exact_plans,
    "hnsw": _hnsw_plans,
    "ivf_sq8": _ivf_sq8_plans,
    "ivf_pq": _ivf_pq_plans,
    "pq": _pq_plans,
}


def _lists(kind: str, n: int, config: IndexConfig) -> int:
    """Inverted lists for `n` rows: a power of two, at least 16 and with at least 39 rows to learn each from."""
    wanted = 1 << max(4, round(math.log2(n / ROWS_A_LIST[kind]))) if n else 1
    return min(n, config.ivf_lists or max(1, min(wanted, n // 39, 1 << 15)))


def _fixed_or(fixed: Number | None, swept: Sequence[Number]) -> Sequence[Number]:
    return swept if fixed is None else (fixed,)
