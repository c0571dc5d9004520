"""The update of a table's rows: in plain torch, or by the fused Triton kernel where there is one to run."""

import importlib.util
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from training.backends.torch_step import Rates, TorchTable, adagrad, adagrad_rows


@runtime_checkable
class Update(Protocol):
    """Moves rows by Adagrad, in place: row-wise, or each coordinate for itself where the table keeps state for each."""

    def __call__(
        self, table: TorchTable, rows: Int64[Tensor, " m"], gradient: Float[Tensor, "m d"], rates: Rates
    ) -> None:
        """One gradient for each of `rows`; those of equal rows are added up first."""
        ...


def torch_update(table: TorchTable, rows: Int64[Tensor, " m"], gradient: Float[Tensor, "m d"], rates: Rates) -> None:
    """See Update: the reference."""
    if table.accumulator.ndim == 2:
        adagrad(table.vectors, table.accumulator, rows, gradient, rates.learning)
    else:
        adagrad_rows(table, rows, gradient, rates)


def choose_update(device: torch.device) -> Update:
    """The fused kernel on an NVIDIA GPU with Triton, which CUDA builds of torch bring along; else torch."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from training.backends.triton_update import triton_update

        return triton_update
    return torch_update
