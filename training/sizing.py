"""How many partitions a graph needs so that what trains fits: in the host's memory, and on the device."""

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from training.bucket_files import training_edges
from training.bucket_order import partitions_for
from training.config import TrainConfig
from training.memory import MIB, choose_partitions, footprint
from training.partition import MAX_PARTITIONS
from training.setup import thread_count

DEVICE_EDGE_BYTES = 64
"""An edge of a bucket on the device: five columns of 4 bytes, two sorted keys of 8, and as much again to sort them."""
PAIR_BYTES = 48
"""An edge and a negative of its chunk: scores, their slopes and copies, the key that is looked up, its place."""
UNEVEN = 1.2
"""Hashing makes some partitions and buckets larger than others."""


def device_need(prepared: PreparedGraph, config: TrainConfig, partitions: int) -> int:
    """Bytes on the device at the most: two partitions that train, one on its way, one bucket, one update."""
    rows = sum(entity.count for entity in prepared.entities)
    edges = sum(training_edges(relation) for relation in prepared.relations)
    tables = rows * (config.dim * (2 if config.l2_previous else 1) + 1) * 4
    negatives = config.negatives_in_batch + config.negatives_uniform + config.negatives_prevalence
    gradients = 4 * (2 * config.chunk + negatives) * config.dim * 4
    update = config.chunks_per_update * (2 * gradients + config.chunk * negatives * PAIR_BYTES)
    uneven = UNEVEN if partitions > 1 else 1.0
    held = tables * min(3, partitions) / partitions
    return int(uneven * (held + edges * DEVICE_EDGE_BYTES / partitions**2) + update)


def choose(prepared: PreparedGraph, config: TrainConfig, room: int | None) -> int:
    """P: as configured, else the smallest for which both the host's `memory` and the device's `room` (bytes) suffice.

    `config` is one trainer's share; of several trainers none is left idle. Raises ConfigError when no P fits, or when
    the one configured does not.
    """
    least = choose_partitions(footprint(prepared, config, thread_count(config)), config)
    candidates = [config.partitions] if config.partitions else _candidates(least, config.devices)
    for partitions in candidates:
        if room is None or device_need(prepared, config, partitions) <= room:
            return partitions
    smallest = min(device_need(prepared, config, partitions) for partitions in candidates)
    raise ConfigError(
        f"{config.device} has {(room or 0) // MIB} MiB free, but training needs at least {smallest // MIB + 1} MiB "
        "there. Leave partitions at 0, lower chunks_per_update or dim, or free memory on the device."
    )


def _candidates(least: int, devices: int) -> list[int]:
    if devices > 1:
        return list(range(partitions_for(least, devices), MAX_PARTITIONS + 2 * devices, 2 * devices))
    return [least, *range(max(4, least + 1), MAX_PARTITIONS + 1)]
