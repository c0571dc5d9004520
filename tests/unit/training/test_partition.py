"""Algorithm 1's plan: every bucket once, two partitions at a time, one swap a step."""

from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import forget_pages, map_array
from bundle.errors import ConfigError
from bundle.ids import IntIds
from bundle.shards import by_shard, shard_of
from training.bucket_order import bucket_order
from training.config import TrainConfig
from training.counter_rng import normals_at
from training.memory import MIB, Footprint, fewest_partitions
from training.partition import check_enough_shards, group_shards, most_partitions


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


@pytest.mark.parametrize("partitions", [1, 5, 64])
def test_shards_are_grouped_evenly_and_their_rows_found_again(partitions: int) -> None:
    shards = by_shard(shard_of(IntIds(np.arange(100_000, dtype=np.int64) * 3), 256), 256)
    groups = group_shards(shards, partitions, 3)
    assert set(np.bincount(groups.part, minlength=partitions)) <= {256 // partitions, -(-256 // partitions)}
    assert sorted(np.concatenate([groups.rows(p) for p in range(partitions)]).tolist()) == list(range(100_000))
    for p in range(partitions):
        assert len(groups.rows(p)) == groups.sizes[p]
        for shard in groups.members(p)[:3].tolist():
            here = slice(groups.base[shard], groups.base[shard] + shards.counts[shard])
            np.testing.assert_array_equal(groups.rows(p)[here], shards.of(np.array([shard])))


def test_groups_change_with_the_epoch_and_repeat_with_the_seed() -> None:
    shards = by_shard(np.arange(512, dtype=np.uint16) % 256, 256)
    parts = [group_shards(shards, 8, 1, epoch).part.tolist() for epoch in (0, 1, 0)]
    assert parts[0] == parts[2] != parts[1]


def test_a_partition_has_four_shards_or_more() -> None:
    assert most_partitions(256) == 64
    check_enough_shards(64, 256)
    with pytest.raises(ConfigError, match="partitions is 65, expected at most 64: the graph has 256 shards"):
        check_enough_shards(65, 256)


def test_partitions_follow_from_the_memory_limit() -> None:
    """A graph of 4 GiB of tables and a heavy head of edges in a process of 60 MiB."""
    need = Footprint(
        process=60 * MIB, fixed=30 * MIB, row_maps=48 * MIB, tables=4096 * MIB, offsets=128 * MIB, edges=560 * MIB,
        sorting=1280 * MIB, rows=8 * MIB, shards=1024,
    )  # fmt: skip
    assert fewest_partitions(need, TrainConfig()) == 1
    chosen = [fewest_partitions(need, with_memory(f"{size}MiB")) for size in (6000, 4000, 1000, 300)]
    assert chosen[:2] == [1, 4]
    for size, partitions in zip((1000, 300), chosen[2:], strict=True):
        assert need.total(partitions) <= size * MIB < min(need.total(fewer) for fewer in range(4, partitions))
    assert fewest_partitions(need, TrainConfig(partitions=3)) == 3
    with pytest.raises(ConfigError, match="Allow more memory"):
        fewest_partitions(need, with_memory("110MiB"))


def with_memory(memory: str) -> TrainConfig:
    return TrainConfig.model_validate({"memory": memory})


def test_pages_of_a_mapped_file_are_resident_until_they_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.ones(32 * MIB, dtype=np.uint8))
    mapped = map_array(file)
    assert mapped[5:].sum(dtype=np.int64) == 32 * MIB - 5
    assert resident(file) > 30 * MIB
    forget_pages(mapped[5:])
    assert resident(file) < 2 * MIB
    assert mapped[-1] == 1
    forget_pages(np.ones(3))
    forget_pages(None)


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process, on whatever file system it lies."""
    mapping = Path("/proc/self/smaps").read_text(encoding="utf-8").split(f"{file}\n")[1]
    return int(mapping.split("Rss:")[1].split()[0]) * 1024


def test_normal_numbers_of_a_row_depend_on_nothing_else() -> None:
    rows = np.array([7, 3, 2**40], dtype=np.int64)
    drawn = normals_at(5, rows, 33)
    np.testing.assert_array_equal(normals_at(5, rows[1:], 33), drawn[1:])
    many = normals_at(5, np.arange(20_000, dtype=np.int64), 32)
    assert abs(many.mean()) < 0.01
    assert many.std() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(many[:, :16].ravel(), many[:, 16:].ravel())[0, 1]) < 0.01
    assert np.isfinite(many).all()
