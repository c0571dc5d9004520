"""What several trainers make of the relations that each of them moved."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from training.distributed.group import put_together

F32 = npt.NDArray[np.float32]


@dataclass
class Meeting:
    """Where threads of one process meet as trainers do."""

    size: int
    barrier: threading.Barrier = field(init=False)
    brought: dict[int, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=30)


@dataclass
class InThreads:
    """A Group."""

    meeting: Meeting
    rank: int
    apart: bool = False

    def __post_init__(self) -> None:
        self.size = self.local_size = self.meeting.size
        self.local_rank = self.rank

    def sum(self, values: npt.NDArray[np.float64]) -> None:
        values[...] = self._all(values).sum(0)

    def most(self, values: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> None:
        values[...] = self._all(values).max(0)

    def check(self) -> None:
        """Threads end together."""

    def _all(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        self.meeting.brought[self.rank] = values
        self.meeting.barrier.wait()
        found = np.array([self.meeting.brought[rank] for rank in range(self.size)])
        self.meeting.barrier.wait()
        return found


def together(moves: list[list[float]]) -> list[tuple[F32, F32]]:
    """What each of some trainers has afterwards, who moved a vector from (1, 1) and added its number to its state."""
    meeting, start, state = Meeting(len(moves)), np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)

    def meet(rank: int) -> tuple[F32, F32]:
        vectors, mine = start + np.float32(moves[rank]), state + np.float32(rank)
        put_together(InThreads(meeting, rank), vectors, mine, (start, state))
        return vectors - start, mine - state

    with ThreadPoolExecutor(len(moves)) as pool:
        return list(pool.map(meet, range(len(moves))))


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]),
        ([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [3.0, 4.0]),  # only one knew the relation
        ([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]], [3.0, 4.0]),  # all learnt the same
        ([[3.0, 4.0], [-3.0, -4.0]], [0.0, 0.0]),
        ([[4.0, 0.0], [-2.0, 0.0]], [2.0, 0.0]),  # shorter than the longest: as it is
        ([[3.0, 0.0], [0.0, 3.0]], [3 / 2**0.5, 3 / 2**0.5]),  # as far as one alone, for both
        ([[4.0, 0.0], [1.0, 0.0]], [4.0, 0.0]),
    ],
)
def test_moves_add_up_to_no_more_than_the_longest(moves: list[list[float]], expected: list[float]) -> None:
    for vector, state in together(moves):
        np.testing.assert_allclose(vector, [expected], atol=1e-6)
        np.testing.assert_allclose(state, [[sum(range(len(moves)))] * 2])
