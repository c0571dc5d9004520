"""The order of an epoch for trainers on several machines: machines swap blocks of partitions, and the trainers of a
machine divide its two blocks among them."""

from dataclasses import dataclass

import numpy as np

from bundle.errors import ConfigError
from training.bucket_order import ROUND_STREAM, Round, bucket_pairs, tournament
from training.counter_rng import stream_seed
from training.partition import BucketId

Pair = tuple[int, int]
# A block, by the trainers of its machine: the partitions that each of them holds.
Block = list[list[int]]
# Of one machine: what each of its trainers trains in each round.
Game = list[list[tuple[BucketId, ...]]]


@dataclass(frozen=True, slots=True)
class BlockRound:
    """`buckets[rank]` is what a trainer trains, in this order; `holder[partition]` the trainer that trains a partition
    in this round or, where none does, next."""

    buckets: Round
    holder: tuple[int, ...]

    def trained(self) -> set[int]:
        """The partitions that any trainer trains."""
        return {partition for mine in self.buckets for bucket in mine for partition in bucket}


def block_rounds(partitions: int, machines: int, devices: int, *stream: int) -> list[BlockRound]:
    """An epoch for `machines` with `devices` trainers each, ranked machine by machine: all P² buckets, each once.

    A machine holds two of 2·machines equal blocks. The pairs of blocks are those of a round-robin tournament of days;
    from one day to the next a machine keeps one of its two. On a day its trainers divide the two: on the first they
    play such a tournament of their own, later each partition of the block that leaves stays with one trainer, and those
    of the other go round. Of what leaves each trainer is done with one partition, before it begins with the next.
    Raises ConfigError where partitions do not make equal blocks.
    """
    check_blocks(partitions, machines * devices)
    label = np.random.default_rng(stream_seed(*stream, ROUND_STREAM)).permutation(partitions)
    blocks: list[Block] = label.reshape(2 * machines, devices, -1).tolist()
    epoch: list[Round] = []
    for day, seats in enumerate(_seats(2 * machines)):
        games = []
        for leaving, staying in seats:
            game, blocks[staying] = (_later_day if day else _first_day)(blocks[leaving], blocks[staying])
            games.append(game)
        epoch += [tuple(mine for machine in turn for mine in machine) for turn in zip(*games, strict=True)]
    return _with_holders(epoch, partitions)


def check_blocks(partitions: int, ranks: int) -> None:
    """Raise ConfigError where so many partitions are not two equal shares for each trainer."""
    if partitions % (2 * ranks) or partitions < 2 * ranks:
        raise ConfigError(
            f"{ranks} trainers hold two equal blocks of partitions each: partitions is {partitions}, expected a "
            f"multiple of {2 * ranks}. Leave partitions at 0, or start another number of trainers."
        )


def most_blocks(each: int, devices: int) -> float:
    """Blocks that a trainer has in memory at the most, of `each` partitions; what it sent counts until it is trained.

    Alone on its machine it has its two, one that comes, and a fourth while shards move between epochs. Of several a
    block that goes round the machine is there twice for a moment, beside one that has partly left for another one.
    """
    return 4.0 if devices == 1 else max(4.0, 5.0 - 2.0 / each)


def seated(days: list[list[Pair]]) -> list[list[Pair]]:
    """The pairs of each day, by the player that takes them: each keeps one block of the day before, and gets one.

    Two days' pairs together are cycles of even length. Walked along one, whoever keeps a block gets with it the one
    that the next player gives away.
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


def _seats(blocks: int) -> list[list[Pair]]:
    """The days of a tournament of blocks, by the player: the one that leaves after the day, and the one that stays."""
    days = seated(tournament(blocks))
    seats = []
    for pairs, after in zip(days, [*days[1:], days[-1]], strict=True):
        stays = [set(pair) & set(then) for pair, then in zip(pairs, after, strict=True)]
        seats.append([(a, b) if b in kept else (b, a) for (a, b), kept in zip(pairs, stays, strict=True)])
    return seats


def _first_day(leaving: Block, staying: Block) -> tuple[Game, Block]:
    """All buckets among two blocks, and the one that stays as it lies then: where it lay."""
    parts = leaving + staying
    first, *later = _seats(len(parts))
    game = [[tuple(bucket_pairs(parts[a] + parts[b])) for a, b in first]]
    game += [[tuple(_between(parts[a], parts[b])) for a, b in pairs] for pairs in later]
    return game, staying


def _later_day(leaving: Block, staying: Block) -> tuple[Game, Block]:
    """All buckets between two blocks, and the one that stays as it lies then.

    Once round for each partition that a trainer gives away, and the next time from where the last one ended.
    """
    game = []
    for partitions in zip(*leaving, strict=True):
        for step in range(len(staying)):
            if step:
                staying = [*staying[1:], staying[0]]
            game.append([tuple(_between([one], kept)) for one, kept in zip(partitions, staying, strict=True)])
    return game, staying


def _other(pair: Pair, block: int) -> int:
    return pair[1] if pair[0] == block else pair[0]


def _between(leaving: list[int], staying: list[int]) -> list[BucketId]:
    """All buckets between some partitions and others: one after another meets all the others, to and fro."""
    order = []
    for turn, a in enumerate(leaving):
        for b in staying if turn % 2 == 0 else reversed(staying):
            order += [BucketId(a, b), BucketId(b, a)]
    return order


def _with_holders(epoch: list[Round], partitions: int) -> list[BlockRound]:
    """Rounds that know who holds what: whoever trains it next, or after the last time whoever did."""
    holder = [0] * partitions
    for buckets in epoch:
        _take(holder, buckets)
    rounds = []
    for buckets in reversed(epoch):
        _take(holder, buckets)
        rounds.append(BlockRound(buckets, tuple(holder)))
    return rounds[::-1]


def _take(holder: list[int], buckets: Round) -> None:
    for rank, mine in enumerate(buckets):
        for bucket in mine:
            for partition in bucket:
                holder[partition] = rank
