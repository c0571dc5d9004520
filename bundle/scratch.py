"""Files of passing use: numbers appended batch by batch, and arrays mapped for writing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.arrays import AnyArray


@dataclass(slots=True)
class RawColumn:
    """Numbers appended to a file and read back batch by batch."""

    path: Path
    dtype: npt.DTypeLike
    lengths: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(self.lengths)

    def append(self, values: AnyArray) -> None:
        """Write one batch."""
        with self.path.open("ab") as file:  # not tofile: its error on a full disk carries no errno
            file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.lengths.append(len(values))

    def batches(self) -> Iterator[AnyArray]:
        """The batches as they were appended."""
        if not self.lengths:
            return
        with self.path.open("rb") as file:
            for length in self.lengths:
                yield np.fromfile(file, dtype=self.dtype, count=length)

    def mapped(self) -> AnyArray:
        """All batches as one array, mapped for reading and writing."""
        if len(self) == 0:
            return np.zeros(0, dtype=self.dtype)
        return np.memmap(self.path, dtype=self.dtype, mode="r+", shape=(len(self),)).view(np.ndarray)


def scratch_array(path: Path, dtype: npt.DTypeLike, count: int) -> AnyArray:
    """An array of zeros in a new file, mapped for writing.

    Its blocks are taken at once: a mapped write to a full disk would kill the process instead of raising.
    """
    if count == 0:
        return np.zeros(0, dtype=dtype)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, count * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype=dtype, mode="r+", shape=(count,)).view(np.ndarray)
