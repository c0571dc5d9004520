"""The order of an epoch's P² buckets: for one process, or in rounds for several that never share a partition."""

import numpy as np

from bundle.errors import ConfigError
from training.counter_rng import stream_seed
from training.partition import BucketId

ORDER_STREAM, ROUND_STREAM = 4, 9

# What is trained before processes meet: `round[rank]` are the buckets of one of them, perhaps none.
Round = tuple[tuple[BucketId, ...], ...]


def epoch_rounds(partitions: int, ranks: int, *stream: int) -> list[Round]:
    """An epoch for `ranks` processes: all P² buckets, each once, shuffled by `stream`.

    Raises ConfigError for fewer than two partitions each of several processes.
    """
    if ranks == 1:
        return [((bucket,),) for bucket in bucket_order(partitions, *stream)]
    return rounds(partitions, ranks, *stream)


def partitions_for(least: int, ranks: int) -> int:
    """The smallest number of partitions that is at least `least` and leaves none of `ranks` trainers idle."""
    step = 2 * ranks
    return -(-max(least, 1) // step) * step


def check_partitions(partitions: int, ranks: int) -> None:
    """Raise ConfigError for fewer than two partitions a rank."""
    if partitions < 2 * ranks:
        raise ConfigError(
            f"{ranks} devices hold two partitions each: partitions is {partitions}, expected at least {2 * ranks}. "
            "Leave partitions at 0, or name fewer devices."
        )


def bucket_order(partitions: int, *stream: int) -> list[BucketId]:
    """All P² buckets, so that two partitions suffice at a time and each swap brings in one.

    Partition a is held while b runs down to a's successor, which is held next; labels are shuffled by `stream`.
    """
    label = np.random.default_rng(stream_seed(*stream, ORDER_STREAM)).permutation(partitions).tolist()
    return bucket_pairs(label)


def bucket_pairs(label: list[int]) -> list[BucketId]:
    """All buckets of some partitions, in the order of `bucket_order`: the first is done with first."""
    order: list[BucketId] = []
    met: set[int] = set()
    n = len(label)
    pairs = [(label[a], label[b]) for a in range(n) for b in range(n - 1, a, -1)] or [(label[0], label[0])]
    for a, b in pairs:
        order += _buckets(a, b, met) if a != b else [BucketId(a, a)]
    return order


def rounds(partitions: int, ranks: int, *stream: int) -> list[Round]:
    """An epoch for several processes, as in PyTorch-BigGraph (Lerer et al. 2019): no two share a partition in a round.

    A rank holds two partitions in a round and trains every bucket between them, so no other rank touches them. The
    pairs are those of a round-robin tournament. Raises ConfigError for fewer than two partitions a rank.
    """
    check_partitions(partitions, ranks)
    label = np.random.default_rng(stream_seed(*stream, ROUND_STREAM)).permutation(partitions).tolist()
    met: set[int] = set()
    epoch: list[Round] = []
    for pairs in tournament(partitions):
        for first in range(0, len(pairs), ranks):
            held = [(label[a], label[b]) for a, b in pairs[first : first + ranks]]
            epoch.append((*(_buckets(a, b, met) for a, b in held), *[()] * (ranks - len(held))))
    return epoch


def tournament(players: int) -> list[list[tuple[int, int]]]:
    """Every two players meet once, nobody twice in a round: one player stays, the others move round the table."""
    table = list(range(players + players % 2))  # with an odd number one sits out
    days = []
    for _ in range(len(table) - 1):
        facing = zip(table[: len(table) // 2], reversed(table), strict=False)
        days.append([(a, b) for a, b in facing if max(a, b) < players])
        table = [table[0], table[-1], *table[1:-1]]
    return days


def _buckets(a: int, b: int, met: set[int]) -> tuple[BucketId, ...]:
    """Both directions between two partitions, and before them what lies within one that was not held yet."""
    new = [p for p in (a, b) if p not in met]
    met.update(new)
    return (*(BucketId(p, p) for p in new), BucketId(a, b), BucketId(b, a))
