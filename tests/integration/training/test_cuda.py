"""Training on a real GPU beside the CPU; where there is none, these are skipped and other tests stand in for them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.prepared import PreparedGraph
from evaluation.links import evaluate_links
from training.backends.torch_backend import choose_update, torch_update
from training.backends.torch_step import Rates, TorchTable
from training.config import TrainConfig
from training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or a CPU build of torch")


def test_the_update_chosen_for_the_gpu_agrees_with_torch() -> None:
    generator = torch.Generator("cuda").manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=generator)

    rows = torch.randint(0, 1000, (20_000,), device="cuda", generator=generator)
    gradient, vectors, state = normal(20_000, 128), normal(1000, 128), normal(1000).abs()
    expected = TorchTable(vectors.clone(), state.clone(), normal(1000, 128))
    found = TorchTable(vectors, state, expected.previous)
    rates = Rates(0.1, 0.05, 0.02)
    torch_update(expected, rows, gradient, rates)
    choose_update(torch.device("cuda"))(found, rows, gradient, rates)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.accumulator, expected.accumulator, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_gpu_learns_what_the_cpu_learns(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path, partitions: int
) -> None:
    """Same draws, same order: after one epoch vectors differ by rounding alone, after five the quality hardly does."""
    settings = {"partitions": partitions, "chunks_per_update": 4, "backend": "torch"}
    for epochs in (1, 5):
        for device in ("cpu", "cuda"):
            chosen = config.model_copy(update={**settings, "device": device, "epochs": epochs})
            train(circles, tmp_path / f"{device}-{epochs}", chosen)
    one, other = (np.load(tmp_path / f"{device}-1" / "vectors" / "user.npy") for device in ("cpu", "cuda"))
    assert np.linalg.norm(other - one) < 0.01 * np.linalg.norm(one)
    expected, found = (evaluate_links(tmp_path / f"{device}-5").overall.mrr for device in ("cpu", "cuda"))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_learn_as_well_as_one(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    train(circles, tmp_path / "one", config)
    train(circles, tmp_path / "two", config.model_copy(update={"device": "cuda", "devices": 2}))
    one, two = (evaluate_links(tmp_path / name).overall.mrr for name in ("one", "two"))
    assert two > 0.9 * one
