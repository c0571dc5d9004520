"""Second pass: ids become rows; self-loops and repeats go; what is left is split and written."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from bundle.arrays import AnyArray
from bundle.cells import CellSorter, TypeShards
from bundle.errors import EdgeFileError, GraphFileError
from bundle.growing import ArrayFiles
from bundle.hashing import BLOCK, U64, hashes
from bundle.ids import IdTable
from bundle.prepared import Part, part_file
from bundle.progress import Progress, Stage
from bundle.scratch import RawColumn, scratch_array
from bundle.sharded import CellFiles
from bundle.shards import row_type
from graph.ahead import ahead, mapped
from graph.dedupe import Deduplicator, EdgeKind, RowEdges
from graph.entries import Entry
from graph.reading import SpooledEdges
from graph.record import DropCounts
from graph.schema import FileSplit, RelationSpec, SplitSpec, TimeSplit, ValidationSpec
from graph.split import (
    SMALL,
    TEST,
    TRAIN,
    VALID,
    BatchedTimes,
    Draw,
    Parts,
    Times,
    draw_bounds,
    time_bounds,
    time_parts,
)

# Edges whose times are read at a time.
_CHUNK = 1 << 20
_MAX_WEIGHT = float(np.finfo(np.float32).max)
_COLUMNS = ("src", "dst", "src_place", "dst_place", "weight", "time")


@dataclass(frozen=True, slots=True)
class _Batch:
    edges: RowEdges
    weight: Float64[npt.NDArray[np.float64], " n"] | None
    time: Int64[npt.NDArray[np.int64], " n"] | None

    def __getitem__(self, selection: AnyArray) -> "_Batch":
        edges = RowEdges(self.edges.src[selection], self.edges.dst[selection], self.edges.relation[selection])
        weight = None if self.weight is None else self.weight[selection]
        time = None if self.time is None else self.time[selection]
        return _Batch(edges, weight, time)


_PartsOf: TypeAlias = Callable[[_Batch], Parts]


@dataclass(frozen=True, slots=True)
class _KeptEdges:
    """The edges that stay: all of them on disk, and a mark for each."""

    src: RawColumn
    dst: RawColumn
    relation: RawColumn
    keep: Bool[npt.NDArray[np.bool_], " n"]
    weight: Float64[npt.NDArray[np.float64], " n"] | None
    time: Int64[npt.NDArray[np.int64], " n"] | None

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.keep))

    def batches(self) -> Iterator[_Batch]:
        start = 0
        for src, dst, relation in zip(self.src.batches(), self.dst.batches(), self.relation.batches(), strict=True):
            here = slice(start, start + len(src))
            weight = None if self.weight is None else self.weight[here]
            time = None if self.time is None else self.time[here]
            yield _Batch(RowEdges(src, dst, relation), weight, time)[self.keep[here]]
            start += len(src)

    def times(self) -> Iterator[Int64[npt.NDArray[np.int64], " n"]]:
        if self.time is None:
            return
        for start in range(0, len(self.keep), _CHUNK):
            here = slice(start, start + _CHUNK)
            yield self.time[here][self.keep[here]]


@dataclass(frozen=True, slots=True)
class Assembler:
    """Writes edges as rows into `files`; `tables` give the rows, `shards` their cells; `work` is for passing files."""

    tables: dict[str, IdTable]
    shards: dict[str, TypeShards]
    files: ArrayFiles
    work: Path
    progress: Progress
    _hashes: dict[str, U64] = field(default_factory=dict)

    def held_out(self, entry: Entry, spooled: SpooledEdges) -> None:
        """Write edges that the user held out, as they stand in the files."""
        for edges in self._rows(entry, spooled):
            self._write(entry, spooled.input.part, _Batch(edges, None, None))

    def training(self, entry: Entry, spooled: SpooledEdges, split: SplitSpec | ValidationSpec) -> DropCounts:
        """Write an entry's training edges, and those that `split` holds out.

        Raises EdgeFileError when only self-loops are there, GraphFileError when the split leaves no training edge.
        """
        name = entry.spec.name
        with tempfile.TemporaryDirectory(prefix="entry-", dir=self.work) as directory:
            with self.progress.stage(f"finding rows of {name}", spooled.count, "edges") as stage:
                kept, drops = self._deduplicate(entry, spooled, Path(directory), stage)
            if kept.count == 0:
                raise nothing_but_loops(entry.spec)
            parts = self._parts(entry, kept, split)
            with self.progress.stage(f"writing {name}", kept.count, "edges") as stage:
                self._write_all(entry, kept, parts, self._sorter(entry, kept, Path(directory)), stage)
        return drops

    def _parts(self, entry: Entry, kept: _KeptEdges, split: SplitSpec | ValidationSpec) -> _PartsOf | None:
        """What says of a batch which part each edge is; None where none is held out."""
        if isinstance(split, FileSplit):
            return None
        if isinstance(split, TimeSplit):
            times = bounds_to_train_before(entry.spec, BatchedTimes(kept.times), kept.count, split.fraction)
            return None if times is None else lambda batch: _by_time(batch, times)
        bounds = draw_bounds(split, kept.count)
        if bounds is None:
            return None
        draw = Draw.of(entry.names, entry.spec.symmetric, split.seed)
        source, target = self._hashes_of(entry.spec.source), self._hashes_of(entry.spec.target)

        def parts(batch: _Batch) -> Parts:
            edges = batch.edges
            return bounds.parts(draw(source[edges.src], target[edges.dst], edges.relation))

        # Of few edges of a relation all may be drawn; something must be left to train on.
        if len(entry.names) == 1 and kept.count >= SMALL:
            return parts
        trained = np.zeros(len(entry.names), dtype=np.int64)
        for relations in mapped(lambda batch: batch.edges.relation[parts(batch) == TRAIN], kept.batches()):
            trained += np.bincount(relations, minlength=len(trained))
        if trained.all():
            return parts
        return lambda batch: np.where(trained[batch.edges.relation] == 0, TRAIN, parts(batch)).astype(np.uint8)

    def _hashes_of(self, entity: str) -> U64:
        """XXH64 of every id of a type, by row, mapped: 8 bytes an entity of disk."""
        if entity not in self._hashes:
            table = self.tables[entity]
            hashed = self._hashes[entity] = scratch_array(self.work / f"{entity}.hashes", np.uint64, len(table))
            for start in range(0, len(table), BLOCK):
                stop = min(start + BLOCK, len(table))
                hashed[start:stop] = hashes(table, start, stop)
        return self._hashes[entity]

    def _rows(self, entry: Entry, spooled: SpooledEdges) -> Iterator[RowEdges]:
        sources = ahead(spooled.src.rows())
        targets = ahead(spooled.dst.rows())
        if spooled.relation is None:
            for src, dst in zip(sources, targets, strict=True):
                yield RowEdges(src, dst, np.zeros(len(src), dtype=np.int32))
        else:
            names = spooled.relation.rows()
            for src, dst, name in zip(sources, targets, names, strict=True):
                yield RowEdges(src, dst, entry.order[name])

    def _deduplicate(
        self, entry: Entry, spooled: SpooledEdges, directory: Path, stage: Stage
    ) -> tuple[_KeptEdges, DropCounts]:
        spec = entry.spec
        types = [row_type(len(self.tables[kind])) for kind in (spec.source, spec.target)]
        ends = zip(("src", "dst", "relation"), (*types, np.int32), strict=True)
        src, dst, relation = (RawColumn(directory / name, kind) for name, kind in ends)
        kind = EdgeKind(spec.source == spec.target, spec.symmetric, len(self.tables[spec.target]))
        deduplicator = Deduplicator(directory, kind, spooled.count, len(entry.names))
        for dealt in mapped(deduplicator.dealt, self._rows(entry, spooled)):
            deduplicator.add(dealt)
            edges = dealt.edges
            src.append(edges.src)
            dst.append(edges.dst)
            relation.append(edges.relation)
            stage.advance(len(edges))
        weight = None if spooled.weight is None else spooled.weight.mapped()
        time = None if spooled.time is None else spooled.time.mapped()
        kept = _KeptEdges(src, dst, relation, deduplicator.keep(weight, time), weight, time)
        return kept, DropCounts(deduplicator.duplicates, deduplicator.self_loops)

    def _write_all(
        self, entry: Entry, kept: _KeptEdges, parts: _PartsOf | None, sorter: CellSorter, stage: Stage
    ) -> None:
        """Write held-out edges as they come, and training edges cell after cell once all are known."""

        def dealt(batch: _Batch) -> list[dict[str, AnyArray]]:
            extra: dict[str, AnyArray] = {}
            if batch.weight is not None:
                # The weights of repeats are added, so a sum may be larger than any one number of 32 bits.
                extra["weight"] = np.minimum(batch.weight, _MAX_WEIGHT).astype(np.float32)
            if batch.time is not None:
                extra["time"] = batch.time
            return sorter.dealt(batch.edges.src, batch.edges.dst, batch.edges.relation, **extra)

        for edges in mapped(dealt, self._training_edges(entry, kept, parts, stage)):
            sorter.add(edges)
        cells = CellFiles(self.files, _COLUMNS)
        for found in sorter.sorted():
            cells.append(entry.first + found.relation, found)
            stage.advance(len(found))
        for relation in range(len(entry.names)):  # only held-out files may have it
            cells.append(entry.first + relation, sorter.nothing())

    def _training_edges(self, entry: Entry, kept: _KeptEdges, parts: _PartsOf | None, stage: Stage) -> Iterator[_Batch]:
        """The edges to train, and write those that are held out."""
        if parts is None:
            yield from kept.batches()
            return
        for batch, here in mapped(lambda batch: (batch, parts(batch)), kept.batches()):
            self._write(entry, "valid", batch[np.flatnonzero(here == VALID)])
            self._write(entry, "test", batch[np.flatnonzero(here == TEST)])
            stage.advance(int(np.count_nonzero(here)))
            yield batch[np.flatnonzero(here == TRAIN)]

    def _sorter(self, entry: Entry, kept: _KeptEdges, directory: Path) -> CellSorter:
        source, target = (self.shards[kind] for kind in (entry.spec.source, entry.spec.target))
        extra: dict[str, npt.DTypeLike] = {}
        if kept.weight is not None:
            extra["weight"] = np.float32
        if kept.time is not None:
            extra["time"] = np.int64
        return CellSorter(directory, source, target, len(entry.names), kept.count, extra)

    def _write(self, entry: Entry, part: Part, batch: _Batch) -> None:
        """Write held-out edges."""
        order = np.argsort(batch.edges.relation, kind="stable")
        relations, starts = np.unique(batch.edges.relation[order], return_index=True)
        for relation, members in zip(relations.tolist(), np.split(order, starts[1:]), strict=len(order) > 0):
            for name, rows in (("src", batch.edges.src), ("dst", batch.edges.dst)):
                self.files.append(part_file(self.files.directory, part, entry.first + relation, name), rows[members])


def _by_time(batch: _Batch, bounds: tuple[int, int]) -> Parts:
    if batch.time is None:
        raise TypeError("a split by time needs times")
    return time_parts(batch.time, bounds)


def bounds_to_train_before(spec: RelationSpec, times: Times, count: int, fraction: float) -> tuple[int, int] | None:
    """`time_bounds` of a relation's edges. Raises GraphFileError when all are from then on."""
    bounds = time_bounds(times, count, fraction)
    if bounds is not None:
        first, last = times.span()
        if first == last:
            raise GraphFileError(
                f"Relation {spec.name!r}: all of its edges have the time {first}, so a split by time leaves none to "
                'train on. Split by "random".'
            )
        if first >= bounds[0]:
            raise nothing_to_train(spec)
    return bounds


def nothing_but_loops(spec: RelationSpec) -> EdgeFileError:
    """Of a relation that has no edge left."""
    return EdgeFileError(
        f"Relation {spec.name!r}: each of its edges joins an entity to itself. Self-loops are left out, "
        "so nothing remains. Check the columns src and dst, or remove the relation."
    )


def nothing_to_train(spec: RelationSpec) -> GraphFileError:
    """Of a relation of which a split by time holds out all edges."""
    return GraphFileError(
        f"Relation {spec.name!r}: so many of its edges have the latest times that the split by time leaves none "
        'to train on. Lower split.fraction or split by "random".'
    )
