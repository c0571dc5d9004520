"""Partitions on disk: each save is a new generation of files, so a checkpoint's own files are never overwritten."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64
from pydantic import ValidationError

from bundle.arrays import forget_pages, map_array, read_array, save_array
from bundle.disk import make_durable, read_plain, write_text
from bundle.errors import RunError
from bundle.prepared import PreparedGraph
from bundle.records import Record, first_error
from bundle.trained import name_of_trained
from bundle.verify import digest_of, digest_of_fields, find_damaged
from training.config import TrainConfig
from training.initial import InitialTables
from training.model import EmbeddingTable, Relations
from training.partition import Partitioning

Tables = tuple[EmbeddingTable, ...]
STATE = "state.json"
# A checkpoint of several machines, until all of them have written it.
NEXT_STATE = "state.next.json"
# Format 1: rows stood in partitions by another hash.
FORMAT_VERSION = 2
MAKE_ROOM = "The last checkpoint is intact: make room and run it again, `twhin train` with --resume."


@runtime_checkable
class PartitionStore(Protocol):
    """Where partitions come from and go to."""

    def load(self, partition: int) -> Tables:
        """One partition of every entity type."""
        ...

    def save(self, partition: int, tables: Tables) -> None:
        """Keep the partition's present state."""
        ...


class Position(Record):
    """How far training is: before chunk `chunk` of the `step`-th bucket of `epoch`, and the epoch's sums so far."""

    epoch: int = 0
    step: int = 0
    chunk: int = 0
    edges_seen: int = 0
    epoch_edges: int = 0
    epoch_loss: float = 0.0
    last_loss: float | None = None


class Checkpoint(Record):
    """`state.json`. `dealt` is the epoch whose groups the shards are in; `generations` are of every file.

    `files` are the digests of the files and `digest` that of all other fields; a checkpoint of an earlier release has
    neither. Where `trainers` with directories of their own train together, on `machines` of as many each, each has
    written what it held, all of them under one `mark`.
    """

    format_version: int = FORMAT_VERSION
    graph_digest: str
    config: dict[str, object]
    partitions: int
    dealt: int
    parent: str | None
    position: Position
    relations: int
    generations: dict[str, int]
    files: dict[str, str] | None = None
    trainers: int = 1
    machines: int = 1
    mark: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class RunKey:
    """What a checkpoint, or a finished run, must agree with to be gone on with; `parent` is the warm start's name."""

    graph_digest: str
    config: dict[str, object]
    parent: str | None

    @classmethod
    def of(cls, prepared: PreparedGraph, config: TrainConfig, warm_start: Path | None) -> "RunKey":
        """The key of a training that starts now."""
        parent = None if warm_start is None else name_of_trained(warm_start)
        return cls(prepared.digest, config.model_dump(mode="json"), parent)


@dataclass(frozen=True, slots=True)
class Together:
    """A checkpoint that `trainers` on `machines` write at once: its mark, and how one waits for the others."""

    trainers: int
    machines: int
    mark: str
    wait: Callable[[], None]


class PartitionFiles:
    """Partition files below one directory; a partition that was never saved comes from `initial`."""

    def __init__(self, path: Path, partitionings: tuple[Partitioning, ...], initial: InitialTables) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partitionings = partitionings
        self._initial = initial
        self._generations: dict[str, int] = {}
        self._relations = 0
        self._kept: set[tuple[str, int]] = set()
        self._digests: dict[str, str] = {}

    def load(self, partition: int) -> Tables:
        """Read one partition of every entity type."""
        return tuple(self._load(kind, partition) for kind in range(len(self._partitionings)))

    def save(self, partition: int, tables: Tables) -> None:
        """Write a new generation of one partition of every type; a checkpoint makes it durable.

        The old generation stays when the disk is full.
        """
        for kind, table in enumerate(tables):
            name = _name(kind, partition)
            generation = self._generations.get(name, 0) + 1
            self._write(name, generation, table)
            self._generations[name] = generation
            self._collect(name, generation - 1)

    def regroup(self, partitionings: tuple[Partitioning, ...]) -> None:
        """Move every saved shard to its place in new partitions, one partition in memory at a time."""
        before, old = self._partitionings, dict(self._generations)
        for kind, groups in enumerate(partitionings):
            for partition in range(len(groups.sizes)):
                table = self._gather(kind, groups, partition, before[kind])
                name = _name(kind, partition)
                self._write(name, old[name] + 1, table)
        self._generations = {name: generation + 1 for name, generation in old.items()}
        self._partitionings, self._initial = partitionings, self._initial.partitioned(partitionings)
        for name, generation in old.items():
            self._collect(name, generation)

    def hold(self, held: Mapping[int, Tables]) -> None:
        """Write these partitions, and know of no others: one of several machines, before it commits.

        They are a generation of their own: a partition that left and came back must not overwrite a checkpoint's file.
        """
        self._generations = {}
        for partition, tables in held.items():
            for kind, table in enumerate(tables):
                self._write(_name(kind, partition), self._relations + 1, table)
                self._generations[_name(kind, partition)] = self._relations + 1

    def commit(
        self, key: RunKey, grouped: int, position: Position, relations: Relations, together: Together | None = None
    ) -> None:
        """Make everything saved so far, with shards in the groups of epoch `grouped`, the checkpoint.

        `state.json` is replaced last; where several commit `together`, when all have written theirs.
        """
        generation = self._relations + 1
        save_array(self._file("relations", generation, "vectors"), relations.vectors)
        save_array(self._file("relations", generation, "state"), relations.accumulator)
        before, self._kept = self._kept, {*self._generations.items(), ("relations", generation)}
        files = [self._file(name, saved, part) for name, saved in sorted(self._kept) for part in ("vectors", "state")]
        for file in files:
            if file.name not in self._digests:
                make_durable(file)
                self._digests[file.name] = digest_of(file)
        self._digests = {file.name: self._digests[file.name] for file in files}
        state = Checkpoint(
            graph_digest=key.graph_digest,
            config=key.config,
            partitions=len(self._partitionings[0].sizes),
            dealt=grouped,
            parent=key.parent,
            position=position,
            relations=generation,
            generations=self._generations,
            files=self._digests,
            trainers=1 if together is None else together.trainers,
            machines=1 if together is None else together.machines,
            mark=None if together is None else together.mark,
        )
        fields = state.model_dump(mode="json")
        fields["digest"] = digest_of_fields(fields)
        text = json.dumps(fields, indent=1) + "\n"
        if together is None:
            write_text(self._path / STATE, text)
        else:
            write_text(self._path / NEXT_STATE, text)
            together.wait()
            (self._path / NEXT_STATE).replace(self._path / STATE)
            make_durable(self._path)
        self._relations = generation
        for name, old in before - self._kept:
            self._remove(name, old)

    def partitions(self) -> list[int]:
        """The partitions that were saved."""
        return sorted({int(name.split(".")[1]) for name in self._generations})

    def saved(self) -> Int64[npt.NDArray[np.int64], "kinds partitions"]:
        """The generation of every partition's files; 0: never saved."""
        partitions = range(len(self._partitionings[0].sizes))
        kinds = range(len(self._partitionings))
        numbers = [[self._generations.get(_name(kind, p), 0) for p in partitions] for kind in kinds]
        return np.array(numbers, dtype=np.int64)

    def adopt(self, saved: Int64[npt.NDArray[np.int64], "kinds partitions"]) -> None:
        """Take note of what other processes saved in the same directory."""
        self._generations = {_name(kind, p): int(n) for (kind, p), n in np.ndenumerate(saved) if n}

    def follow_regroup(self, partitionings: tuple[Partitioning, ...]) -> None:
        """Another process moves the shards; what it saves is to be adopted."""
        self._partitionings, self._initial = partitionings, self._initial.partitioned(partitionings)

    def follow_commit(self) -> None:
        """Another process makes everything saved so far the checkpoint: its files are no longer overwritten."""
        self._relations += 1
        self._kept = {*self._generations.items(), ("relations", self._relations)}

    def restore(self, checkpoint: Checkpoint) -> Relations:
        """Go back to a checkpoint: forget newer files and read the relations."""
        self._digests = dict(checkpoint.files or {})
        self._generations = dict(checkpoint.generations)
        self._relations = checkpoint.relations
        self._kept = {*self._generations.items(), ("relations", checkpoint.relations)}
        kept = {self._file(name, n, part) for name, n in self._kept for part in ("vectors", "state")}
        for file in self._path.glob("*.npy*"):
            if file not in kept:
                file.unlink(missing_ok=True)  # another process tidies up too
        return Relations(*(read_array(self._file("relations", self._relations, part)) for part in ("vectors", "state")))

    def saved_arrays(self, kind: int, partition: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Vectors and optimiser state of a saved partition, mapped."""
        name = _name(kind, partition)
        vectors, state = (map_array(self._file(name, self._generations[name], part)) for part in ("vectors", "state"))
        return vectors, state

    def _write(self, name: str, generation: int, table: EmbeddingTable) -> None:
        save_array(self._file(name, generation, "vectors"), table.vectors, durable=False)
        save_array(self._file(name, generation, "state"), table.accumulator, durable=False)

    def _gather(self, kind: int, groups: Partitioning, partition: int, before: Partitioning) -> EmbeddingTable:
        """The saved state of a partition of `groups`, whose shards lie in the partitions of `before`."""
        dim, size = self.saved_arrays(kind, 0)[0].shape[1], int(groups.sizes[partition])
        table = EmbeddingTable(np.empty((size, dim), dtype=np.float32), np.empty(size, dtype=np.float32))
        mine, counts = groups.members(partition), groups.shards.counts
        for old in np.unique(before.part[mine]).tolist():
            saved = self.saved_arrays(kind, old)
            for shard in mine[before.part[mine] == old].tolist():
                count, here, there = int(counts[shard]), int(groups.base[shard]), int(before.base[shard])
                for array, part in zip((table.vectors, table.accumulator), saved, strict=True):
                    array[here : here + count] = part[there : there + count]
            for part in saved:
                forget_pages(part)
        return table

    def _load(self, kind: int, partition: int) -> EmbeddingTable:
        name = _name(kind, partition)
        if name not in self._generations:
            return self._initial.table(kind, partition)
        files = (self._file(name, self._generations[name], part) for part in ("vectors", "state"))
        vectors, state = map(read_array, files)
        return EmbeddingTable(vectors, state, self._initial.previous(kind, partition))

    def _collect(self, name: str, generation: int) -> None:
        if generation and (name, generation) not in self._kept:
            self._remove(name, generation)

    def _remove(self, name: str, generation: int) -> None:
        for part in ("vectors", "state"):
            self._file(name, generation, part).unlink(missing_ok=True)

    def _file(self, name: str, generation: int, part: str) -> Path:
        return self._path / f"{name}.g{generation}.{part}.npy"


def read_checkpoint(path: Path, name: str = STATE) -> Checkpoint | None:
    """The checkpoint in directory `path`, None when there is none. Raises RunError when it cannot be read."""
    file = path / name
    if not file.exists():
        return None
    try:
        found = Checkpoint.model_validate_json(read_plain(file))
    except ValidationError as error:
        raise RunError(
            f"{file} cannot be read: {first_error(error)}. Delete {path} and train from the start."
        ) from error
    if found.format_version != FORMAT_VERSION:
        raise RunError(
            f"{file} has format {found.format_version}, this program goes on from {FORMAT_VERSION}. "
            f"End the run with the release that began it, or delete {path} and train from the start."
        )
    return found


def check_checkpoint(path: Path, checkpoint: Checkpoint, name: str = STATE) -> None:
    """Raise RunError when a file of the checkpoint in directory `path`, or its record, is not what was written."""
    advice = f"Delete {path.parent} and train from the start."
    fields = json.loads((path / name).read_bytes())
    if (checkpoint.files or checkpoint.digest) and checkpoint.digest != digest_of_fields(fields):
        raise RunError(f"{path / name} differs from its own digest: it was damaged or changed. {advice}")
    damaged = find_damaged(path, checkpoint.files or {})
    if damaged is not None:
        found = "differs from its digest: it was damaged or changed" if damaged.exists() else "is missing"
        raise RunError(f"{damaged} {found}. {advice}")


def _name(kind: int, partition: int) -> str:
    return f"{kind:03d}.{partition:04d}"
