"""Edges grouped by row in bounded memory: dealt once to files of consecutive rows, each small enough to sort.

A prepared graph has its edges in the order of cells, in which the rows of a version lie anywhere. The arrays that come
out are the same whatever that order: in a row the other ends ascend.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.arrays import AnyArray
from bundle.growing import GrowingArray
from bundle.layout import SpaceLayout
from bundle.prepared import Edges, RowArray
from bundle.scratch import RawColumn
from bundle.writer import BundleWriter

Positions = Int64[npt.NDArray[np.int64], " _"]

# Edges in memory by default, of all blocks that are sorted at a time together, and the bytes that each then takes; the
# offset of a row takes no more.
SORTED_EDGES = 1 << 23
SORTING_BYTES = 64
# Edges read at a time, and the bytes of each while it is dealt.
SCAN_EDGES = 1 << 20
DEALING_BYTES = 64
# Rows are counted in so many groups of neighbours: a block ends where a group does.
GROUPS = 1 << 16


@dataclass(frozen=True, slots=True)
class Work:
    """What sorting may use: a directory for files of passing use, threads, edges in memory."""

    directory: Path
    threads: int = 1
    edges: int = SORTED_EDGES

    @property
    def block_edges(self) -> int:
        """Edges of a block: each thread has one."""
        return max(1, self.edges // self.threads)


@dataclass(frozen=True, slots=True)
class Stream:
    """Edges by rows and other ends, in any order; weights and times where they are to come along."""

    rows: RowArray
    others: RowArray
    weight: Float32[npt.NDArray[np.float32], " _"] | None = None
    time: Int64[npt.NDArray[np.int64], " _"] | None = None

    def part(self, start: int) -> dict[str, AnyArray]:
        """Some edges from `start` on, by column; a version's rows have 32 bits: `stage` refuses more."""
        some = slice(start, start + SCAN_EDGES)
        columns: dict[str, AnyArray | None] = {"weight": self.weight, "time": self.time}
        given = {name: column[some] for name, column in columns.items() if column is not None}
        return {"row": self.rows[some].astype(np.int32), "other": self.others[some].astype(np.int32), **given}


@dataclass(frozen=True, slots=True)
class SortedRows:
    """The rows from `first` on: those of row first + i are `others[indptr[i]:indptr[i + 1]]`, ascending."""

    first: int
    indptr: Int64[npt.NDArray[np.int64], " rows_plus_1"]
    others: Int32[npt.NDArray[np.int32], " entries"]
    columns: dict[str, AnyArray]


def sorted_rows(streams: Sequence[Stream], n_rows: int, work: Work, *, distinct: bool = False) -> Iterator[SortedRows]:
    """All rows in order, block after block of at most `work.block_edges` edges and rows (or one group of rows).

    The streams have the same columns. Of equal pairs, with `distinct`, that of the first stream alone stays.
    """
    bounds = _bounds(streams, n_rows, work.block_edges)
    blocks = _dealt(streams, bounds, work.directory)
    if len(blocks) == 1:  # threads would take longer to start than a small relation to sort
        yield _sorted(blocks[0], 0, n_rows, distinct)
        return
    with ThreadPoolExecutor(work.threads, thread_name_prefix="edges") as pool:
        waiting: list[Future[SortedRows]] = []
        for first, stop, block in zip(bounds[:-1].tolist(), bounds[1:].tolist(), blocks, strict=True):
            waiting.append(pool.submit(_sorted, block, first, stop, distinct))
            if len(waiting) >= work.threads:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def most_together(edges: Edges, counts: tuple[int, int], symmetric: bool) -> tuple[int, int]:
    """The most edges of one group of rows, by source and by target: so many are sorted together, however small a block
    may be. `counts` are the numbers of source and target entities.
    """
    by_source = [Stream(*ends) for ends in edges.directed(symmetric)]
    by_target = [Stream(others, rows) for rows, others in edges.directed(symmetric)]
    source, target = (_groups(some, n) for some, n in zip((by_source, by_target), counts, strict=True))
    return int(source.max(initial=0)), int(target.max(initial=0))


def _width(n_rows: int) -> int:
    """Rows of a group."""
    return -(-n_rows // GROUPS) or 1


def _groups(streams: Sequence[Stream], n_rows: int) -> Positions:
    """The edges of each group of rows."""
    width = _width(n_rows)
    groups = np.zeros(-(-n_rows // width), dtype=np.int64)
    for stream in streams:
        for start in range(0, len(stream.rows), SCAN_EDGES):
            groups += np.bincount(stream.rows[start : start + SCAN_EDGES] // width, minlength=len(groups))
    return groups


def _bounds(streams: Sequence[Stream], n_rows: int, block_edges: int) -> Positions:
    """Where blocks of rows begin, and where the last ends. A row counts as an edge does: of many rows with few edges,
    offsets alone would fill the memory."""
    width = _width(n_rows)
    ends = np.cumsum(_groups(streams, n_rows) + width)
    bounds = [0]
    while bounds[-1] < len(ends):
        done = ends[bounds[-1] - 1] if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(ends, done + block_edges, side="right"))))
    return np.minimum(np.array(bounds, dtype=np.int64) * width, n_rows)


class _Block:
    """The edges of some rows: in files, or read from where they lie when there is no other block."""

    def __init__(self, streams: Sequence[Stream], files: dict[str, RawColumn] | None) -> None:
        self._streams, self._files = streams, files

    def columns(self) -> dict[str, AnyArray]:
        if self._files is None:
            parts = [stream.part(start) for stream in self._streams for start in _starts(stream)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
        columns = {name: np.concatenate([*file.batches()]) for name, file in self._files.items() if len(file)}
        for file in self._files.values():
            file.path.unlink(missing_ok=True)
        return columns


def _starts(stream: Stream) -> range:
    return range(0, len(stream.rows), SCAN_EDGES)


def _dealt(streams: Sequence[Stream], bounds: Positions, directory: Path) -> list[_Block]:
    """The edges of every block, in the order of the streams."""
    if len(bounds) == 2:
        return [_Block(streams, None)]
    files: list[dict[str, RawColumn]] = [{} for _ in bounds[1:]]
    for stream in streams:
        for start in _starts(stream):
            part = stream.part(start)
            # In 16 bits, where these do, numbers are sorted without comparing them.
            kind = np.uint16 if len(files) < 1 << 16 else np.int64
            block = (np.searchsorted(bounds, part["row"], side="right") - 1).astype(kind)
            order, ends = np.argsort(block, kind="stable"), np.cumsum(np.bincount(block, minlength=len(files)))
            for name, column in part.items():
                for number, values in enumerate(np.split(column[order], ends[:-1])):
                    if len(values):
                        path = directory / f"{number}.{name}.edges"
                        files[number].setdefault(name, RawColumn(path, column.dtype)).append(values)
    return [_Block(streams, each) for each in files]


def _sorted(block: _Block, first: int, stop: int, distinct: bool) -> SortedRows:
    columns = block.columns()
    rows, others = (columns.pop(name, np.empty(0, np.int32)) for name in ("row", "other"))
    # Row and other end in one number of 64 bits: sorted several times as fast as two columns, and alone as fast again
    # as with its place, which only further columns ask for.
    keys = (rows - np.int32(first)).astype(np.int64) << 32 | others
    if columns:
        order = np.argsort(keys, kind="stable")
        keys, columns = keys[order], {name: column[order] for name, column in columns.items()}
    else:
        keys.sort()
    if distinct:
        kept = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, columns = keys[kept], {name: column[kept] for name, column in columns.items()}
    indptr = np.searchsorted(keys, np.arange(stop - first + 1) << 32).astype(np.int64)
    return SortedRows(first, indptr, (keys & 0xFFFFFFFF).astype(np.int32), columns)


def stage_edges(
    writer: BundleWriter,
    layout: SpaceLayout,
    position: int,
    edges: Edges,
    counts: tuple[int, int],
    symmetric: bool,
    work: Work,
    times: Path | None = None,
) -> None:
    """Write both CSR directions of one relation; `counts` are the numbers of source and target entities.

    The times of the edges by source go to the file `times`, where that is asked for and there are any.
    """
    time = None if times is None else edges.time
    by_source = [Stream(*ends, edges.weight, time) for ends in edges.directed(symmetric)]
    by_target = [Stream(others, rows) for rows, others in edges.directed(symmetric)]
    files = layout.edges(position, "targets")
    _write_csr(writer, files, sorted_rows(by_source, counts[0], work, distinct=symmetric), counts[0], edges, times)
    files = layout.edges(position, "sources")
    _write_csr(writer, files, sorted_rows(by_target, counts[1], work, distinct=symmetric), counts[1], None, None)


def _write_csr(
    writer: BundleWriter,
    names: tuple[str, str, str],
    blocks: Iterator[SortedRows],
    n_rows: int,
    weighted: Edges | None,
    times: Path | None,
) -> None:
    """Write rows as they come. A pair of a symmetric relation may be stored both ways, so sizes are known last."""
    indptr = writer.create(names[0], np.int64, (n_rows + 1,))
    indices = GrowingArray(writer.path(names[1]), np.int32)
    others: dict[str, GrowingArray] = {}
    if weighted is not None and weighted.weight is not None:
        others["weight"] = GrowingArray(writer.path(names[2]), np.float32)
    if times is not None and weighted is not None and weighted.time is not None:
        others["time"] = GrowingArray(times, np.int64)
    indptr[0] = 0
    for block in blocks:
        indptr[block.first + 1 : block.first + len(block.indptr)] = indices.count + block.indptr[1:]
        indices.append(block.others)
        for name, file in others.items():
            file.append(block.columns.get(name, np.empty(0, file.dtype)))
    for file in (indices, *others.values()):
        file.finish()
    for name in names[: 3 if "weight" in others else 2]:
        writer.add(name)
