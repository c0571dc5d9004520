"""What runs a bucket's chunks: the protocol that the torch step and the compiled kernel both keep."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from training.checkpoint import PartitionStore
from training.chunks import Schedule
from training.config import TrainConfig
from training.edges import BucketEdges
from training.model import EmbeddingTable, Relations


@dataclass(frozen=True, slots=True)
class BucketWork:
    """A bucket ready to train: its edges, and by entity type the tables of its source and target partitions."""

    groups: tuple[BucketEdges, ...]
    sources: tuple[EmbeddingTable, ...]
    targets: tuple[EmbeddingTable, ...]
    relations: Relations
    relation_weights: Float32[npt.NDArray[np.float32], " r"]
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class SpanResult:
    """What a run of chunks did: summed loss, edges seen, and the chunk whose loss was no finite number."""

    loss: float
    edges: int
    diverged_at: int | None = None


@runtime_checkable
class BucketSession(Protocol):
    """A bucket open for training; its tables may live on another device until `sync`."""

    def run(self, begin: int, end: int) -> SpanResult:
        """Train chunks `begin` to `end` of the schedule; stop before a chunk whose loss is not finite."""
        ...

    def sync(self) -> None:
        """Bring the numpy tables up to date."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Trains chunks of a bucket in place."""

    name: str

    def open(self, work: BucketWork) -> BucketSession:
        """Open a bucket."""
        ...

    def store(self, store: PartitionStore) -> PartitionStore:
        """`store`, or one around it that also brings partitions to the device that trains and back."""
        ...

    def room(self) -> int | None:
        """Bytes that may be filled on the device that trains; None where that is the host's memory."""
        ...


def relation_rate(config: TrainConfig) -> float:
    """The learning rate of relation vectors."""
    return config.relation_learning_rate or config.learning_rate
