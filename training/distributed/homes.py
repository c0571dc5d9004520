"""Where partitions are while nobody trains them, and how they come to whoever trains them next: one directory for all
processes of a machine."""

from typing import Protocol, runtime_checkable

from training.checkpoint import PartitionFiles, Position, RunKey, Tables
from training.distributed.group import Group
from training.model import Relations
from training.partition import Partitioning


@runtime_checkable
class Homes(Protocol):
    """A PartitionStore that several processes share. All of them call `begin` to `collect` alike; these may wait."""

    def load(self, partition: int) -> Tables:
        """See PartitionStore."""
        ...

    def save(self, partition: int, tables: Tables) -> None:
        """See PartitionStore."""
        ...

    def restore(self) -> None:
        """Begin with what the files hold after a checkpoint was restored."""
        ...

    def begin(self, epoch: int, step: int) -> None:
        """Have the partitions ready that this process trains in a round."""
        ...

    def meet(self) -> None:
        """After a round, with every partition saved: whoever trains one next can load it."""
        ...

    def regroup(self, epoch: int, partitionings: tuple[Partitioning, ...]) -> None:
        """Move all shards to their places in the partitions of `epoch`; everything is saved."""
        ...

    def commit(self, key: RunKey, grouped: int, position: Position, relations: Relations) -> None:
        """Make what is saved the checkpoint; see PartitionFiles."""
        ...

    def collect(self) -> PartitionFiles:
        """At the end: files that in the first process hold every partition."""
        ...

    def sent(self) -> tuple[int, int] | None:
        """The bytes of tables that this process sent so far, within its machine and to others; None where none are."""
        ...


class SharedFiles:
    """Partitions change hands as files. A process alone has the same files to itself."""

    def __init__(self, group: Group, files: PartitionFiles) -> None:
        self._group, self._files = group, files

    def load(self, partition: int) -> Tables:
        """See PartitionStore."""
        return self._files.load(partition)

    def save(self, partition: int, tables: Tables) -> None:
        """See PartitionStore."""
        self._files.save(partition, tables)

    def restore(self) -> None:
        """See Homes: it is what is loaded."""

    def begin(self, epoch: int, step: int) -> None:
        """See Homes: files are always there."""

    def meet(self) -> None:
        """See Homes: every process gets to know of the files that any of them saved."""
        saved = self._files.saved()
        self._group.most(saved)
        self._files.adopt(saved)

    def regroup(self, epoch: int, partitionings: tuple[Partitioning, ...]) -> None:
        """See Homes: the first process moves the shards."""
        move = self._files.regroup if self._group.rank == 0 else self._files.follow_regroup
        move(partitionings)
        self.meet()

    def commit(self, key: RunKey, grouped: int, position: Position, relations: Relations) -> None:
        """See Homes: the first process writes it."""
        if self._group.rank == 0:
            self._files.commit(key, grouped, position, relations)
        else:
            self._files.follow_commit()

    def collect(self) -> PartitionFiles:
        """See Homes."""
        return self._files

    def sent(self) -> None:
        """See Homes."""
