"""How much memory a run takes, and how many partitions keep it below a limit."""

from dataclasses import dataclass

import numpy as np
import psutil

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from training.bucket_files import training_edges
from training.config import TrainConfig
from training.partition import MAX_PARTITIONS

MIB = 2**20
WORK_BYTES = 24 * MIB
"""Blocks of edges being dealt, of vectors being written, and what the heap cannot give back."""
ROW_MAP_BYTES = 6
"""Where a row lies: its partition and its place in it."""
EDGE_BYTES = 28
"""An edge while its bucket is in memory: five columns, a weight, and its place in the order."""
SORTING_BYTES = 64
"""An edge while its bucket is sorted and indexed."""
OFFSET_BYTES = 8
"""A row of a bucket, for each group of edges: where its neighbours start, from both ends."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sizes in bytes. `process` is what the process holds before training, `fixed` what does not depend on the number
    of partitions; the rest is of the whole graph and is divided by partitions."""

    process: int
    fixed: int
    row_maps: int
    tables: int
    offsets: int
    edges: int
    sorting: int
    rows: int

    def total(self, partitions: int) -> int:
        """Resident bytes of the process at the most: while it trains or while it deals rows and edges anew."""
        several = partitions > 1
        uneven = 1 + 4 / np.sqrt(max(1, self.rows / partitions)) if several else 1.0
        crowded = 1.5 if several else 1.0  # much linked entities make some buckets larger
        training = (
            self.row_maps
            + self.tables * uneven * min(3, partitions) / partitions
            + self.offsets * 2 / partitions
            + self.edges * crowded * min(2, partitions) / partitions**2
        )
        dealing = (
            self.row_maps * min(2, partitions)
            + (self.tables * uneven * 2 / partitions if several else 0)
            + self.offsets * 3 / partitions
            + self.sorting * crowded / partitions**2
        )
        return int(self.process + self.fixed + max(training, dealing))


def resident_bytes() -> int:
    """Resident memory of this process, now."""
    return int(psutil.Process().memory_info().rss)


def footprint(prepared: PreparedGraph, config: TrainConfig, threads: int) -> Footprint:
    """What training this graph with these settings needs; `process` is measured now."""
    rows = sum(entity.count for entity in prepared.entities)
    copies = 2 if config.l2_previous else 1
    negatives = config.negatives_in_batch + config.negatives_uniform + config.negatives_prevalence
    buffers = (2 * config.chunk + 3 * negatives) * (config.chunks_per_update + 1) * config.dim * 4 + negatives * 256
    relations = len(prepared.relations) * 2 * config.dim * 4
    edges = sum(training_edges(relation) for relation in prepared.relations)
    counts = {entity.name: entity.count for entity in prepared.entities}
    groups = {(relation.source, relation.target) for relation in prepared.relations if len(relation.train)}
    return Footprint(
        process=resident_bytes(),
        fixed=threads * (buffers + relations) + 3 * relations + WORK_BYTES,
        row_maps=rows * ROW_MAP_BYTES,
        tables=rows * (config.dim * copies + 1) * 4,
        offsets=sum((counts[source] + counts[target]) * OFFSET_BYTES for source, target in groups),
        edges=edges * EDGE_BYTES,
        sorting=edges * SORTING_BYTES,
        rows=rows,
    )


def choose_partitions(need: Footprint, config: TrainConfig) -> int:
    """P: as configured, else the smallest that stays below `memory`.

    Raises ConfigError when none does, or when the one configured does not.
    """
    if config.memory is None:
        return config.partitions or 1
    candidates = [config.partitions] if config.partitions else [1, *range(4, MAX_PARTITIONS + 1)]
    for partitions in candidates:
        if need.total(partitions) <= config.memory:
            return partitions
    raise ConfigError(_too_little(need, config, candidates, config.memory))


def _too_little(need: Footprint, config: TrainConfig, candidates: list[int], memory: int) -> str:
    least = min(need.total(partitions) for partitions in candidates)
    found = f"memory is {memory / MIB:.0f} MiB, but this graph needs at least {least // MIB + 1} MiB"
    where = f" in {config.partitions} partitions" if config.partitions else ""
    remedy = "Allow more memory" + (", or leave partitions at 0." if config.partitions else ".")
    return f"{found}{where}, of which the process itself holds {need.process // MIB} MiB. {remedy}"
