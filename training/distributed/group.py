"""The processes that train one graph together, one or several, and what they tell one another between rounds."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64

from bundle.errors import RunError, TwhinError
from training.distributed.messages import LOST

# Whoever starts the processes notices earlier that one is gone.
LONGEST_ROUND = timedelta(days=7)


@runtime_checkable
class Group(Protocol):
    """One process's view of all, itself included: it is number `rank` of `size`, and `local_rank` of the `local_size`
    that share this machine's cores and devices.

    `apart`: each process has a run directory of its own.
    The methods raise RunError when one is gone. `sum` and `most` wait for all processes, which must call them alike.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    apart: bool

    def sum(self, values: Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """Add up all processes' values, in place."""
        ...

    def most(self, values: Int64[npt.NDArray[np.int64], "*s"] | Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """The largest of all processes' values, in place."""
        ...

    def check(self) -> None:
        """Return if no other process is known to have failed."""
        ...


class SoloGroup:
    """A process by itself: whatever it has is the sum and the largest."""

    rank, size, local_rank, local_size = 0, 1, 0, 1
    apart = False

    def sum(self, values: Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """See Group."""

    def most(self, values: Int64[npt.NDArray[np.int64], "*s"] | Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """See Group."""

    def check(self) -> None:
        """See Group."""


class GlooGroup:
    """Several processes of one machine, by torch.distributed.

    Small arrays of the host go round by gloo, also when the processes train on GPUs: tables travel through the run
    directory, and relation vectors are small. Torch, 200 MB in memory, is loaded here alone.
    """

    apart = False
    _calls: Any = None  # the group of all, of torch's

    def __init__(self, meeting_point: Path, rank: int, size: int) -> None:
        """Wait for all processes; `meeting_point` is a new file of their own. Raises RunError."""
        import torch.distributed as dist

        self.rank, self.size = self.local_rank, self.local_size = rank, size
        where = f"file://{meeting_point.resolve()}"
        try:
            dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=LONGEST_ROUND)
        except RuntimeError as error:
            raise RunError(f"Trainer {rank} {LOST}: {error}") from error

    def sum(self, values: Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """See Group."""
        self._reduce(values, "SUM")

    def most(self, values: Int64[npt.NDArray[np.int64], "*s"] | Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """See Group."""
        self._reduce(values, "MAX")

    def check(self) -> None:
        """See Group: whoever started the processes ends them."""

    def leave(self) -> None:
        """Say goodbye."""
        import torch.distributed as dist

        dist.destroy_process_group()

    def _reduce(self, values: npt.NDArray[np.float64] | npt.NDArray[np.int64], how: str) -> None:
        import torch
        import torch.distributed as dist

        try:
            dist.all_reduce(torch.from_numpy(values), getattr(dist.ReduceOp, how), group=self._calls)
        except RuntimeError as error:
            raise self.lost() from error

    def lost(self) -> TwhinError:
        """What to raise when another process is gone."""
        return RunError(f"Trainer {self.rank} {LOST}.")


def put_together(
    group: Group,
    vectors: Float32[npt.NDArray[np.float32], "*s d"],
    state: Float32[npt.NDArray[np.float32], "*s d"],
    before: tuple[Float32[npt.NDArray[np.float32], "*s d"], Float32[npt.NDArray[np.float32], "*s d"]],
) -> None:
    """Make of what each process did to vectors and their optimiser state, which were `before` for all, one. In place.

    The moves of a vector add up, but to no more than the longest of them: where processes learnt different things all
    count, and where they learnt the same it is not learnt as often as there are processes. State adds up.
    """
    moved, gained = (now.astype(np.float64) - then for now, then in zip((vectors, state), before, strict=True))
    longest = np.linalg.norm(moved, axis=-1)
    group.most(longest)
    group.sum(moved)
    group.sum(gained)
    together = np.linalg.norm(moved, axis=-1)
    share = np.divide(longest, together, out=np.ones_like(longest), where=together > longest)
    vectors[...] = before[0] + moved * share[..., None]
    state[...] = before[1] + gained
