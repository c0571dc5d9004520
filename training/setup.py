"""What a run is set up from: its backend, its deal of rows and edges, its first vectors, where its metrics go."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.errors import ConfigError, KernelUnavailable
from bundle.prepared import PreparedGraph
from bundle.progress import Progress
from bundle.trained import open_trained
from training.backends.base import Backend
from training.bucket_files import Layout, plan_layout, write_layout
from training.config import TrainConfig
from training.initial import Origin, RandomOrigin
from training.metrics import JsonLines, Sink, Sinks, TensorBoard
from training.partition import Partitioning, partition_rows
from training.warm_start import warm_origin


class Dealer:
    """Hashes rows to partitions and edges to buckets; each epoch has its own hash."""

    rows: tuple[Partitioning, ...]
    layout: Layout

    def __init__(
        self, prepared: PreparedGraph, path: Path, partitions: int, config: TrainConfig, shown: Progress
    ) -> None:
        self._prepared, self._path, self._partitions, self._config, self._shown = (
            prepared, path, partitions, config, shown,
        )  # fmt: skip
        self.epoch = 0

    def deal(self, epoch: int, write: bool = True) -> None:
        """Take the hash of `epoch`, and write the edges so, unless another trainer does."""
        self.epoch = epoch
        self.rows = partition_entities(self._prepared, self._partitions, self._config.seed, epoch)
        self.layout = plan_layout(self._prepared, self._path, self.rows, self._config.edge_weights)
        if write:
            write_layout(self._prepared, self.layout, self._shown)


def thread_count(config: TrainConfig) -> int:
    """Threads that train."""
    return config.threads or os.cpu_count() or 1


def share_of(config: TrainConfig, rank: int, spoken_for: int = 0) -> TrainConfig:
    """What one of `config.devices` trainers works with: its GPU, its threads, its part of the memory.

    `spoken_for`: bytes of the memory that the process which started the trainers holds.
    """
    if config.devices == 1:
        return config
    device = f"cuda:{rank}" if config.device == "cuda" else config.device
    memory = None if config.memory is None else max(0, config.memory - spoken_for) // config.devices
    threads = max(1, thread_count(config) // config.devices)
    return config.model_copy(update={"device": device, "threads": threads, "memory": memory})


def make_backend(config: TrainConfig) -> Backend:
    """The backend asked for; `auto` takes the compiled kernel on the CPU where it can be built, else torch.

    Torch is imported only when it is used: the kernel needs neither it nor its memory.
    """
    by_kernel = config.device == "cpu" and config.products == "float32"
    if config.backend == "compiled" and not by_kernel:
        raise ConfigError(
            f"backend = 'compiled' runs on the CPU in float32; device is {config.device!r}, products are "
            f"{config.products!r}. Use 'auto' or 'torch'."
        )
    if by_kernel and config.backend != "torch":
        from training.backends.compiled import KernelBackend

        try:
            return KernelBackend(config, thread_count(config))
        except KernelUnavailable:
            if config.backend == "compiled":
                raise
    from training.backends.torch_backend import TorchBackend

    return TorchBackend(config, thread_count(config))


def partition_entities(prepared: PreparedGraph, partitions: int, seed: int, epoch: int = 0) -> tuple[Partitioning, ...]:
    """Hash the rows of every entity type for one epoch."""
    return tuple(partition_rows(entity.count, partitions, seed, i, epoch) for i, entity in enumerate(prepared.entities))


def vectors_at_start(prepared: PreparedGraph, config: TrainConfig, warm_start: Path | None) -> Origin:
    """Where the first vectors come from. Raises ConfigError for settings of a warm start without one."""
    if warm_start is not None:
        return warm_origin(prepared, open_trained(warm_start), config)
    if config.l2_previous or config.warm_shrink < 1:
        raise ConfigError(
            "l2_previous and warm_shrink are of warm starts: name a version with --warm-start, or leave them out."
        )
    return RandomOrigin(len(prepared.relations), config.dim, config.init_scale, config.seed)


def parent_name(warm_start: Path | None) -> str | None:
    """The name of the version that a run starts from."""
    return None if warm_start is None else warm_start.resolve().name


def relation_weights(prepared: PreparedGraph, config: TrainConfig) -> npt.NDArray[np.float32]:
    """The factor on each relation's loss. Raises ConfigError for a relation that the graph does not have."""
    unknown = set(config.relation_weights) - {relation.name for relation in prepared.relations}
    if unknown:
        raise ConfigError(f"relation_weights names {sorted(unknown)}, which the graph does not have.")
    return np.array([config.relation_weights.get(r.name, 1.0) for r in prepared.relations], dtype=np.float32)


def metrics_sink(run_dir: Path, config: TrainConfig, *, fresh: bool) -> Sink:
    """Where metrics go: always `metrics.jsonl`; `fresh` begins it anew."""
    sinks: list[Sink] = [JsonLines(run_dir / "metrics.jsonl", fresh)]
    if config.tensorboard:
        sinks.append(TensorBoard(run_dir / "tensorboard"))
    return Sinks(sinks)
