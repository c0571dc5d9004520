"""The order of trainers on several machines: every bucket once an epoch, one block swapped a round."""

import pytest

from bundle.errors import ConfigError
from training.block_order import block_rounds
from training.partition import BucketId

SIZES = [(2, 1), (3, 1), (5, 1), (2, 2), (3, 2), (4, 3), (16, 2)]


@pytest.mark.parametrize(("ranks", "each"), SIZES)
def test_every_bucket_is_trained_once_an_epoch_by_whoever_holds_it(ranks: int, each: int) -> None:
    partitions = 2 * ranks * each
    epoch = block_rounds(partitions, ranks, 1, 0)
    trained = [bucket for day in epoch for mine in day.buckets for bucket in mine]
    assert sorted(trained) == [BucketId(i, j) for i in range(partitions) for j in range(partitions)]
    for day in epoch:
        assert sorted(day.holder) == [rank for rank in range(ranks) for _ in range(2 * each)]
        for rank, mine in enumerate(day.buckets):
            assert {day.holder[partition] for bucket in mine for partition in bucket} == {rank}


@pytest.mark.parametrize(("ranks", "each"), SIZES)
def test_a_trainer_keeps_one_block_and_gets_one(ranks: int, each: int) -> None:
    epoch = block_rounds(2 * ranks * each, ranks, 1, 0)
    assert len(epoch) == 2 * ranks - 1
    for before, after in zip(epoch[:-1], epoch[1:], strict=True):
        moved = [(old, new) for old, new in zip(before.holder, after.holder, strict=True) if old != new]
        assert sorted(old for old, _ in moved) == sorted(new for _, new in moved)
        assert len(moved) == ranks * each


@pytest.mark.parametrize(("ranks", "each"), SIZES)
def test_what_leaves_is_done_with_one_after_the_other(ranks: int, each: int) -> None:
    epoch = block_rounds(2 * ranks * each, ranks, 1, 0)
    for before, after in zip(epoch[1:-1], epoch[2:], strict=True):
        for rank, mine in enumerate(before.buckets):
            leaving = [p for p in range(len(before.holder)) if before.holder[p] == rank != after.holder[p]]
            turns = [next(p for p in bucket if p in leaving) for bucket in mine]
            assert sum(one != other for one, other in zip(turns[:-1], turns[1:], strict=True)) == len(leaving) - 1
            staying = [next(p for p in bucket if p not in leaving) for bucket in mine]
            swaps = sum(one != other for one, other in zip(staying[:-1], staying[1:], strict=True))
            assert swaps == len(leaving) * (len(leaving) - 1), "the next begins with the partition that is there"


def test_the_order_changes_with_the_epoch_and_repeats_with_the_seed() -> None:
    assert block_rounds(8, 2, 1, 2) == block_rounds(8, 2, 1, 2) != block_rounds(8, 2, 1, 3)


@pytest.mark.parametrize("partitions", [0, 2, 6])
def test_unequal_blocks_are_refused(partitions: int) -> None:
    with pytest.raises(ConfigError, match=f"partitions is {partitions}, expected a multiple of 4"):
        block_rounds(partitions, 2, 1, 0)
