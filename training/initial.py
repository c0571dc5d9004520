"""The tables that a run starts with: random ones, or those of an earlier version (training/warm_start.py)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.prepared import PreparedGraph
from bundle.progress import Progress
from bundle.trained import open_trained
from training.config import TrainConfig, require_warm_start
from training.counter_rng import stream_seed
from training.model import EmbeddingTable, Relations, random_table, zero_relations
from training.partition import Partitioning
from training.warm_start import warm_tables

INIT_STREAM = 7


@runtime_checkable
class InitialTables(Protocol):
    """The state before the first step."""

    def table(self, kind: int, partition: int) -> EmbeddingTable:
        """A partition of one entity type as it starts."""
        ...

    def previous(self, kind: int, partition: int) -> Float32[npt.NDArray[np.float32], "n d"] | None:
        """The vectors that an L2 pull holds a partition to, None without a pull."""
        ...

    def relations(self) -> Relations:
        """The relation vectors as they start."""
        ...

    def partitioned(self, partitionings: tuple[Partitioning, ...]) -> "InitialTables":
        """The same start for rows that lie in these partitions; of no use before."""
        ...


@dataclass(frozen=True, slots=True)
class RandomTables:
    """A run from nothing: random entities, no translation."""

    relation_count: int
    dim: int
    scale: float
    seed: int
    partitionings: tuple[Partitioning, ...] = ()

    def table(self, kind: int, partition: int) -> EmbeddingTable:
        """See InitialTables."""
        rng = np.random.default_rng(stream_seed(self.seed, kind, partition, INIT_STREAM))
        return random_table(int(self.partitionings[kind].sizes[partition]), self.dim, self.scale, rng)

    def previous(self, kind: int, partition: int) -> None:
        """See InitialTables."""

    def relations(self) -> Relations:
        """See InitialTables."""
        return zero_relations(self.relation_count, self.dim)

    def partitioned(self, partitionings: tuple[Partitioning, ...]) -> "RandomTables":
        """See InitialTables."""
        return replace(self, partitionings=partitionings)


def initial_tables(
    prepared: PreparedGraph, config: TrainConfig, warm_start: Path | None, progress: Progress
) -> InitialTables:
    """What a run starts with. Raises ConfigError for settings of a warm start without one, and as `warm_tables`."""
    require_warm_start(config, warm_start)
    if warm_start is not None:
        return warm_tables(prepared, open_trained(warm_start, progress), config, progress)
    return RandomTables(len(prepared.relations), config.dim, config.init_scale, config.seed)
