"""Algorithm 1's plan: every bucket once, two partitions at a time, one swap a step."""

import numpy as np
import pytest

from bundle.errors import ConfigError
from training.config import TrainConfig
from training.memory import Footprint, choose_partitions
from training.partition import bucket_order, partition_rows


@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 7, 16])
def test_every_bucket_is_visited_once_and_each_swap_brings_in_one_partition(partitions: int) -> None:
    order = bucket_order(partitions, 1, 2)
    assert len(order) == partitions**2 == len(set(order))
    held: set[int] = set()
    for bucket in order:
        assert len(set(bucket) - held) <= 1
        kept = {p for p in held if p in bucket} | set(bucket)
        held = kept if len(kept) == 2 else held | set(bucket) if len(held) < 2 else kept


def test_the_order_changes_with_the_epoch_and_repeats_with_the_seed() -> None:
    assert bucket_order(8, 1, 2) == bucket_order(8, 1, 2) != bucket_order(8, 1, 3)


@pytest.mark.parametrize("partitions", [1, 5])
def test_rows_are_dealt_out_evenly_and_found_again(partitions: int) -> None:
    dealt = partition_rows(10_000, partitions, 3)
    assert dealt.sizes.sum() == 10_000
    assert dealt.sizes.min() > 10_000 / partitions * 0.9
    for p in range(partitions):
        rows = dealt.rows(p)
        np.testing.assert_array_equal(dealt.local[rows], np.arange(len(rows)))


def test_partitions_follow_from_the_memory_limit() -> None:
    need = Footprint(process=100, fixed=100, tables=8_000, edges=800)
    assert choose_partitions(need, TrainConfig()) == 1
    assert choose_partitions(need, TrainConfig(memory=10_000)) == 1
    chosen = choose_partitions(need, TrainConfig(memory=2_200))
    assert need.total(chosen) <= 2_200 < need.total(chosen - 1)
    assert choose_partitions(need, TrainConfig(partitions=3, memory=1)) == 3
    with pytest.raises(ConfigError, match="Allow more memory"):
        choose_partitions(need, TrainConfig(memory=150))
