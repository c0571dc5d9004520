"""Several trainers on one machine: what they tell one another between rounds, by torch.distributed."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from jaxtyping import Float32, Float64, Int64

from bundle.errors import RunError
from training.distributed.messages import LOST

LONGEST_ROUND = timedelta(days=7)  # whoever starts the trainers notices earlier that one is gone


class Team:
    """One rank's view. Small arrays of the host go round by gloo, also when the ranks train on GPUs: tables travel
    through the run directory, and relation vectors are small."""

    def __init__(self, meeting_point: Path, rank: int, size: int) -> None:
        """Wait for all ranks; `meeting_point` is a new file of their own. Raises RunError, as all else here."""
        self.rank, self.size = rank, size
        where = f"file://{meeting_point.resolve()}"
        try:
            dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=LONGEST_ROUND)
        except RuntimeError as error:
            raise RunError(f"Trainer {rank} {LOST}: {error}") from error

    def leave(self) -> None:
        """Say goodbye."""
        dist.destroy_process_group()

    def sum(self, values: Float64[npt.NDArray[np.float64], "*s"]) -> None:
        """Add up all ranks' values, in place. Raises RunError when a rank is gone; likewise the others."""
        self._reduce(values, dist.ReduceOp.SUM)

    def most(self, values: Int64[npt.NDArray[np.int64], "*s"]) -> None:
        """The largest of all ranks' values, in place."""
        self._reduce(values, dist.ReduceOp.MAX)

    def average(
        self, array: Float32[npt.NDArray[np.float32], "r 2 d"], counts: Float64[npt.NDArray[np.float64], " r"]
    ) -> None:
        """The mean over ranks, row by row weighted by each rank's `counts`; rows that nobody counted stay. In place."""
        total = counts.copy()
        self.sum(total)
        trained = total > 0
        share = np.divide(counts, total, out=np.zeros_like(counts), where=trained)
        mine = array.astype(np.float64) * share[:, None, None]
        self.sum(mine)
        array[trained] = mine[trained]

    def accumulate(
        self, array: Float32[npt.NDArray[np.float32], "*s"], before: Float32[npt.NDArray[np.float32], "*s"]
    ) -> None:
        """What every rank added to `before`, which was the same for all, together. In place."""
        gained = array.astype(np.float64) - before
        self.sum(gained)
        array[...] = before + gained

    def _reduce(self, values: npt.NDArray[np.float64] | npt.NDArray[np.int64], how: dist.ReduceOp.RedOpType) -> None:
        try:
            dist.all_reduce(torch.from_numpy(values), how)
        except RuntimeError as error:
            raise RunError(f"Trainer {self.rank} {LOST}.") from error
