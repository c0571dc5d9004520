"""Where a build's large arrays lie, in memory or in files that are mapped and so no private memory of the process; and
how much of them is looked at together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bundle.arrays import AnyArray
from bundle.scratch import scratch_array

# Of vectors that are worked on together.
BLOCK_BYTES = 16 << 20
LEAST_ROWS = 1 << 10


def blocks(n: int, width: int) -> Iterator[slice]:
    """The parts of `n` rows of `width` floats to work on together; each begins at a multiple of 8 rows."""
    rows = max(LEAST_ROWS, 1 << (BLOCK_BYTES // (4 * max(1, width))).bit_length() - 1)
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


@runtime_checkable
class Room(Protocol):
    """Makes a new array of zeros; each `name` is asked for once."""

    def __call__(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> AnyArray: ...


def in_memory(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> AnyArray:
    """An array in memory, whatever its name."""
    return np.zeros(shape, dtype)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Arrays in files of `directory`, which whoever made it removes."""

    directory: Path

    def __call__(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> AnyArray:
        """A new array in the file `name`. Raises OSError where there is no room."""
        return scratch_array(self.directory / name, dtype, int(np.prod(shape))).reshape(shape)
