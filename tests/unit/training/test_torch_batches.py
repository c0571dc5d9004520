"""Chunks made on the device against chunks made on the host: the same edges, draws, negatives and masks, to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.errors import ConfigError
from tests.support.graphs import distinct_pairs
from training.backends.base import BucketWork
from training.backends.torch_backend import alike_chunks
from training.backends.torch_batches import Batch, DeviceFeed, HostFeed, chunk_seeds
from training.backends.torch_batches import below as below_on_device
from training.backends.torch_batches import draws as draws_on_device
from training.backends.torch_step import Known
from training.chunks import make_schedule
from training.config import TrainConfig
from training.counter_rng import below, draws, stream_seed
from training.edges import BucketEdges, index_edges
from training.model import random_table, zero_relations

CPU = torch.device("cpu")


def dense_group(types: tuple[int, int], sizes: tuple[int, int], rng: np.random.Generator, weights: bool) -> BucketEdges:
    """So many edges of two relations that most chunks draw some true pairs as negatives."""
    pairs = np.concatenate([distinct_pairs(*sizes, 150, rng) for _ in range(2)])
    rel = np.repeat(np.array([0, 1], dtype=np.int32), 150)
    weight = rng.uniform(0.2, 3, len(rel)).astype(np.float32) if weights else None
    return index_edges(types, sizes, (pairs[:, 0].copy(), pairs[:, 1].copy(), rel), weight)


def dense_work(config: TrainConfig) -> BucketWork:
    rng = np.random.default_rng(3)
    groups = dense_group((0, 0), (25, 25), rng, weights=False), dense_group((0, 1), (25, 14), rng, weights=True)
    tables = random_table(25, config.dim, 0.1, rng), random_table(14, config.dim, 0.1, rng)
    weights = np.array([1.0, 0.5], dtype=np.float32)
    relations = zero_relations(2, config.dim)
    return BucketWork(groups, tables, tables, relations, weights, make_schedule(groups, config.chunk, 5))


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**64 - 1])
def test_draws_are_those_of_numpy_to_the_bit(seed: int) -> None:
    seeds = chunk_seeds(seed, torch.arange(5))
    found = draws_on_device(seeds, 40)
    for position in range(5):
        expected = draws(stream_seed(seed, position), 0, 40)
        np.testing.assert_array_equal(found[position].numpy().view(np.uint64), expected)
        for bound in (1, 7, 2**31 - 1):
            np.testing.assert_array_equal(below_on_device(found[position], bound).numpy(), below(expected, bound))


@pytest.mark.parametrize(("own", "uniform", "prevalence"), [(10, 21, 6), (0, 21, 0), (16, 0, 0), (0, 0, 9), (40, 3, 3)])
def test_batches_of_device_and_host_are_equal(own: int, uniform: int, prevalence: int) -> None:
    """In every mix of negatives, for whole chunks together and for the short last chunk of each group."""
    config = TrainConfig(
        dim=4, chunk=16, negatives_in_batch=own, negatives_uniform=uniform, negatives_prevalence=prevalence
    )
    work = dense_work(config)
    host, device = HostFeed(work, config, CPU), DeviceFeed(work, config, CPU)
    alike = alike_chunks(work.schedule, 0, len(work.schedule), config.chunk)
    assert sorted(len(positions) for positions in alike) == [1, 1, 18, 18]
    known = 0
    for positions in alike:
        expected, found = host.batch(positions), device.batch(positions)
        known += int(mask(expected, expected.known_targets).sum())
        for one, other in zip(comparable(found), comparable(expected), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert known > 0


def comparable(batch: Batch) -> list[Tensor]:
    """All fields as tensors: the host's true pairs are places, the device's a mask."""
    types = torch.tensor([batch.source_type, batch.target_type])
    columns = [batch.src, batch.dst, batch.rel, batch.weight, batch.negative_targets, batch.negative_sources]
    return [types, *columns, mask(batch, batch.known_targets), mask(batch, batch.known_sources)]


def mask(batch: Batch, known: Known) -> Tensor:
    out = torch.zeros(*batch.src.shape, batch.negative_targets.shape[1], dtype=torch.bool)
    out[known] = True
    return out


def test_a_bucket_too_large_for_its_keys_is_refused() -> None:
    config = TrainConfig(dim=4, chunk=16)
    work = dense_work(config)
    big = replace(work.groups[0], n_source=2**31, n_target=2**32)
    with pytest.raises(ConfigError, match="Use more partitions"):
        DeviceFeed(replace(work, groups=(big, work.groups[1])), config, CPU)
