"""How much memory a run takes, and how many partitions keep it below a limit."""

from dataclasses import dataclass

import psutil

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from training.config import TrainConfig
from training.layout import training_edges
from training.partition import MAX_PARTITIONS

ROW_MAP_BYTES = 6
EDGE_BYTES = 20
ORDER_BYTES = 4
WEIGHT_BYTES = 4
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sizes in bytes that do not depend on the number of partitions, and those that partitions divide."""

    process: int
    fixed: int
    tables: int
    edges: int

    def total(self, partitions: int) -> int:
        """Resident bytes at the most: two partitions that train and one on its way, two buckets of edges."""
        held = min(3, partitions) / partitions
        buckets = min(2, partitions**2) / partitions**2
        return int(self.process + self.fixed + self.tables * held + self.edges * buckets)


def footprint(prepared: PreparedGraph, config: TrainConfig, threads: int) -> Footprint:
    """What training this graph with these settings needs; `process` is measured now."""
    rows = sum(entity.count for entity in prepared.entities)
    copies = 2 if config.l2_previous else 1
    negatives = config.negatives_in_batch + config.negatives_uniform + config.negatives_prevalence
    buffers = (2 * config.chunk + 3 * negatives) * (config.chunks_per_update + 1) * config.dim * 4 + negatives * 256
    relations = len(prepared.relations) * 2 * config.dim * 4
    edges = sum(training_edges(relation) for relation in prepared.relations)
    return Footprint(
        process=psutil.Process().memory_info().rss,
        fixed=rows * ROW_MAP_BYTES + threads * (buffers + relations) + 3 * relations + 16 * MIB,
        tables=rows * (config.dim * copies + 1) * 4,
        edges=edges * (EDGE_BYTES + ORDER_BYTES + WEIGHT_BYTES) + 16 * rows,
    )


def choose_partitions(need: Footprint, config: TrainConfig) -> int:
    """P: as configured, else the smallest that stays below `memory`. Raises ConfigError when none does."""
    if config.partitions:
        return config.partitions
    if config.memory is None or need.total(1) <= config.memory:
        return 1
    for partitions in range(4, MAX_PARTITIONS + 1):
        if need.total(partitions) <= config.memory:
            return partitions
    least = need.total(MAX_PARTITIONS) // MIB + 1
    raise ConfigError(
        f"memory is {config.memory // MIB} MiB, but this graph needs at least {least} MiB, of which the process itself "
        f"holds {need.process // MIB} MiB. Allow more memory."
    )
