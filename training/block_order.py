"""The order of an epoch for trainers on several machines: each holds two blocks of partitions, swaps one a round."""

from dataclasses import dataclass

import numpy as np

from bundle.errors import ConfigError
from training.bucket_order import ROUND_STREAM, Round, bucket_pairs, tournament
from training.counter_rng import stream_seed
from training.partition import BucketId

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BlockRound:
    """`buckets[rank]` is what a trainer trains, in this order; `holder[partition]` the trainer that holds it."""

    buckets: Round
    holder: tuple[int, ...]


def block_rounds(partitions: int, ranks: int, *stream: int) -> list[BlockRound]:
    """An epoch for `ranks` trainers that hold two of 2·ranks equal blocks each: all P² buckets, each once.

    The pairs of blocks are those of a round-robin tournament; from one round to the next a trainer keeps one of its two
    blocks. In a round after the first a partition of the block that leaves is done with before the next one begins.
    Raises ConfigError where partitions do not make equal blocks.
    """
    check_blocks(partitions, ranks)
    label = np.random.default_rng(stream_seed(*stream, ROUND_STREAM)).permutation(partitions)
    blocks: list[list[int]] = label.reshape(2 * ranks, -1).tolist()
    days = seated(tournament(2 * ranks))
    epoch = []
    for day, pairs in enumerate(days):
        after = days[min(day + 1, len(days) - 1)]
        holder, buckets = [0] * partitions, []
        for rank, pair in enumerate(pairs):
            leaving, staying = (blocks[block] for block in sorted(pair, key=lambda one: one in after[rank]))
            for partition in leaving + staying:
                holder[partition] = rank
            buckets.append(tuple(bucket_pairs(leaving + staying) if day == 0 else _between(leaving, staying)))
        epoch.append(BlockRound(tuple(buckets), tuple(holder)))
    return epoch


def check_blocks(partitions: int, ranks: int) -> None:
    """Raise ConfigError where so many partitions are not two equal blocks for each trainer."""
    if partitions % (2 * ranks) or partitions < 2 * ranks:
        raise ConfigError(
            f"{ranks} trainers hold two equal blocks of partitions each: partitions is {partitions}, expected a "
            f"multiple of {2 * ranks}. Leave partitions at 0, or start another number of trainers."
        )


def seated(days: list[list[Pair]]) -> list[list[Pair]]:
    """The pairs of each day, by the trainer that takes them: each keeps one block of the day before, and gets one.

    Two days' pairs together are cycles of even length. Walked along one, whoever keeps a block gets with it the one
    that the next trainer gives away.
    """
    seats = [days[0]]
    for pairs in days[1:]:
        before = seats[-1]
        holder = {block: rank for rank, pair in enumerate(before) for block in pair}
        pair_of = {block: pair for pair in pairs for block in pair}
        taken: dict[int, Pair] = {}
        for start in range(len(pairs)):
            rank, kept = start, before[start][0]
            while rank not in taken:
                taken[rank] = pair_of[kept]
                gets = _other(pair_of[kept], kept)
                rank = holder[gets]
                kept = _other(before[rank], gets)
        seats.append([taken[rank] for rank in range(len(pairs))])
    return seats


def _other(pair: Pair, block: int) -> int:
    return pair[1] if pair[0] == block else pair[0]


def _between(leaving: list[int], staying: list[int]) -> list[BucketId]:
    """All buckets between two blocks: one partition that leaves after another meets all that stay, to and fro."""
    order = []
    for turn, a in enumerate(leaving):
        for b in staying if turn % 2 == 0 else reversed(staying):
            order += [BucketId(a, b), BucketId(b, a)]
    return order
