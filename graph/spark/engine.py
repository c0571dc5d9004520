"""The engine for `graph.prepare.prepare` that works on Spark; this program puts its files together at the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

from bundle.errors import UsageError
from bundle.graph_record import EntityRecord, GraphRecord
from bundle.growing import ArrayFiles
from bundle.ids import IdTable, string_ids
from bundle.progress import Progress, Stage
from bundle.shards import MOST_IN_SHARD, shard_count
from graph.assemble import bounds_to_train_before, nothing_but_loops
from graph.edge_reader import EdgeReader
from graph.entries import MAX_RELATIONS, Entry, find_entries
from graph.prepare import too_many, write_attributes
from graph.record import DropCounts, entity_record, graph_record
from graph.schema import FileSplit, GraphFile, TimeSplit
from graph.source import AttributeInput, EdgeInput
from graph.spark.collect import EdgeFiles, batches, collect_ids, collect_shards
from graph.spark.job import Job, TableTimes, dealt_table, part_by_time, trained_where_all_are_drawn
from graph.spark.reader import FileReader
from graph.spark.session import in_our_words, settle, stop
from graph.split import SMALL, TRAIN, draw_bounds

_LOOK_EVERY_SECONDS = 1.0
# The entities of each shard of a type.
Shards = Int64[npt.NDArray[np.int64], " q"]


@dataclass(frozen=True, slots=True)
class SparkEngine:
    """Prepares graphs in one session."""

    spark: SparkSession

    def __call__(
        self,
        graph: GraphFile,
        inputs: list[EdgeInput],
        attributes: list[AttributeInput],
        directory: Path,
        progress: Progress,
    ) -> GraphRecord:
        """Read all inputs and write the arrays of the graph into `directory`, which the executors must share."""
        work = (directory / "work").resolve()
        work.mkdir()
        with in_our_words():
            settle(self.spark)
            preparation = _Preparation(graph, inputs, ArrayFiles(directory), Job(self.spark, work), progress)
            try:
                record = preparation.run(attributes)
            except KeyboardInterrupt:
                stop(self.spark)  # before the directory goes: executors would make it again
                raise
        shutil.rmtree(work)
        return record


@dataclass(slots=True)
class _Preparation:
    graph: GraphFile
    inputs: list[EdgeInput]
    files: ArrayFiles
    job: Job
    progress: Progress

    def run(self, attributes: list[AttributeInput]) -> GraphRecord:
        for number, one in enumerate(self.inputs):
            self._read(number, one)
        with self._step("numbering entities"):
            entities = {name: self.job.number_ids(self._columns_of(name), _ids(name)) for name in self.graph.entities}
        count = shard_count(max(entities.values()))
        tables, shards = {}, {}
        for name, found in entities.items():
            tables[name], shards[name] = self._deal(name, found, count)
        read = {}
        for given in attributes:
            table = tables[given.entity]
            read[given.entity] = write_attributes(self.graph, given, table, self.files, self.progress)
        records: list[EntityRecord] = [
            entity_record(name, table, read.get(name), shards[name].tolist()) for name, table in tables.items()
        ]
        entries = find_entries(self.graph, self._names())
        drops = []
        for number, one in enumerate(self.inputs):
            entry = entries[one.position]
            if one.part == "edges":
                drops.append(self._train(entry, number, shards))
            else:
                self._hold_out(entry, number, one, shards)
        return graph_record(self.graph, records, entries, drops, self.files, count)

    def _read(self, number: int, given: EdgeInput) -> None:
        spec = self.graph.relations[given.position]
        source, target = (self.graph.entities[end].id for end in (spec.source, spec.target))
        reader = EdgeReader(spec, source, target, held_out=given.part != "edges")
        label = spec.name if given.part == "edges" else f"{spec.name} ({given.part})"
        with self._step(f"reading {label}"):
            names = tuple(map(str, given.paths))
            count = self.job.read(FileReader(reader, Path.cwd(), names), _input(number))
        if count is None:
            raise UsageError(
                f"What Spark's executors wrote is not in {self.files.directory}. Name with --out, or where that is a "
                "URL with TMPDIR, a directory on a file system that they and this machine share."
            )
        if count == 0:
            raise reader.nothing_in(given.paths)

    def _columns_of(self, entity: str) -> list[tuple[str, str]]:
        """The columns that hold ids of a type, and the tables where they stand."""
        found = []
        for number, one in enumerate(self.inputs):
            spec = self.graph.relations[one.position]
            ends = (("src", spec.source), ("dst", spec.target))
            found += [(_input(number), column) for column, kind in ends if kind == entity]
        return found

    def _deal(self, name: str, entities: int, count: int) -> tuple[IdTable, Shards]:
        """Write the ids of a type and its rows by shard; returns the ids, and the entities of each shard."""
        with self.progress.stage(f"collecting {name}", entities, "ids") as stage:
            kind = self.graph.entities[name].id
            table, starts = collect_ids(self.job.work / _ids(name), kind, name, self.files, stage)
        dealt = dealt_table(name)
        with self._step(f"dealing {name}"):
            self.job.deal(_ids(name), starts, count, dealt)
        with self.progress.stage(f"collecting shards of {name}", entities, "rows") as stage:
            shards = collect_shards(self.job.work / dealt, name, entities, count, self.files, stage)
        if shards.max() > MOST_IN_SHARD:
            raise too_many(name, entities)
        return table, shards

    def _names(self) -> IdTable:
        """The values of the column that names relations."""
        named = [
            _input(number)
            for number, one in enumerate(self.inputs)
            if self.graph.relations[one.position].relation_column is not None
        ]
        return string_ids(self.job.names(named, MAX_RELATIONS) if named else [])

    def _train(self, entry: Entry, number: int, shards: dict[str, Shards]) -> DropCounts:
        spec, table = entry.spec, _input(number)
        with self._step(f"dealing {spec.name}"):
            edges = self._edges(entry, table)
            loops = np.zeros(len(entry.names), dtype=np.int64)
            if spec.source == spec.target:
                loops = self.job.loops(edges, len(entry.names))
            kept = self.job.deduplicate(edges, spec, f"{table}.kept")
            if not kept:
                raise nothing_but_loops(spec)
            dealt = self._dealt(entry, f"{table}.kept", kept)
            self.job.write_edges(dealt, spec, len(shards[spec.source]), f"{table}.sorted")
        repeats = self._collect(entry, f"{table}.sorted", kept, shards, train=True)
        return DropCounts(repeats, loops)

    def _hold_out(self, entry: Entry, number: int, given: EdgeInput, shards: dict[str, Shards]) -> None:
        table = _input(number)
        part = {"valid": 1, "test": 2}[given.part]
        with self._step(f"dealing {entry.spec.name} ({given.part})"):
            edges = self._edges(entry, table).withColumn("part", sql.lit(part))
            self.job.write_edges(edges, entry.spec, len(shards[entry.spec.source]), f"{table}.sorted")
        self._collect(entry, f"{table}.sorted", self.job.rows(table), shards, train=False)

    def _edges(self, entry: Entry, table: str) -> DataFrame:
        return self.job.relations(table, entry.names if entry.spec.relation_column is not None else None)

    def _dealt(self, entry: Entry, table: str, count: int) -> DataFrame:
        """The edges of an entry, with the part of each."""
        kept, spec = self.job.table(table), entry.spec
        position = self.graph.relations.index(spec)
        given, asked = self.graph.split, position in self.graph.split_relations
        split = given if given is not None and asked else self.graph.validation
        drawn: DataFrame | None = None
        if isinstance(split, TimeSplit):
            times = bounds_to_train_before(spec, TableTimes(kept), count, split.fraction)
            drawn = None if times is None else part_by_time(kept, times)
        elif not isinstance(split, FileSplit) and (bounds := draw_bounds(split, count)) is not None:
            drawn = self.job.part_by_draw(table, entry.names, spec.symmetric, split.seed, bounds)
            # Of few edges of a relation all may be drawn; something must be left to train on.
            if len(entry.names) > 1 or count < SMALL:
                drawn = trained_where_all_are_drawn(drawn)
        return kept.withColumn("part", sql.lit(TRAIN)) if drawn is None else drawn

    def _collect(
        self,
        entry: Entry,
        table: str,
        count: int,
        shards: dict[str, Shards],
        *,
        train: bool,
    ) -> Int64[npt.NDArray[np.int64], " r"]:
        """Write the edges of an entry as rows; returns how many repeats were left out of each relation."""
        spec = entry.spec
        edges = EdgeFiles(
            self.files,
            entry.first,
            len(entry.names),
            shards[spec.source],
            shards[spec.target],
            weight=spec.weight is not None,
            time=spec.time is not None,
        )
        if train:
            edges.begin()
        with self.progress.stage(f"collecting {spec.name}", count, "edges") as stage:
            for batch in batches(self.job.work / table, stage):
                edges.append(batch)
        shutil.rmtree(self.job.work / table)
        return edges.repeats

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """A step of the job, which shows how many of Spark's tasks are done."""
        ended = Event()
        with self.progress.stage(name, None, "tasks") as stage:
            watcher = Thread(target=_watch, args=(self.job.spark, stage, ended), name="spark-progress", daemon=True)
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()


def _watch(spark: SparkSession, stage: Stage, ended: Event) -> None:
    tracker = spark.sparkContext.statusTracker()
    while not ended.wait(_LOOK_EVERY_SECONDS):
        infos = [tracker.getStageInfo(number) for number in tracker.getActiveStageIds()]
        done, total = (sum(getattr(info, name) for info in infos if info) for name in ("numCompletedTasks", "numTasks"))
        if total:
            stage.note(f"{done} of {total} tasks")


def _ids(entity: str) -> str:
    return f"{entity}.ids"


def _input(number: int) -> str:
    return f"input-{number}"
