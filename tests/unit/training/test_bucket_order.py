"""The schedule of several trainers: every bucket once an epoch, no partition with two trainers at once."""

import pytest

from bundle.errors import ConfigError
from training.bucket_order import partitions_for, rounds
from training.partition import BucketId


@pytest.mark.parametrize(
    ("partitions", "ranks"), [(2, 1), (4, 2), (5, 2), (6, 2), (8, 2), (6, 3), (7, 3), (16, 8), (4, 1)]
)
def test_every_bucket_is_trained_once_an_epoch(partitions: int, ranks: int) -> None:
    trained = [bucket for each in rounds(partitions, ranks, 1, 0) for mine in each for bucket in mine]
    assert sorted(trained) == [BucketId(i, j) for i in range(partitions) for j in range(partitions)]


@pytest.mark.parametrize(("partitions", "ranks"), [(4, 2), (5, 2), (12, 3), (16, 8)])
def test_no_two_trainers_share_a_partition_and_each_holds_two(partitions: int, ranks: int) -> None:
    for each in rounds(partitions, ranks, 1, 0):
        assert len(each) == ranks
        held = [{partition for bucket in mine for partition in bucket} for mine in each]
        assert all(len(partitions) <= 2 for partitions in held)
        assert sum(map(len, held)) == len(set().union(*held))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_nobody_waits_when_the_partitions_are_a_multiple(ranks: int) -> None:
    for least in (1, 2 * ranks, 2 * ranks + 1):
        partitions = partitions_for(least, ranks)
        assert least <= partitions < least + 2 * ranks
        assert all(mine for each in rounds(partitions, ranks, 1, 0) for mine in each)


def test_the_rounds_change_with_the_epoch_and_repeat_with_the_seed() -> None:
    assert rounds(8, 2, 1, 2) == rounds(8, 2, 1, 2) != rounds(8, 2, 1, 3)


def test_too_few_partitions_are_refused() -> None:
    with pytest.raises(ConfigError, match="partitions is 3, expected at least 4"):
        rounds(3, 2, 1, 0)
