"""Partitions of trainers on several machines: each holds its share in memory, and they travel between them."""

import secrets
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bundle.errors import RunError
from training.block_order import BlockRound
from training.checkpoint import PartitionFiles, Position, RunKey, Tables, Together
from training.distributed.torchrun import TorchrunGroup
from training.distributed.wire import Exchange, Move, Wire
from training.initial import InitialTables
from training.model import EmbeddingTable, Relations
from training.partition import Partitioning

F32 = npt.NDArray[np.float32]


class HeldPartitions:
    """See Homes. `rounds` gives an epoch's order; `files` are this trainer's own, for its checkpoints alone.

    What another trainer trains next leaves when a round ends, and is waited for where the round begins that trains it,
    so a block travels to another machine while this one trains. How much a trainer then
    has in memory with the order of `block_rounds` is `most_blocks`.
    """

    def __init__(
        self,
        group: TorchrunGroup,
        wire: Wire,
        files: PartitionFiles,
        partitionings: tuple[Partitioning, ...],
        initial: InitialTables,
        dim: int,
        rounds: Callable[[int], list[BlockRound]],
    ) -> None:
        self._group, self._wire, self._files, self._partitionings = group, wire, files, partitionings
        self._initial, self._dim, self._rounds = initial, dim, lru_cache(1)(rounds)
        self._tables: dict[int, Tables] = {}
        # The trainer of each partition, now and after the present round.
        self._holder = self._next = self._rounds(0)[0].holder
        self._under_way: list[tuple[set[int], Exchange]] = []

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
        """See PartitionStore: it is held already."""

    def begin(self, epoch: int, step: int) -> None:
        """See Homes."""
        rounds = self._rounds(epoch)
        if self._holder != rounds[step].holder:  # trainers have other numbers than before they resumed
            self._hand_over(rounds[step].holder)
        self._arrive(rounds[step].trained())
        self._next = rounds[min(step + 1, len(rounds) - 1)].holder

    def meet(self) -> None:
        """See Homes: what others train next sets out."""
        self._hand_over(self._next)

    def regroup(self, epoch: int, partitionings: tuple[Partitioning, ...]) -> None:
        """See Homes: each shard goes straight from one table to another, here or there."""
        self._arrive()
        before = self._partitionings
        self._partitionings, self._initial = partitionings, self._initial.partitioned(partitionings)
        after = self._rounds(epoch)[0].holder
        mine = [partition for partition, rank in enumerate(after) if rank == self._group.rank]
        moved = [self._move(kind, before[kind], mine, after) for kind in range(len(partitionings))]
        self._tables = dict(zip(mine, zip(*moved, strict=True), strict=True))
        self._holder = self._next = after

    def commit(self, key: RunKey, grouped: int, position: Position, relations: Relations) -> None:
        """See Homes: each writes what it holds, and nobody gives up the last checkpoint before all have."""
        self._arrive()
        [mark, *_] = self._group.gathered(secrets.token_hex(8) if self._group.rank == 0 else "")
        mine = [partition for partition, rank in enumerate(self._holder) if rank == self._group.rank]
        self._files.hold({partition: self._held(partition) for partition in mine})
        together = Together(self._group.size, self._group.machines, mark, self._group.wait)
        self._files.commit(key, grouped, position, relations, together)

    def collect(self) -> PartitionFiles:
        """See Homes: one partition after the other travels to the first trainer, which writes it."""
        for partition, rank in enumerate(self._holder):
            if rank == 0:
                continue
            self._hand_over(tuple(0 if one <= partition else now for one, now in enumerate(self._holder)))
            self._arrive()
            if self._group.rank == 0:
                self._files.save(partition, self._tables.pop(partition))
        return self._files

    def sent(self) -> tuple[int, int]:
        """See Homes."""
        within, across = self._wire.sent
        return within, across

    def _held(self, partition: int) -> Tables:
        if partition not in self._tables:
            kinds = range(len(self._partitionings))
            self._tables[partition] = tuple(self._initial.table(kind, partition) for kind in kinds)
        return self._tables[partition]

    def _hand_over(self, after: tuple[int, ...]) -> None:
        """Let every partition set out for whoever holds it `after`; what stays on the machine is waited for apart."""
        before, self._holder = self._holder, after
        moves_here = [now != then and self._group.rank in (now, then) for now, then in zip(before, after, strict=True)]
        for across in (False, True):
            some = [p for p in np.flatnonzero(moves_here).tolist() if self._wire.across(before[p], after[p]) == across]
            moves = [move for p in some for move in self._moves(p, before[p], after[p])]
            self._under_way.append((set(some), self._wire.exchange(moves)))

    def _moves(self, partition: int, source: int, target: int) -> list[Move]:
        """The arrays of a partition that leaves this trainer, or comes."""
        if target == self._group.rank:
            self._tables[partition] = tuple(
                self._empty(groups, partition, self._initial.previous(kind, partition))
                for kind, groups in enumerate(self._partitionings)
            )
        tables = self._held(partition)
        if source == self._group.rank:
            del self._tables[partition]
        return [Move(array, source, target) for table in tables for array in (table.vectors, table.accumulator)]

    def _arrive(self, needed: set[int] | None = None) -> None:
        """Wait for the partitions under way that are `needed`, wherever they go; for all without."""
        waiting = []
        for partitions, exchange in self._under_way:
            if needed is None or partitions & needed:
                exchange.wait()
            else:
                waiting.append((partitions, exchange))
        self._under_way = waiting

    def _empty(self, groups: Partitioning, partition: int, previous: F32 | None = None) -> EmbeddingTable:
        size = int(groups.sizes[partition])
        return EmbeddingTable(np.empty((size, self._dim), np.float32), np.empty(size, np.float32), previous)

    def _move(self, kind: int, before: Partitioning, mine: list[int], after: tuple[int, ...]) -> list[EmbeddingTable]:
        """One type's tables of the partitions `mine`, whose shards lie in the partitions of `before`.

        About a partition's worth of shards travels at once.
        """
        groups, holder, me = self._partitionings[kind], self._holder, self._group.rank
        there = {
            partition: self._empty(groups, partition, self._initial.previous(kind, partition)) for partition in mine
        }
        here = {partition: self._held(partition)[kind] for partition, rank in enumerate(holder) if rank == me}
        counts, moves = groups.shards.counts.tolist(), []
        at_once = max(1, len(counts) // len(groups.sizes))
        for shard, count in enumerate(counts):
            old, new = int(before.part[shard]), int(groups.part[shard])
            source, target = holder[old], after[new]
            gone, come = (slice(int(each.base[shard]), int(each.base[shard]) + count) for each in (before, groups))
            out = [] if source != me else [here[old].vectors[gone], here[old].accumulator[gone]]
            into = [] if target != me else [there[new].vectors[come], there[new].accumulator[come]]
            if source == target == me:
                into[0][...], into[1][...] = out
            else:
                moves += [Move(array, source, target) for array in out or into]
            if (shard + 1) % at_once == 0:
                self._wire.exchange(moves).wait()
                moves = []
        self._wire.exchange(moves).wait()
        return [there[partition] for partition in mine]
