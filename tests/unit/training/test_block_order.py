"""The order of trainers on several machines: every bucket once an epoch, machines swap one block a day."""

from itertools import pairwise

import pytest

from bundle.errors import ConfigError
from training.block_order import BlockRound, block_rounds, most_blocks
from training.partition import BucketId

# Machines, trainers of each, partitions that a trainer gets or gives away in a day.
SIZES = [(2, 1, 1), (3, 1, 1), (5, 1, 2), (1, 3, 2), (2, 2, 1), (2, 2, 2), (3, 3, 2), (2, 4, 3), (16, 1, 2), (4, 8, 2)]


def order(machines: int, devices: int, each: int) -> list[BlockRound]:
    return block_rounds(2 * machines * devices * each, machines, devices, 1, 0)


@pytest.mark.parametrize(("machines", "devices", "each"), SIZES)
def test_every_bucket_is_trained_once_an_epoch_by_whoever_holds_it(machines: int, devices: int, each: int) -> None:
    epoch, partitions = order(machines, devices, each), 2 * machines * devices * each
    trained = [bucket for turn in epoch for mine in turn.buckets for bucket in mine]
    assert sorted(trained) == [BucketId(i, j) for i in range(partitions) for j in range(partitions)]
    for turn in epoch:
        assert len({len(mine) for mine in turn.buckets}) == 1, "nobody waits for work"
        assert turn.trained() == {partition for mine in turn.buckets for bucket in mine for partition in bucket}
        for rank, mine in enumerate(turn.buckets):
            assert {turn.holder[partition] for bucket in mine for partition in bucket} == {rank}
        most = max(turn.holder.count(rank) for rank in range(machines * devices))
        assert most <= 2 * each


@pytest.mark.parametrize(("machines", "devices", "each"), [*SIZES, (2, 2, 8), (3, 2, 4), (4, 1, 8)])
def test_no_trainer_has_more_in_memory_than_is_counted(machines: int, devices: int, each: int) -> None:
    """What was sent is there until it is waited for, which is when whoever got it trains it."""
    trainers = machines * devices
    leaving: list[set[int]] = [set() for _ in range(trainers)]
    most = 0
    for before, after in pairwise(order(machines, devices, each)):
        leaving = [gone - before.trained() for gone in leaving]
        for partition, (old, new) in enumerate(zip(before.holder, after.holder, strict=True)):
            if old != new:
                leaving[old].add(partition)
        most = max(most, *(after.holder.count(rank) + len(leaving[rank]) for rank in range(trainers)))
    assert most <= most_blocks(each, devices) * each


@pytest.mark.parametrize(("machines", "devices", "each"), SIZES)
def test_a_machine_keeps_one_block_and_gets_one(machines: int, devices: int, each: int) -> None:
    """Between machines an order of trainers sends what one of machines does: half of the tables a day but the last."""
    epoch, block = order(machines, devices, each), devices * each
    crossed = 0
    for before, after in pairwise(epoch):
        moved = [(old // devices, new // devices) for old, new in zip(before.holder, after.holder, strict=True)]
        across = [(old, new) for old, new in moved if old != new]
        assert sorted(old for old, _ in across) == sorted(new for _, new in across)
        crossed += len(across)
    assert crossed == (2 * machines - 2) * machines * block
    held = [[turn.holder.count(rank) for rank in range(machines * devices)] for turn in epoch]
    assert [sum(one[:devices]) for one in held] == [2 * block] * len(epoch)


@pytest.mark.parametrize(("machines", "devices", "each"), [size for size in SIZES if size[0] > 1])
def test_a_block_leaves_a_partition_at_a_time_while_the_rest_of_it_trains(
    machines: int, devices: int, each: int
) -> None:
    """On days after the first each trainer's partitions go one by one: those of the other block go round for each."""
    epoch = order(machines, devices, each)
    first_day = 2 * devices - 1
    assert len(epoch) == first_day + (2 * machines - 2) * each * devices
    for at, (before, after) in enumerate(pairwise(epoch), start=1):
        pairs = zip(before.holder, after.holder, strict=True)
        leaves = [old for old, new in pairs if old // devices != new // devices]
        last_day = at > len(epoch) - each * devices
        if at < first_day or last_day or (at - first_day) % devices:
            assert leaves == []
        elif at > first_day:
            assert sorted(leaves) == list(range(machines * devices))


def test_the_order_changes_with_the_epoch_and_repeats_with_the_seed() -> None:
    assert block_rounds(16, 2, 2, 1, 2) == block_rounds(16, 2, 2, 1, 2) != block_rounds(16, 2, 2, 1, 3)


@pytest.mark.parametrize("partitions", [0, 4, 12])
def test_unequal_blocks_are_refused(partitions: int) -> None:
    with pytest.raises(ConfigError, match=f"partitions is {partitions}, expected a multiple of 8"):
        block_rounds(partitions, 2, 2, 1, 0)
