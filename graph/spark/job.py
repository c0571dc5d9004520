"""The job: from rows of files to ids with rows and shards, and to edges in the order in which the format has them.

Everything is Spark SQL over columns of numbers and text; each step's result lies in the work directory, which the
executors and this program share. What depends on the order of files goes by `pos`, a number that ascends with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Int64
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as sql
from pyspark.sql.types import StructType

from bundle.arrays import AnyArray
from graph.schema import RelationSpec
from graph.spark.reader import FileReader
from graph.split import BINS, DRAW_BITS, TEST, TRAIN, VALID, DrawBounds

# Spark's numbers that ascend: the partition above, the row in it below.
IN_PARTITION = 33
_MAX_WEIGHT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Job:
    """Steps over the tables below `work`, each of which is written once and read as often as needed."""

    spark: SparkSession
    work: Path
    _schemas: dict[str, StructType] = field(default_factory=dict)

    def table(self, name: str) -> DataFrame:
        """A table that was written."""
        return self.spark.read.schema(self._schemas[name]).parquet(_pattern(self.work / name))

    def rows(self, name: str) -> int:
        """How many rows a table has, by the ends of its files."""
        return sum(pa.parquet.read_metadata(path).num_rows for path in (self.work / name).glob("part-*.parquet"))

    def _write(self, frame: DataFrame, name: str) -> None:
        frame.write.parquet(f"file://{self.work / name}")
        self._schemas[name] = frame.schema

    def _small(self, name: str, columns: dict[str, Any]) -> DataFrame:
        """A table from this program."""
        (self.work / name).mkdir(parents=True)
        pa.parquet.write_table(pa.table(columns), self.work / name / "part-0.parquet")
        return self.spark.read.parquet(_pattern(self.work / name))

    def read(self, reader: FileReader, name: str) -> int | None:
        """Read files, one a task, into the table `name`; returns the number of edges, None where no file was written
        that this program sees.
        """
        files = self.spark.range(0, len(reader.names), 1, numPartitions=len(reader.names))
        self._write(files.mapInArrow(reader, reader.schema), name)
        return self.rows(name) if any((self.work / name).glob("part-*.parquet")) else None

    def names(self, tables: Sequence[str], most: int) -> list[str]:
        """The different values of the column that names relations, ascending by bytes; no more than `most` and one."""
        found = _union([self.table(name).select("name") for name in tables]).distinct()
        return [row[0] for row in found.orderBy("name").limit(most + 1).collect()]

    def number_ids(self, columns: Sequence[tuple[str, str]], name: str) -> int:
        """The distinct ids of a type, ascending, from columns of tables, as table `name`; returns how many there are.

        Their column n ascends: above its low `IN_PARTITION` bits it is the number of the file, in these the row there.
        """
        ids = _union([self.table(table).select(sql.col(column).alias("id")) for table, column in columns]).distinct()
        self._write(ids.orderBy("id").select("id", sql.monotonically_increasing_id().alias("n")), name)
        return self.rows(name)

    def deal(self, ids: str, starts: dict[int, int], shards: int, name: str) -> None:
        """Row, shard and place of each id, shard after shard; `starts` has the first row of each file of `ids`."""
        columns = {"part": pa.array(starts.keys(), pa.int64()), "start": pa.array(starts.values(), pa.int64())}
        first = sql.broadcast(self._small(f"{name}.starts", columns))
        found = self.table(ids).withColumn("part", sql.shiftrightunsigned("n", IN_PARTITION)).join(first, "part")
        row = sql.col("start") + sql.col("n").bitwiseAND(sql.lit((1 << IN_PARTITION) - 1))
        shard = sql.pmod(sql.xxhash64("id"), sql.lit(shards)).cast("int")
        found = found.select("id", row.alias("row"), shard.alias("shard")).repartitionByRange("shard")
        place = sql.row_number().over(Window.partitionBy("shard").orderBy("row")) - 1
        self._write(found.withColumn("place", place).sortWithinPartitions("shard", "row"), name)

    def relations(self, table: str, names: Sequence[str] | None) -> DataFrame:
        """A table of edges with the number of each one's relation: its place in `names`, or 0."""
        edges = self.table(table)
        if names is None:
            return edges.withColumn("relation", sql.lit(0))
        known = self._small(f"{table}.names", {"relation": np.arange(len(names), dtype=np.int32), "name": list(names)})
        return edges.join(sql.broadcast(known), "name").drop("name")

    def loops(self, edges: DataFrame, relations: int) -> Int64[npt.NDArray[np.int64], " r"]:
        """How many edges of each relation join an entity to itself."""
        return _spread(_counts(edges.where("src = dst"), "relation"), relations)

    def deduplicate(self, edges: DataFrame, spec: RelationSpec, name: str) -> int:
        """The edges to keep, as they occurred first, with their number of occurrences; returns how many there are."""
        proper = edges.where("src <> dst") if spec.source == spec.target else edges
        turned = sql.col("src") > sql.col("dst") if spec.symmetric else sql.lit(False)
        # Position and direction in one number, so that the first occurrence has both.
        first = (sql.col("pos") * 2 + turned.cast("int")).alias("first")
        ends = [sql.least("src", "dst").alias("a"), sql.greatest("src", "dst").alias("b")]
        ends = ends if spec.symmetric else [sql.col("src").alias("a"), sql.col("dst").alias("b")]
        kept = (sql.min("first").alias("first"), sql.count("*").alias("occurrences"))
        extra = [column for column in ("weight", "time") if column in proper.columns]
        folded = [{"weight": _sum_in_order(), "time": sql.min("time")}[column].alias(column) for column in extra]
        grouped = proper.select("relation", *ends, first, "pos", *extra).groupBy("relation", "a", "b")
        found = grouped.agg(*kept, *folded)
        source, target = sql.col("a"), sql.col("b")
        if spec.symmetric:
            was_turned = sql.col("first").bitwiseAND(sql.lit(1)) == 1
            source, target = (
                sql.when(was_turned, one).otherwise(other) for one, other in ((target, source), (source, target))
            )
        found = found.select(
            "relation",
            source.alias("src"),
            target.alias("dst"),
            sql.shiftright("first", 1).alias("pos"),
            "occurrences",
            *extra,
        )
        self._write(found, name)
        return self.rows(name)

    def part_by_draw(
        self, kept: str, names: Sequence[str], symmetric: bool, seed: int, bounds: DrawBounds
    ) -> DataFrame:
        """The edges of a table with their part by `graph.split.Draw`; `names` are the relations' by number."""
        known = self._small(f"{kept}.names", {"relation": np.arange(len(names), dtype=np.int32), "name": list(names)})
        ends = [sql.xxhash64("src"), sql.xxhash64("dst")]
        if symmetric:
            ends = [sql.least(*ends), sql.greatest(*ends)]
        hashed = sql.xxhash64(sql.lit(str(seed)), "name", *ends)
        draw = sql.shiftrightunsigned(hashed, 64 - DRAW_BITS)
        part = sql.when(draw < bounds.test_below, TEST).when(draw >= bounds.valid_from, VALID).otherwise(TRAIN)
        return self.table(kept).join(sql.broadcast(known), "relation").withColumn("part", part).drop("name")

    def write_edges(self, edges: DataFrame, spec: RelationSpec, shards: int, name: str) -> None:
        """Edges of all parts as rows: those to train by cell and place, those held out in the order of files."""
        ends = (("src", spec.source), ("dst", spec.target))
        for end, kind in ends:
            found = self.table(dealt_table(kind)).withColumnRenamed("id", end)
            edges = edges.join(found, end).drop(end)
            for column in ("row", "shard", "place"):
                edges = edges.withColumnRenamed(column, f"{end}_{column}")
        extra = [column for column in ("weight", "time", "occurrences") if column in edges.columns]
        if "weight" in extra:
            # The weights of repeats are added, so a sum may be larger than any one number of 32 bits.
            edges = edges.withColumn("weight", sql.least("weight", sql.lit(_MAX_WEIGHT)).cast("float"))
        cell = (sql.col("src_shard") * shards + sql.col("dst_shard")).alias("cell")
        trained = sql.col("part") == TRAIN
        order = [sql.when(trained, sql.col(column)) for column in ("cell", "src_place", "dst_place")]
        columns = ("src_row", "dst_row", "src_place", "dst_place")
        placed = edges.select("part", "relation", "pos", cell, *columns, *extra)
        ordered = placed.orderBy("part", "relation", *order, "pos").drop("pos")
        self._write(ordered, name)


def dealt_table(entity: str) -> str:
    """The table with the ids of a type dealt to shards."""
    return f"{entity}.dealt"


def part_by_time(kept: DataFrame, bounds: tuple[int, int]) -> DataFrame:
    """Edges with their part by the times from which on they are held out."""
    valid_from, test_from = bounds
    part = sql.when(sql.col("time") >= test_from, TEST).when(sql.col("time") >= valid_from, VALID).otherwise(TRAIN)
    return kept.withColumn("part", part)


def trained_where_all_are_drawn(drawn: DataFrame) -> DataFrame:
    """Edges with their part: those of a relation of which none would be trained are all trained."""
    least = drawn.groupBy("relation").agg(sql.min("part").alias("least"))
    whole = least.where(sql.col("least") > TRAIN).select("relation", sql.lit(True).alias("whole"))
    part = sql.when(sql.col("whole"), TRAIN).otherwise(sql.col("part"))
    return drawn.join(sql.broadcast(whole), "relation", "left").withColumn("part", part).drop("whole")


@dataclass(frozen=True, slots=True)
class TableTimes:
    """The times in a table, counted by Spark (`graph.split.Times`)."""

    table: DataFrame

    def span(self) -> tuple[int, int]:
        """The smallest and the largest."""
        found = self.table.agg(sql.min("time"), sql.max("time")).collect()[0]
        return found[0], found[1]

    def counted(self, low: int, high: int, width: int) -> Int64[npt.NDArray[np.int64], " bins"]:
        """How many lie in each range."""
        # The span of 64-bit times may be wider than 64 bits with a sign.
        distance = f"cast(time as decimal(20, 0)) - cast('{low}' as decimal(20, 0))"
        bin_ = sql.expr(f"cast(({distance}) div cast('{width}' as decimal(20, 0)) as int)").alias("bin")
        return _spread(_counts(self.table.where(sql.col("time").between(low, high)).select(bin_), "bin"), BINS)


def _counts(frame: DataFrame, column: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The values of a column of whole numbers, ascending, and how often each is there."""
    found = frame.groupBy(column).count().toArrow().sort_by(column)
    return found.column(0).to_numpy().astype(np.int64), found.column(1).to_numpy().astype(np.int64)


def _spread(counts: tuple[AnyArray, AnyArray], size: int) -> Int64[npt.NDArray[np.int64], " n"]:
    """Counts of all numbers below `size`."""
    spread = np.zeros(size, dtype=np.int64)
    spread[counts[0]] = counts[1]
    return spread


def _sum_in_order() -> Column:
    """The sum of an edge's weights, one after the other in the order of files: floats added in another give another."""
    pairs = sql.sort_array(sql.collect_list(sql.struct("pos", "weight")))
    return sql.aggregate(pairs, sql.lit(0.0), lambda total, pair: total + pair["weight"])


def _union(frames: list[DataFrame]) -> DataFrame:
    return reduce(DataFrame.union, frames)


def _pattern(path: Path) -> str:
    """A path to read, of which Spark would take some signs for a pattern."""
    return "file://" + "".join(f"\\{sign}" if sign in "{}[]*?\\" else sign for sign in str(path))
