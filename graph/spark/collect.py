"""What Spark's executors wrote, streamed into the arrays of a prepared graph: a batch of a file at a time in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Int64

from bundle.arrays import AnyArray
from bundle.growing import ArrayFiles
from bundle.ids import IdKind, IdTable, IntIds, StringIds
from bundle.prepared import PARTS, id_files, part_file
from bundle.progress import Stage
from bundle.sharded import shard_file
from bundle.shards import place_type, row_type
from graph.ahead import ahead
from graph.spark.job import IN_PARTITION
from graph.spool import string_buffers

BATCH_ROWS = 1 << 18


def batches(table: Path, stage: Stage) -> Iterator[Any]:
    """The rows of a table in the order in which Spark put them: its files are numbered."""
    for path in sorted(table.glob("part-*.parquet")):
        with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                stage.advance(batch.num_rows)
                yield batch


def collect_ids(
    table: Path, kind: IdKind, name: str, files: ArrayFiles, stage: Stage
) -> tuple[IdTable, dict[int, int]]:
    """Write the ids of a type, which ascend in `table`; returns them mapped, and the first row of each file there."""
    paths = id_files(files.directory, name, kind)
    empty: list[AnyArray] = [np.zeros(0, dtype=np.int64)]
    if kind == "string":
        empty = [np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)]
    for path, start in zip(paths, empty, strict=True):
        files.append(path, start)
    numbers, row = _Ascending(), 0
    starts: dict[int, int] = {}
    for batch in ahead(batches(table, stage)):
        numbers.check(batch.column("n").to_numpy())
        starts.setdefault(numbers.last >> IN_PARTITION, row)
        row += len(batch)
        ids = batch.column("id")
        if kind == "int64":
            files.append(paths[0], ids.to_numpy())
            continue
        offsets, utf8 = string_buffers(ids.cast(pa.large_binary()))
        files.append(paths[0], offsets[1:] + files.count(paths[1]))
        files.append(paths[1], utf8)
    arrays = [files.mapped(path) for path in paths]
    return IntIds(arrays[0]) if kind == "int64" else StringIds(arrays[0], arrays[1]), starts


def collect_shards(
    table: Path, name: str, entities: int, shards: int, files: ArrayFiles, stage: Stage
) -> Int64[npt.NDArray[np.int64], " q"]:
    """Write the rows of a type shard after shard; returns the entities of each."""
    path = shard_file(files.directory, name)
    files.append(path, np.zeros(0, dtype=np.int64))
    numbers, counts = _Ascending(), np.zeros(shards, dtype=np.int64)
    for batch in ahead(batches(table, stage)):
        rows, shard = batch.column("row").to_numpy(), batch.column("shard").to_numpy().astype(np.int64)
        numbers.check(shard * entities + rows)
        counts += np.bincount(shard, minlength=shards)
        files.append(path, rows)
    return counts


@dataclass(slots=True)
class EdgeFiles:
    """Writes the edges of one entry: `first` is the number of its first relation, `relations` how many it has.

    `source` and `target` are the entities of each shard of its two types; `repeats` counts what was left out of each
    relation so far.
    """

    files: ArrayFiles
    first: int
    relations: int
    source: AnyArray
    target: AnyArray
    weight: bool
    time: bool
    repeats: Int64[npt.NDArray[np.int64], " r"] = field(init=False)
    _last: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repeats = np.zeros(self.relations, dtype=np.int64)

    def begin(self) -> None:
        """Make the arrays of training edges of every relation: only held-out files may have it."""
        for relation in range(self.first, self.first + self.relations):
            self._train(relation, {name: np.zeros(0, kind) for name, kind in self._types.items()})

    def append(self, batch: Any) -> None:
        """Write the next edges, which are ordered by part and relation."""
        columns = {name: batch.column(name).to_numpy() for name in batch.schema.names}
        groups = columns["part"].astype(np.int64) * self.relations + columns["relation"]
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(groups)], strict=True):
            part, relation = divmod(int(groups[start]), self.relations)
            here = {name: column[start:stop] for name, column in columns.items()}
            if "occurrences" in here:
                self.repeats[relation] += int(here["occurrences"].sum()) - (stop - start)
            if part == 0:
                self._train(self.first + relation, here)
                continue
            for end, kind in (("src", row_type(int(self.source.sum()))), ("dst", row_type(int(self.target.sum())))):
                path = part_file(self.files.directory, PARTS[part], self.first + relation, end)
                self.files.append(path, here[f"{end}_row"].astype(kind))

    @property
    def _types(self) -> dict[str, type[np.generic]]:
        ends = {"src": self.source, "dst": self.target}
        types: dict[str, type[np.generic]] = {f"{end}_row": row_type(int(counts.sum())) for end, counts in ends.items()}
        types |= {f"{end}_place": place_type(int(counts.max(initial=0))) for end, counts in ends.items()}
        types |= {"weight": np.float32} if self.weight else {}
        types |= {"time": np.int64} if self.time else {}
        return {"cell": np.int32, **types}

    def _train(self, relation: int, columns: dict[str, AnyArray]) -> None:
        def path(name: str) -> Path:
            return part_file(self.files.directory, "edges", relation, name)

        before = self.files.count(path("src"))
        cell = columns["cell"].astype(np.int64)
        new = np.flatnonzero(np.diff(cell, prepend=self._last.get(relation, -1)))
        if len(cell):
            self._last[relation] = int(cell[-1])
        written = {name: columns[name].astype(kind) for name, kind in self._types.items()}
        written["cell"] = cell[new].astype(np.int32)
        written["cell_start"] = new.astype(np.int64) + before
        for name, values in written.items():
            self.files.append(path(name.removesuffix("_row")), values)


@dataclass(slots=True)
class _Ascending:
    """Numbers that must ascend from batch to batch, or the files are not in the order in which Spark wrote them."""

    last: int = -1

    def check(self, numbers: AnyArray) -> None:
        if len(numbers) == 0:
            return
        if numbers[0] <= self.last or not np.all(numbers[1:] > numbers[:-1]):
            raise RuntimeError("Spark's files are out of order")
        self.last = int(numbers[-1])
