"""The order in which a bucket's edges are visited: shuffled within groups, cut into chunks, chunks shuffled."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, Int64

from training.counter_rng import stream_seed
from training.edges import BucketEdges


@dataclass(frozen=True, slots=True)
class Schedule:
    """One visit of a bucket. Chunk c holds `order[group[c]][start[c]:start[c] + chunk]` of that group's edges."""

    order: tuple[Int32[npt.NDArray[np.int32], " _"], ...]
    group: Int32[npt.NDArray[np.int32], " c"]
    start: Int64[npt.NDArray[np.int64], " c"]
    seed: int

    def __len__(self) -> int:
        return len(self.group)


def make_schedule(groups: tuple[BucketEdges, ...], chunk: int, *stream: int) -> Schedule:
    """Shuffle a bucket for one visit; the same `stream` numbers give the same order."""
    rng = np.random.default_rng(stream_seed(*stream, 0))
    order = tuple(_permutation(len(edges), rng) for edges in groups)
    starts = [np.arange(0, len(edges), chunk, dtype=np.int64) for edges in groups]
    group = np.repeat(np.arange(len(groups), dtype=np.int32), [len(s) for s in starts])
    visit = _permutation(len(group), rng)
    start = np.concatenate([*starts, np.empty(0, dtype=np.int64)])
    return Schedule(order, group[visit], start[visit], stream_seed(*stream, 1))


def chunk_length(schedule: Schedule, position: int, chunk: int) -> int:
    """Edges in a chunk: the last one of a group may be short."""
    return min(chunk, len(schedule.order[schedule.group[position]]) - int(schedule.start[position]))


def _permutation(n: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    order = np.arange(n, dtype=np.int32)
    rng.shuffle(order)
    return order
