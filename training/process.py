"""One process of a training, alone or one of several: set up from graph, settings and checkpoint, trained, exported."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bundle.prepared import PreparedGraph
from bundle.progress import Progress
from bundle.sharded import ShardedGraph
from bundle.trained import ancestors_from
from training.backends.choose import make_backend
from training.block_order import BlockRound, block_rounds
from training.bucket_order import Round, epoch_rounds
from training.buckets import Partitioner, training_edges
from training.checkpoint import Checkpoint, PartitionFiles, Position, RunKey
from training.config import TrainConfig, relation_weights
from training.dealing import deal_edges, open_dealt, shards_of
from training.distributed.group import Group
from training.distributed.held import HeldPartitions
from training.distributed.homes import Homes, SharedFiles
from training.distributed.torchrun import TorchrunGroup
from training.distributed.wire import Wire
from training.export import export_run, export_tables
from training.initial import InitialTables, initial_tables
from training.loop import TrainingLoop
from training.memory import choose_blocks, choose_partitions
from training.metrics import Sinks, open_sink
from training.partition import Partitioning, check_enough_shards
from training.partition_buffer import PartitionBuffer


def run_process(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    warm_start: Path | None,
    checkpoint: Checkpoint | None,
    group: Group,
    progress: Progress,
    spoken_for: int = 0,
) -> tuple[Position, str]:
    """Train `prepared`, which lies in `run_dir`, with the others of `group`; the first of them writes the run.

    `spoken_for`: bytes of the memory that the process which started the group holds. Gives the final position and the
    backend's name. Raises as `train`.
    """
    first, mine = group.rank == 0, config.share(group.local_rank, group.local_size, spoken_for)
    ancestors = () if warm_start is None else ancestors_from(warm_start)  # now: a version may be pruned meanwhile
    backend = make_backend(mine)
    initial = initial_tables(prepared, config, warm_start, progress)  # before memory is measured: it stays
    choose = choose_partitions
    if isinstance(group, TorchrunGroup):
        choose = partial(choose_blocks, trainers=group.size, devices=group.size // group.machines)
    partitions = checkpoint.partitions if checkpoint else _agreed(group, choose(prepared, mine, backend.room()))
    check_enough_shards(partitions, shards_of(prepared))
    graph = prepared.sharded or _dealt(prepared, run_dir / "checkpoint" / "shards", group, progress)
    partitioner = Partitioner(prepared, graph, partitions, config, mine.thread_count)
    partitioner.regroup(checkpoint.dealt if checkpoint else 0)
    initial = initial.partitioned(partitioner.rows)
    files = PartitionFiles(run_dir / "checkpoint" / "tables", partitioner.rows, initial)
    relations = files.restore(checkpoint) if checkpoint else initial.relations()
    rounds, homes = _order_and_homes(group, files, partitioner.rows, initial, mine)
    if checkpoint:
        homes.restore()
    key = RunKey.of(prepared, config, warm_start)
    sink = open_sink(run_dir, config, fresh=checkpoint is None) if first else Sinks([])
    diverged = run_dir / "diverged" if group.size == 1 else run_dir / "diverged" / f"trainer-{group.rank}"
    with PartitionBuffer(backend.store(homes), partitioner.buckets) as buffer:
        loop = TrainingLoop(
            mine, group, backend, partitioner, rounds, homes, buffer, relations, relation_weights(prepared, config),
            key, sink, progress, diverged,
        )  # fmt: skip
        end = loop.run(checkpoint.position if checkpoint else Position(), sum(map(training_edges, prepared.relations)))
    files = homes.collect()
    if first:
        export_tables(run_dir, [entity.name for entity in prepared.entities], partitioner.rows, files, config.dim)
        export_run(run_dir, prepared, config, relations, ancestors, end)
    return end, backend.name


def _order_and_homes(
    group: Group, files: PartitionFiles, rows: tuple[Partitioning, ...], initial: InitialTables, config: TrainConfig
) -> tuple[Callable[[int], list[Round]], Homes]:
    """The order of an epoch, and where partitions are between rounds: in files, or where trainers have directories of
    their own, in their memory."""
    partitions = len(rows[0].sizes)
    if not isinstance(group, TorchrunGroup):
        return partial(epoch_rounds, partitions, group.size, config.seed), SharedFiles(group, files)

    machines, devices = group.machines, group.size // group.machines

    def blocks(epoch: int) -> list[BlockRound]:
        return block_rounds(partitions, machines, devices, config.seed, epoch)

    held = HeldPartitions(group, Wire(group, config.device), files, rows, initial, config.dim, blocks)
    return lambda epoch: [each.buckets for each in blocks(epoch)], held


def _dealt(prepared: PreparedGraph, path: Path, group: Group, progress: Progress) -> ShardedGraph:
    """The shards of a graph of format 1: the first process of a run directory deals its edges, anew in each sitting."""
    if group.rank == 0 or group.apart:
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        deal_edges(prepared, path, progress)
    group.sum(np.zeros(1))  # wait until it is done
    return open_dealt(prepared, path)


def _agreed(group: Group, partitions: int) -> int:
    """P for all: the most that one needs. Were they not alike, each process would look for edges in other buckets."""
    most = np.array([partitions])
    group.most(most)
    return int(most[0])
