"""Tables that live on a device, with the CPU as the device: partitions come and go, checkpoints see what was learnt."""

import gc
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT
from tests.support.shards import partitioner_of
from training.backends.torch_backend import TorchBackend
from training.backends.torch_step import Rates, TorchTable
from training.backends.torch_tables import DevicePlacement, DeviceTables
from training.bucket_order import epoch_rounds
from training.buckets import training_edges
from training.checkpoint import PartitionFiles, Position, RunKey, Tables
from training.config import TrainConfig
from training.distributed.group import SoloGroup
from training.distributed.homes import SharedFiles
from training.initial import RandomTables
from training.loop import TrainingLoop
from training.metrics import Sinks
from training.model import Relations, random_table
from training.partition_buffer import PartitionBuffer


def trained(
    graph: PreparedGraph, path: Path, config: TrainConfig, backend: TorchBackend
) -> tuple[list[Tables], Relations]:
    """All partitions and the relations after training by the loop that `train` uses."""
    initial = RandomTables(len(graph.relations), config.dim, config.init_scale, config.seed)
    partitioner = partitioner_of(graph, path, config)
    files = PartitionFiles(path / "tables", partitioner.rows, initial.partitioned(partitioner.rows))
    relations, weights = initial.relations(), np.ones(len(graph.relations), dtype=np.float32)
    group = SoloGroup()
    rounds = partial(epoch_rounds, config.partitions, 1, config.seed)
    with PartitionBuffer(backend.store(files), partitioner.buckets) as buffer:
        loop = TrainingLoop(
            config, group, backend, partitioner, rounds, SharedFiles(group, files), buffer, relations, weights,
            RunKey.of(graph, config, None), Sinks([]), SILENT, path / "diverged",
        )  # fmt: skip
        loop.run(Position(), sum(map(training_edges, graph.relations)))
    return [files.load(partition) for partition in range(config.partitions)], relations


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("checkpoint_seconds", [1e-6, 1e6])
def test_what_is_learnt_on_the_device_reaches_the_store(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path, partitions: int, checkpoint_seconds: float
) -> None:
    """Bit for bit what training on the arrays themselves gives, however often checkpoints bring tables back."""
    settings = {"partitions": partitions, "epochs": 2, "checkpoint_seconds": checkpoint_seconds, "chunks_per_update": 8}
    config = config.model_copy(update=settings)
    plain, plain_relations = trained(circles, tmp_path / "plain", config, TorchBackend(config, 1))
    moved, moved_relations = trained(circles, tmp_path / "moved", config, TorchBackend(config, 1, copies=True))
    np.testing.assert_array_equal(moved_relations.vectors, plain_relations.vectors)
    for one, other in zip(moved, plain, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine.vectors, theirs.vectors)
            np.testing.assert_array_equal(mine.accumulator, theirs.accumulator)


def out_of_memory(table: TorchTable, rows: torch.Tensor, gradient: torch.Tensor, rates: Rates) -> None:
    """An update, as it goes on a device that is full."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation.")


def test_a_full_device_is_reported_with_what_to_change(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    config = config.model_copy(update={"partitions": 1})
    backend = TorchBackend(config, 1, copies=True, update=out_of_memory)
    with pytest.raises(ConfigError, match=r"Tried to allocate 2.00 GiB. Lower chunks_per_update, set more partitions"):
        trained(circles, tmp_path, config, backend)


def test_a_copy_goes_with_the_table_it_copies() -> None:
    tables = DeviceTables(DevicePlacement(torch.device("cpu"), copies=True))
    table = random_table(5, 3, 0.1, np.random.default_rng(1))
    tables.push(table)
    copy = tables.find(table)
    assert copy is not None
    copy.vectors.add_(1)
    before = table.vectors.copy()
    tables.pull(table)
    np.testing.assert_array_equal(table.vectors, before + 1)
    on_device = weakref.ref(copy.vectors)
    del table, copy
    gc.collect()
    assert on_device() is None
