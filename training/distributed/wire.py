"""How tables travel between trainers: from host memory to host memory by gloo, or between GPUs by NCCL."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.errors import TwhinError
from training.distributed.group import LONGEST_ROUND

if TYPE_CHECKING:
    import torch

F32 = npt.NDArray[np.float32]


@runtime_checkable
class Peers(Protocol):
    """The trainers, as one of them sees them: number `rank` of `size`, in their order on equal `machines`."""

    rank: int
    size: int
    machines: int

    def most(self, values: Int64[npt.NDArray[np.int64], "*s"]) -> None:
        """See Group."""
        ...

    def lost(self) -> TwhinError:
        """What to raise when another one is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Move:
    """An array that the trainer `source` sends to `target`: what is sent there, room for it here. It is contiguous."""

    array: F32
    source: int
    target: int


class Exchange:
    """Arrays on their way, which must not be changed, or are not there yet, until they have been waited for."""

    def __init__(self, works: list[Any], coming: list[tuple[F32, "torch.Tensor"]], lost: Callable[[], TwhinError]):
        """`coming`: the arrays that are filled, and the tensors that arrive."""
        self._works, self._coming, self._lost = works, coming, lost

    def wait(self) -> None:
        """Return when all have arrived, or been sent. Raises what ended the other trainer."""
        import torch

        try:
            for work in self._works:
                work.wait()
            for array, tensor in self._coming:
                torch.from_numpy(array).copy_(tensor)
        except RuntimeError as error:
            raise self._lost() from error
        self._works, self._coming = [], []


class Wire:
    """One trainer's end; all of them make theirs at the same time.

    Where all train on CUDA devices arrays are copied to the device and go from there by NCCL, whose messages have no
    tags: between two trainers they come in the order in which they are sent. There are two communicators, so that what
    stays within a machine does not queue behind what goes to another one. `sent` counts the bytes, within and across.
    """

    def __init__(self, group: Peers, device: str, copies: bool = False) -> None:
        """`copies`: work with copies on the device, also where that is the host. Raises ConfigError for no device."""
        import torch
        import torch.distributed as dist

        from training.backends.torch_tables import DevicePlacement

        elsewhere = np.array([int(not device.startswith("cuda"))])
        group.most(elsewhere)
        self._placement = DevicePlacement.of("cpu" if elsewhere[0] else device, copies)
        self._group, self.sent = group, [0, 0]
        backend = "nccl" if self._placement.device.type == "cuda" else "gloo"
        try:
            self._calls = [dist.new_group(backend=backend, timeout=LONGEST_ROUND) for _ in range(2)]
            for calls in self._calls:  # NCCL needs all for the first call; later ones are of some
                dist.all_reduce(torch.zeros(1, device=self._placement.device), group=calls)
        except RuntimeError as error:
            raise group.lost() from error

    def across(self, source: int, target: int) -> bool:
        """Whether these trainers are on different machines."""
        devices = self._group.size // self._group.machines
        return source // devices != target // devices

    def exchange(self, moves: list[Move]) -> Exchange:
        """Let this trainer's arrays set out. Between each two trainers `moves` come in the same order."""
        import torch.distributed as dist

        works, coming = [], []
        try:
            for across in (False, True):
                some = [move for move in moves if move.array.size and self.across(move.source, move.target) == across]
                operations = []
                for move in some:
                    sends, tensor = move.source == self._group.rank, self._tensor(move)
                    operation, peer = (dist.isend, move.target) if sends else (dist.irecv, move.source)
                    operations.append(dist.P2POp(operation, tensor, peer, self._calls[across]))
                    if sends:
                        self.sent[across] += move.array.nbytes
                    elif self._placement.copies:
                        coming.append((move.array, tensor))
                works += dist.batch_isend_irecv(operations) if operations else []
        except RuntimeError as error:
            raise self._group.lost() from error
        return Exchange(works, coming, self._group.lost)

    def _tensor(self, move: Move) -> "torch.Tensor":
        """What travels: the array itself, or a copy on the device."""
        import torch

        there = torch.from_numpy(move.array)
        if not self._placement.copies:
            return there
        if move.source == self._group.rank:
            return there.to(self._placement.device, copy=True)
        return torch.empty_like(there, device=self._placement.device)
