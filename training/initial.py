"""Where a run's first vectors come from: random numbers, or an earlier version (training/warm_start.py)."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from training.counter_rng import stream_seed
from training.model import Relations, Table, random_table, zero_relations
from training.partition import Partitioning

INIT_STREAM = 7


@runtime_checkable
class Origin(Protocol):
    """The state before the first step."""

    def table(self, kind: int, partition: int) -> Table:
        """A partition of one entity type as it starts."""
        ...

    def previous(self, kind: int, partition: int) -> Float32[npt.NDArray[np.float32], "n d"] | None:
        """The vectors that an L2 pull holds a partition to, None without a pull."""
        ...

    def relations(self) -> Relations:
        """The relation vectors as they start."""
        ...

    def dealt(self, partitionings: tuple[Partitioning, ...]) -> "Origin":
        """The same start for rows that are dealt to these partitions; an origin is of no use before."""
        ...


@dataclass(frozen=True, slots=True)
class RandomOrigin:
    """A run from nothing: random entities, no translation."""

    relation_count: int
    dim: int
    scale: float
    seed: int
    partitionings: tuple[Partitioning, ...] = ()

    def table(self, kind: int, partition: int) -> Table:
        """See Origin."""
        rng = np.random.default_rng(stream_seed(self.seed, kind, partition, INIT_STREAM))
        return random_table(int(self.partitionings[kind].sizes[partition]), self.dim, self.scale, rng)

    def previous(self, kind: int, partition: int) -> None:
        """See Origin."""

    def relations(self) -> Relations:
        """See Origin."""
        return zero_relations(self.relation_count, self.dim)

    def dealt(self, partitionings: tuple[Partitioning, ...]) -> "RandomOrigin":
        """See Origin."""
        return replace(self, partitionings=partitionings)
