"""Where tensors lie, and tables that stay on the device while their partition is in memory.

The thread that reads and writes partitions also moves them to the device and back.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.errors import ConfigError
from training.backends.torch_step import TorchTable
from training.checkpoint import PartitionStore, Tables
from training.model import EmbeddingTable

STAGING_BYTES = 2**25
# The part of the free device memory that is used; the rest is for torch's allocator and the libraries' own buffers.
SHARE = 0.9


@contextmanager
def device_memory() -> Iterator[None]:
    """Turn torch's 'out of memory' into a ConfigError that says what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"The device has too little memory: {reason} Lower chunks_per_update, set more partitions, or free "
            "memory on the device. The last checkpoint is intact."
        ) from error


@dataclass(frozen=True, slots=True)
class DevicePlacement:
    """Without `copies` tensors share memory with numpy; with them they must be brought back."""

    device: torch.device
    copies: bool

    @classmethod
    def of(cls, name: str, copies: bool = False) -> "DevicePlacement":
        """The device `name`. Raises ConfigError for one that torch does not know or this machine does not have."""
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"device = {name!a:.40} cannot be used here: {reason}. docs/gpu.md helps.") from error
        if device.type == "cuda":
            torch.cuda.set_device(device)  # Triton starts its kernels on the current device
        return cls(device, copies or device.type != "cpu")

    def bring(self, array: npt.NDArray[np.float32]) -> Tensor:
        """The array as a tensor there."""
        return torch.from_numpy(array).to(self.device, copy=self.copies)

    def table(self, table: EmbeddingTable) -> TorchTable:
        """A whole table there."""
        previous = None if table.previous is None else self.bring(table.previous)
        return TorchTable(self.bring(table.vectors), self.bring(table.accumulator), previous)

    def free_bytes(self) -> int | None:
        """Memory of the device that training may fill; None where tables stay in the host's."""
        if self.device.type != "cuda":
            return None
        return int(torch.cuda.mem_get_info(self.device)[0] * SHARE)


class DeviceTables:
    """The device's copies. A copy lives as long as the host's table, whose partition the trainer holds."""

    def __init__(self, placement: DevicePlacement) -> None:
        self._placement = placement
        self._copies: dict[int, TorchTable] = {}
        self._stream: torch.cuda.Stream | None = None
        if placement.device.type == "cuda":
            self._stream = torch.cuda.Stream(placement.device)  # type: ignore[no-untyped-call]
        self._staging: Tensor | None = None

    def find(self, table: EmbeddingTable) -> TorchTable | None:
        """The copy of `table`, None when it is not kept here."""
        return self._copies.get(id(table.vectors))

    def push(self, table: EmbeddingTable) -> None:
        """Copy a table to the device; it is complete there on return."""
        device = self._placement.device
        with device_memory(), self._copying():
            parts = (table.vectors, table.accumulator, *([] if table.previous is None else [table.previous]))
            moved = [torch.empty(part.shape, device=device) for part in parts]
            for part, tensor in zip(parts, moved, strict=True):
                self._move(torch.from_numpy(part), tensor)
        key = id(table.vectors)
        self._copies[key] = TorchTable(moved[0], moved[1], moved[2] if len(moved) > 2 else None)
        weakref.finalize(table.vectors, self._copies.pop, key, None)

    def pull(self, table: EmbeddingTable) -> None:
        """Bring the host's table up to date with the device's, as it is after all work that was asked for so far."""
        copy = self.find(table)
        if copy is None:
            return
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.default_stream(self._placement.device))
        with self._copying():
            self._move(copy.vectors, torch.from_numpy(table.vectors))
            self._move(copy.accumulator, torch.from_numpy(table.accumulator))

    @contextmanager
    def _copying(self) -> Iterator[None]:
        """Work on the copy stream, beside the one that trains, and wait for its end."""
        if self._stream is None:
            yield
            return
        # Of this thread. Leaving the stream goes back to the device before it, which is else the first, and opens that.
        torch.cuda.set_device(self._placement.device)
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def _move(self, source: Tensor, target: Tensor) -> None:
        """Copy by way of pinned memory, which the device reads and writes at full speed and without the processor."""
        source, target = source.flatten(), target.flatten()
        staging = self._pinned()
        for start in range(0, len(source), len(staging)):
            piece = slice(start, start + len(staging))
            through = staging[: len(source[piece])]
            through.copy_(source[piece], non_blocking=True)
            self._wait()
            target[piece].copy_(through, non_blocking=True)
            self._wait()

    def _wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()

    def _pinned(self) -> Tensor:
        if self._staging is None:
            self._staging = torch.empty(STAGING_BYTES // 4, pin_memory=self._stream is not None)
        return self._staging


class DeviceStore:
    """A store whose partitions are on the device when they have been loaded, and as trained there when saved."""

    def __init__(self, store: PartitionStore, tables: DeviceTables) -> None:
        self._store, self._tables = store, tables

    def load(self, partition: int) -> Tables:
        """See PartitionStore."""
        loaded = self._store.load(partition)
        for table in loaded:
            self._tables.push(table)
        return loaded

    def save(self, partition: int, tables: Tables) -> None:
        """See PartitionStore."""
        for table in tables:
            self._tables.pull(table)
        self._store.save(partition, tables)
