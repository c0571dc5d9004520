"""How much memory a run takes, on the host and on the device, and how many partitions keep it below the limits."""

from dataclasses import dataclass

import numpy as np
import psutil

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from training.block_order import check_blocks, most_blocks
from training.bucket_order import partitions_for
from training.buckets import put_together, training_edges
from training.config import TrainConfig
from training.dealing import shards_of
from training.partition import check_enough_shards, most_partitions

MIB = 2**20

# Bytes on the host. WORK_BYTES: blocks of edges being dealt to shards, of vectors being written, and what the heap
# cannot give back.
WORK_BYTES = 24 * MIB
# A thread's long lists of true pairs as bits (`Bits` in training/backends/kernel/known.h).
BITS_BYTES = MIB
# Where a row lies, and its optimiser state, while tables are written in the order of rows.
PLACE_BYTES = 12
# Of a graph of format 1, while its edges are dealt: the shard and the place of a row, rows by shard, and sorting them.
DEALING_BYTES = 22
# An edge while its bucket is in memory: five columns, a weight, and its place in the order.
EDGE_BYTES = 28
# An edge while its bucket is sorted and indexed.
SORTING_BYTES = 64
# An edge of the small relations that are put together in memory: places, weight, at the worst a cell of its own.
TOGETHER_BYTES = 24
# A row of a bucket, for each group of edges: where its neighbours start, from both ends.
OFFSET_BYTES = 8

# Bytes on the device. An edge of a bucket: five columns of 4, two sorted keys of 8, and as much again to sort them.
# A pair, of an edge and a negative of its chunk: scores, their slopes and copies, the key that is looked up, its place.
DEVICE_EDGE_BYTES = 64
PAIR_BYTES = 48
# Hashing makes some partitions and buckets larger than others.
UNEVEN = 1.2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sizes in bytes. `process` is what the process holds before training, `fixed` what does not depend on the number
    of partitions, `row_maps` what all rows take before training and after it; the rest is of the whole graph and is
    divided by partitions. `shards` is Q."""

    process: int
    fixed: int
    row_maps: int
    tables: int
    offsets: int
    edges: int
    sorting: int
    rows: int
    shards: int

    def total(self, partitions: int, held: float | None = None) -> int:
        """Resident bytes of the process at the most: while it trains, or before, or after.

        `held`: the share of all tables in memory, where that is not three partitions.
        """
        several = partitions > 1
        # Some partitions have a shard more than others, and some shards are larger.
        uneven = -(-self.shards // partitions) * partitions / self.shards
        uneven *= 1 + 4 / np.sqrt(max(1, self.rows / partitions)) if several else 1.0
        crowded = 1.5 if several else 1.0  # much linked entities make some buckets larger
        training = (
            self.tables * uneven * (min(3, partitions) / partitions if held is None else held)
            + self.offsets * 3 / partitions
            # The next bucket is sorted while this one trains.
            + (self.edges + self.sorting if several else max(self.edges, self.sorting)) * crowded / partitions**2
        )
        return int(self.process + self.fixed + max(training, self.row_maps))


def resident_bytes() -> int:
    """Resident memory of this process, now."""
    return int(psutil.Process().memory_info().rss)


def _n_negatives(config: TrainConfig) -> int:
    """Negatives that each edge is compared with."""
    return config.negatives_in_batch + config.negatives_uniform + config.negatives_prevalence


def _table_bytes(rows: int, config: TrainConfig) -> int:
    """Vectors and optimiser state of `rows` entities, and the vectors that `l2_previous` holds them to."""
    copies = 2 if config.l2_previous else 1
    return rows * (config.dim * copies + 1) * 4


def footprint(prepared: PreparedGraph, config: TrainConfig) -> Footprint:
    """What training this graph with these settings needs; `process` is measured now."""
    rows = sum(entity.count for entity in prepared.entities)
    negatives = _n_negatives(config)
    buffers = (2 * config.chunk + 3 * negatives) * (config.chunks_per_update + 1) * config.dim * 4 + negatives * 256
    relations = len(prepared.relations) * 2 * config.dim * 4
    together = sum(len(prepared.relations[index].train) for index in put_together(prepared))
    largest = max((entity.count for entity in prepared.entities), default=0)
    edges = sum(training_edges(relation) for relation in prepared.relations)
    counts = {entity.name: entity.count for entity in prepared.entities}
    groups = {(relation.source, relation.target) for relation in prepared.relations if len(relation.train)}
    return Footprint(
        process=resident_bytes(),
        fixed=config.thread_count * (buffers + relations + BITS_BYTES)
        + 3 * relations
        + WORK_BYTES
        + together * TOGETHER_BYTES,
        row_maps=largest * PLACE_BYTES if prepared.sharded else rows * DEALING_BYTES,
        tables=_table_bytes(rows, config),
        offsets=sum((counts[source] + counts[target]) * OFFSET_BYTES for source, target in groups),
        edges=edges * EDGE_BYTES,
        sorting=edges * SORTING_BYTES,
        rows=rows,
        shards=shards_of(prepared),
    )


def fewest_partitions(need: Footprint, config: TrainConfig) -> int:
    """P: as configured, else the smallest that stays below `memory`.

    Raises ConfigError when none does, or when the one configured does not.
    """
    if config.memory is None:
        return config.partitions or 1
    candidates = [config.partitions] if config.partitions else [1, *range(4, most_partitions(need.shards) + 1)]
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


def device_need(prepared: PreparedGraph, config: TrainConfig, partitions: int, travelling: int = 0) -> int:
    """Bytes on the device at the most: two partitions that train, one on its way from or to the host and so many to and
    from other trainers, one bucket, one update."""
    rows = sum(entity.count for entity in prepared.entities)
    edges = sum(training_edges(relation) for relation in prepared.relations)
    negatives = _n_negatives(config)
    gradients = 4 * (2 * config.chunk + negatives) * config.dim * 4
    update = config.chunks_per_update * (2 * gradients + config.chunk * negatives * PAIR_BYTES)
    uneven = UNEVEN if partitions > 1 else 1.0
    held = _table_bytes(rows, config) * min(3 + travelling, partitions) / partitions
    return int(uneven * (held + edges * DEVICE_EDGE_BYTES / partitions**2) + update)


def choose_partitions(prepared: PreparedGraph, config: TrainConfig, room: int | None) -> int:
    """P: as configured, else the smallest for which both the host's `memory` and the device's `room` (bytes) suffice.

    `config` is one trainer's share; of several trainers none is left idle. Raises ConfigError when no P fits, or when
    the one configured does not.
    """
    shards = shards_of(prepared)
    check_enough_shards(config.partitions, shards)
    least = fewest_partitions(footprint(prepared, config), config)
    candidates = [config.partitions] if config.partitions else _candidates(least, config.devices, shards)
    for partitions in candidates:
        if room is None or device_need(prepared, config, partitions) <= room:
            return partitions
    smallest = min(device_need(prepared, config, partitions) for partitions in candidates)
    raise ConfigError(
        f"{config.device} has {(room or 0) // MIB} MiB free, but training needs at least {smallest // MIB + 1} MiB "
        "there. Leave partitions at 0, lower chunks_per_update or dim, or free memory on the device."
    )


def choose_blocks(
    prepared: PreparedGraph, config: TrainConfig, room: int | None, trainers: int, devices: int = 1
) -> int:
    """P for `trainers`, `devices` of them on each machine: as configured, else the smallest that suffices, two
    partitions a block at least where there are shards enough, so that one can travel while another trains.

    `config` and `room` are one trainer's. It holds two blocks, of two for each trainer, and up to `most_blocks` for a
    while. Raises ConfigError where there are too few shards or too little memory.
    """
    shards, blocks = shards_of(prepared), 2 * trainers
    most = most_partitions(shards)
    if blocks > most:
        raise ConfigError(
            f"{trainers} trainers hold two partitions each or more, but the graph's {shards} shards allow {most} "
            f"partitions. Start {most // 2} trainers or fewer."
        )
    if config.partitions:
        check_enough_shards(config.partitions, shards)
        check_blocks(config.partitions, trainers)
    need = footprint(prepared, config)

    def here(partitions: int) -> int:
        """Bytes in memory."""
        return need.total(partitions, min(1.0, most_blocks(partitions // blocks, devices) / blocks))

    def there(partitions: int) -> int:
        """Bytes on the device; what a trainer hands on and gets within its machine, and across, goes by way of it."""
        return device_need(prepared, config, partitions, travelling=2 * (partitions // blocks + 1))

    candidates = [config.partitions] if config.partitions else list(range(min(2 * blocks, most), most + 1, blocks))
    for partitions in candidates:
        fits = config.memory is None or here(partitions) <= config.memory
        if fits and (room is None or there(partitions) <= room):
            return partitions
    least = min(map(here, candidates))
    raise ConfigError(
        f"One of {trainers} trainers needs {least // MIB + 1} MiB of memory for its part of {blocks} blocks of the "
        f"tables, and {min(map(there, candidates)) // MIB + 1} MiB on a device. Start "
        "more trainers, allow more memory, or lower dim."
    )


def _candidates(least: int, devices: int, shards: int) -> list[int]:
    most = most_partitions(shards)
    if devices > 1:
        return list(range(partitions_for(least, devices), most + 2 * devices, 2 * devices))
    return [least, *range(max(4, least + 1), most + 1)]
