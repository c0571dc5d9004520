"""Edges a second of the torch step on a GPU, for two dimensions and two numbers of negatives, beside the card's limits.

    python -m benchmarks.train_gpu
    python -m benchmarks.train_gpu --device cpu --edges 20000 --nodes 2000 --seconds 1

100M edges and 20M nodes by default: about 32 GB of the card's memory and 40 GB of the host's.

One partition, power-law ends, seeded. No figure of a GPU has been recorded yet: see docs/gpu.md.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from training.backends.base import BucketWork
from training.backends.torch_backend import TorchBackend
from training.chunks import make_schedule
from training.config import TrainConfig
from training.edges import BucketEdges, index_edges
from training.model import random_table, zero_relations

SKEW = 1.5
CHUNKS = 64


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    dim: int
    negatives: int
    products: str


CASES = [Case(dim, negatives, products) for dim in (128, 256) for negatives in (100, 1000)
         for products in ("float32", "bfloat16")]  # fmt: skip


def edges_of(nodes: int, edges: int, rng: np.random.Generator) -> BucketEdges:
    """Both ends follow a power law; equal pairs stay in."""
    source, target = ((nodes * rng.random(edges, dtype=np.float32) ** SKEW).astype(np.int32) for _ in range(2))
    relation = rng.integers(0, 4, edges, dtype=np.int32)
    ends = np.minimum(source, nodes - 1), np.minimum(target, nodes - 1)
    return index_edges((0, 0), (nodes, nodes), (*ends, relation), None)


def limits(device: torch.device) -> str:
    """What the card does at best: products of two square matrices, and a copy."""
    size = 8192 if device.type == "cuda" else 1024
    rates = []
    for numbers in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device, dtype=numbers)
        rates.append(2 * size**3 / timed(partial(torch.matmul, a, a), device) / 1e12)
    block = torch.empty(size * size * 4, device=device)
    moved = 2 * block.nbytes / timed(lambda: block.clone(), device) / 1e9
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}: {rates[0]:.1f} TFLOP/s float32, {rates[1]:.1f} bfloat16, copy {moved:.0f} GB/s"


def timed(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Seconds a call, after one to warm up."""
    work()
    finish(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    finish(device)
    return (time.perf_counter() - began) / repeats


def finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(case: Case, edges: BucketEdges, device: str, seconds: float) -> float:
    """Edges a second, waiting for the device included."""
    own = min(64, case.negatives)
    config = TrainConfig.model_validate(
        {
            "dim": case.dim,
            "negatives_in_batch": own,
            "negatives_uniform": case.negatives - own,
            "chunks_per_update": CHUNKS,
            "products": case.products,
            "device": device,
        }
    )
    table = (random_table(edges.n_source, case.dim, 0.1, np.random.default_rng(1)),)
    schedule = make_schedule((edges,), config.chunk, 1)
    work = BucketWork((edges,), table, table, zero_relations(4, case.dim), np.ones(4, dtype=np.float32), schedule)
    session = TorchBackend(config, torch.get_num_threads(), copies=True).open(work)
    span = min(16 * CHUNKS, len(schedule) // 4)
    session.run(0, span)
    at, seen, began = span, 0, time.perf_counter()
    while at + span <= len(schedule) and time.perf_counter() - began < seconds:
        seen += session.run(at, at + span).edges
        at += span
    return seen / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--nodes", type=int, default=20_000_000)
    parser.add_argument("--edges", type=int, default=100_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    print(limits(torch.device(asked.device)))
    edges = edges_of(asked.nodes, asked.edges, np.random.default_rng(1))
    print("| d | negatives a direction | products | edges/s | TFLOP/s |\n|---|---|---|---|---|")
    for case in CASES:
        found = rate(case, edges, asked.device, asked.seconds)
        flops = found * 2 * 3 * 2 * case.dim * case.negatives / 1e12
        print(f"| {case.dim} | {case.negatives} | {case.products} | {found:,.0f} | {flops:.2f} |", flush=True)


if __name__ == "__main__":
    main()
