"""Partitions of trainers on several machines: each holds two blocks in memory, and they travel between them."""

import secrets
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bundle.errors import RunError
from training.block_order import BlockRound
from training.checkpoint import PartitionFiles, Position, RunKey, Tables, Together
from training.distributed.torchrun import TorchrunGroup, Transfer
from training.initial import InitialTables
from training.model import EmbeddingTable, Relations
from training.partition import Partitioning

F32 = npt.NDArray[np.float32]


class HeldPartitions:
    """See Homes. `rounds` gives an epoch's order; `files` are this trainer's own, for its checkpoints alone.

    A partition that leaves is sent as soon as it has been trained, and what comes is received meanwhile, so a trainer
    holds up to three blocks, and four while shards move.
    """

    def __init__(
        self,
        group: TorchrunGroup,
        files: PartitionFiles,
        partitionings: tuple[Partitioning, ...],
        initial: InitialTables,
        dim: int,
        rounds: Callable[[int], list[BlockRound]],
    ) -> None:
        self._group, self._files, self._partitionings = group, files, partitionings
        self._initial, self._dim, self._rounds = initial, dim, lru_cache(1)(rounds)
        self._tables: dict[int, Tables] = {}
        self._coming: dict[int, Tables] = {}
        # The trainer of each partition, now and after the present round.
        self._holder = self._next = self._rounds(0)[0].holder
        self._leaving: set[int] = set()
        self._in_turn = False
        self._transfers: list[Transfer] = []

    def restore(self) -> None:
        """Begin with what the restored files of all trainers hold. Raises RunError where a partition is missing."""
        held = {partition: self._files.load(partition) for partition in self._files.partitions()}
        holder = np.full(len(self._partitionings[0].sizes), -1, dtype=np.int64)
        holder[list(held)] = self._group.rank
        self._group.most(holder)
        if holder.min() < 0:
            lost = ", ".join(map(str, np.flatnonzero(holder < 0).tolist()))
            raise RunError(
                f"The checkpoints of all trainers together lack the partitions {lost}. Train from the start."
            )
        self._tables, self._holder = held, tuple(holder.tolist())

    def load(self, partition: int) -> Tables:
        """See PartitionStore. What is trained is what is held; a device's copy lives as long as what this gives."""
        return tuple(
            EmbeddingTable(table.vectors[:], table.accumulator[:], table.previous) for table in self._held(partition)
        )

    def save(self, partition: int, tables: Tables) -> None:
        """See PartitionStore. A partition that leaves is sent when it is done with."""
        if self._in_turn and partition in self._leaving:
            self._send(partition)

    def begin(self, epoch: int, step: int) -> None:
        """See Homes."""
        rounds = self._rounds(epoch)
        now = rounds[step].holder
        if self._holder != now:  # trainers have other numbers than before they resumed
            self._ask(now)
            self.meet()
        self._ask(rounds[min(step + 1, len(rounds) - 1)].holder)
        self._in_turn = step > 0  # in the first round a partition comes again

    def meet(self) -> None:
        """See Homes."""
        self._in_turn = False
        for partition in sorted(self._leaving):
            self._send(partition)
        self._settle()
        self._tables |= self._coming
        self._coming, self._holder = {}, self._next

    def regroup(self, epoch: int, partitionings: tuple[Partitioning, ...]) -> None:
        """See Homes: each shard goes straight from one table to another, here or there."""
        before = self._partitionings
        self._partitionings, self._initial = partitionings, self._initial.partitioned(partitionings)
        after = self._rounds(epoch)[0].holder
        mine = [partition for partition, rank in enumerate(after) if rank == self._group.rank]
        moved = [self._move(kind, before[kind], mine, after) for kind in range(len(partitionings))]
        self._tables = dict(zip(mine, zip(*moved, strict=True), strict=True))
        self._holder = after

    def commit(self, key: RunKey, grouped: int, position: Position, relations: Relations) -> None:
        """See Homes: each writes what it holds, and nobody gives up the last checkpoint before all have."""
        [mark, *_] = self._group.gathered(secrets.token_hex(8) if self._group.rank == 0 else "")
        mine = [partition for partition, rank in enumerate(self._holder) if rank == self._group.rank]
        self._files.hold({partition: self._held(partition) for partition in mine})
        together = Together(self._group.size, mark, self._group.wait)
        self._files.commit(key, grouped, position, relations, together)

    def collect(self) -> PartitionFiles:
        """See Homes: one partition after the other travels to the first trainer, which writes it."""
        first = self._group.rank == 0
        self._next = (0,) * len(self._holder)
        for partition, rank in enumerate(self._holder):
            if rank == 0:
                continue
            if rank == self._group.rank:
                self._send(partition)
            elif first:
                self._receive(partition, rank)
            self._settle()
            if first:
                self._files.save(partition, self._coming.pop(partition))
        return self._files

    def _held(self, partition: int) -> Tables:
        if partition not in self._tables:
            kinds = range(len(self._partitionings))
            self._tables[partition] = tuple(self._initial.table(kind, partition) for kind in kinds)
        return self._tables[partition]

    def _ask(self, after: tuple[int, ...]) -> None:
        """Receive what comes to this trainer from now on, and know what leaves."""
        me, self._next = self._group.rank, after
        moves = [(partition, *ranks) for partition, ranks in enumerate(zip(self._holder, after, strict=True))]
        self._leaving = {partition for partition, now, then in moves if now == me != then}
        for partition, now, then in moves:
            if then == me != now:
                self._receive(partition, now)

    def _send(self, partition: int) -> None:
        tables = self._held(partition)
        del self._tables[partition]
        self._leaving.discard(partition)
        for tag, array in self._parts(partition, tables):
            self._transfers.append(self._group.send(array, self._next[partition], tag))

    def _receive(self, partition: int, source: int) -> None:
        tables = tuple(
            self._empty(groups, partition, self._initial.previous(kind, partition))
            for kind, groups in enumerate(self._partitionings)
        )
        self._coming[partition] = tables
        for tag, array in self._parts(partition, tables):
            self._transfers.append(self._group.receive(array, source, tag))

    def _empty(self, groups: Partitioning, partition: int, previous: F32 | None = None) -> EmbeddingTable:
        size = int(groups.sizes[partition])
        return EmbeddingTable(np.empty((size, self._dim), np.float32), np.empty(size, np.float32), previous)

    def _parts(self, partition: int, tables: Tables) -> Iterator[tuple[int, F32]]:
        """The arrays of a partition that travel, each with its tag; an empty one stays."""
        for kind, table in enumerate(tables):
            for part, array in enumerate((table.vectors, table.accumulator)):
                if array.size:
                    yield (partition * len(tables) + kind) * 2 + part, array

    def _move(self, kind: int, before: Partitioning, mine: list[int], after: tuple[int, ...]) -> list[EmbeddingTable]:
        """One type's tables of the partitions `mine`, whose shards lie in the partitions of `before`."""
        groups, holder, me = self._partitionings[kind], self._holder, self._group.rank
        there = {
            partition: self._empty(groups, partition, self._initial.previous(kind, partition)) for partition in mine
        }
        here = {partition: self._held(partition)[kind] for partition, rank in enumerate(holder) if rank == me}
        for shard, count in enumerate(groups.shards.counts.tolist()):
            old, new = int(before.part[shard]), int(groups.part[shard])
            source, target = holder[old], after[new]
            if count == 0 or me not in (source, target):
                continue
            gone, come = (slice(int(each.base[shard]), int(each.base[shard]) + count) for each in (before, groups))
            out = [] if source != me else [here[old].vectors[gone], here[old].accumulator[gone]]
            into = [] if target != me else [there[new].vectors[come], there[new].accumulator[come]]
            for part in range(2):
                if source == target:
                    into[part][...] = out[part]
                elif source == me:
                    self._transfers.append(self._group.send(out[part], target, 2 * shard + part))
                else:
                    self._transfers.append(self._group.receive(into[part], source, 2 * shard + part))
        self._settle()
        return [there[partition] for partition in mine]

    def _settle(self) -> None:
        """Wait for all transfers under way."""
        for transfer in self._transfers:
            transfer.wait()
        self._transfers.clear()
