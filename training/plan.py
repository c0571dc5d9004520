"""What a run would take, before it starts: sizes from the graph, speed from a short calibration on this machine."""

import importlib
import time
from dataclasses import dataclass

import numpy as np

from bundle.prepared import PreparedGraph, PreparedRelation
from training.backends.base import Backend, BucketWork
from training.backends.choose import make_backend
from training.buckets import training_edges
from training.chunks import make_schedule
from training.config import TrainConfig, relation_weights
from training.distributed.launch import check_together
from training.edges import BucketEdges, index_edges
from training.memory import choose_partitions, footprint, resident_bytes
from training.model import random_table, zero_relations

SAMPLE_EDGES = 200_000
SAMPLE_ROWS = 200_000
CALIBRATION_SECONDS = 2.0
# An edge of a graph of format 1, which is dealt to shards before it is trained: places, weight, cells.
DEALT_BYTES = 20


@dataclass(frozen=True)
class TrainingEstimate:
    """The answer of `twhin train --plan`. Bytes and seconds; rates are of this machine as loaded just now."""

    entities: int
    relations: int
    edges: int
    partitions: int
    buckets: int
    memory_bytes: int
    disk_bytes: int
    backend: str
    threads: int
    edges_per_second: int
    seconds_per_epoch: float
    seconds: float


def plan(prepared: PreparedGraph, config: TrainConfig) -> TrainingEstimate:
    """Size the run and time a few seconds of it; writes nothing that stays. Raises ConfigError as `train` would."""
    relation_weights(prepared, config)
    spoken_for = _like_a_trainer(prepared, config) if config.devices > 1 else 0
    mine = config.share(0, config.devices, spoken_for)
    backend = make_backend(mine)
    need = footprint(prepared, mine)
    partitions = choose_partitions(prepared, mine, backend.room())
    edges = sum(training_edges(relation) for relation in prepared.relations)
    rate = config.devices * calibrate(prepared, mine, backend)  # buckets that are trained together share nothing
    rows = sum(entity.count for entity in prepared.entities)
    table_bytes = rows * (config.dim + 1) * 4
    return TrainingEstimate(
        entities=rows,
        relations=len(prepared.relations),
        edges=edges,
        partitions=partitions,
        buckets=partitions**2,
        memory_bytes=spoken_for + config.devices * need.total(partitions),
        disk_bytes=3 * table_bytes + (0 if prepared.sharded else edges * DEALT_BYTES + rows * 8),
        backend=backend.name,
        threads=config.thread_count,
        edges_per_second=round(rate),
        seconds_per_epoch=edges / max(rate, 1e-9),
        seconds=config.epochs * edges / max(rate, 1e-9),
    )


def _like_a_trainer(prepared: PreparedGraph, config: TrainConfig) -> int:
    """Check what is checked before several trainers start, and load what each of them loads, so that their memory can
    be measured here. Gives the bytes that the process which starts them holds."""
    check_together(prepared, config)
    held = resident_bytes()
    importlib.import_module("training.distributed.worker")
    return held


def calibrate(prepared: PreparedGraph, config: TrainConfig, backend: Backend) -> float:
    """Edges a second on a sample of the edges, whose rows are folded into a table that fits in memory."""
    rng = np.random.default_rng(config.seed)
    sizes = [min(entity.count, SAMPLE_ROWS) for entity in prepared.entities]
    tables = tuple(random_table(size, config.dim, config.init_scale, rng) for size in sizes)
    relations = zero_relations(len(prepared.relations), config.dim)
    weights = np.ones(len(prepared.relations), dtype=np.float32)
    total = sum(len(relation.train) for relation in prepared.relations)
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    groups = tuple(
        _sample(relation, (number[relation.source], number[relation.target]), sizes, SAMPLE_EDGES / max(1, total))
        for relation in prepared.relations
        if len(relation.train)
    )
    if not groups:
        return float("inf")
    schedule = make_schedule(groups, config.chunk, config.seed)
    session = backend.open(BucketWork(groups, tables, tables, relations, weights, schedule))
    span = config.chunks_per_update
    session.run(0, min(span, len(schedule)))  # the first one loads libraries, on a GPU it compiles
    seen, at, began = 0, 0, time.perf_counter()
    while at < len(schedule) and time.perf_counter() - began < CALIBRATION_SECONDS:
        end = min(at + span, len(schedule))
        seen, at, span = seen + session.run(at, end).edges, end, 2 * span
    return seen / (time.perf_counter() - began)


def _sample(relation: PreparedRelation, types: tuple[int, int], sizes: list[int], share: float) -> BucketEdges:
    count = max(1, min(len(relation.train), round(share * len(relation.train))))
    src = np.asarray(relation.train.src[:count]) % np.int32(sizes[types[0]])
    dst = np.asarray(relation.train.dst[:count]) % np.int32(sizes[types[1]])
    rel = np.full(count, relation.index, dtype=np.int32)
    return index_edges(types, (sizes[types[0]], sizes[types[1]]), (src, dst, rel), None)
