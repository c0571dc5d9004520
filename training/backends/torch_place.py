"""Where tensors lie: a device, and whether they are copies of the host's arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.errors import ConfigError
from training.backends.torch_step import TorchTable
from training.model import Table

SHARE = 0.9  # of the free device memory; the rest is for torch's allocator and the libraries' own buffers


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
class Place:
    """Without `copies` tensors share memory with numpy; with them they must be brought back."""

    device: torch.device
    copies: bool

    @classmethod
    def of(cls, name: str, copies: bool = False) -> "Place":
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

    def table(self, table: Table) -> TorchTable:
        """A whole table there."""
        previous = None if table.previous is None else self.bring(table.previous)
        return TorchTable(self.bring(table.vectors), self.bring(table.accumulator), previous)

    def free_bytes(self) -> int | None:
        """Memory of the device that training may fill; None where tables stay in the host's."""
        if self.device.type != "cuda":
            return None
        return int(torch.cuda.mem_get_info(self.device)[0] * SHARE)
