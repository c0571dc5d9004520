"""`twhin prepare`: from graph files to a prepared graph, on this machine or on Spark."""

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.output import JsonFlag, counted, emit, line
from cli.progress import progress, say

if TYPE_CHECKING:
    from bundle.graph_record import GraphRecord
    from bundle.prepared import PreparedGraph, PreparedRelation
    from graph.prepare import Engine

MOST_SHOWN = 20


class EngineName(StrEnum):
    """What reads the files and deals the edges."""

    local = "local"
    spark = "spark"


def prepare(
    graph: Annotated[Path, typer.Argument(help="The graph file, graph.toml.", metavar="GRAPH.toml")],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="Directory for the prepared graph; RUN/graph is where `twhin train` takes it from. With Spark on a "
            "file system that all executors share. Or a folder in a store: s3://bucket/path, gs:// or az://.",
            metavar="DIR|URL",
        ),
    ],
    engine: Annotated[EngineName, typer.Option(help="This machine's cores, or Spark.")] = EngineName.local,
    master: Annotated[
        str | None,
        typer.Option(
            help="With --engine spark: Spark's master, as spark://host:7077. Default: spark-submit's, else local[*].",
            metavar="URL",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prepare a graph for training: read and check its files, map ids to rows, hold edges out, sort edges by shard.

    `twhin train` does this by itself. Either engine gives the same arrays and digests, byte for
    byte. What is there already, made from unchanged files, is left as it is. On its way to a store the
    graph is made in the directory for temporary files (TMPDIR).
    """
    if engine is EngineName.spark:
        from graph.spark.engine import SparkEngine
        from graph.spark.session import session

        with session(master) as spark:
            record = _prepared(graph, out, SparkEngine(spark))
    elif master is not None:
        raise UsageError("--master is Spark's. Add --engine spark, or leave it out.")
    else:
        record = _prepared(graph, out, None)
    entities = {entity.name: entity.count for entity in record.entities}
    answer: dict[str, object] = {"graph": out, "digest": record.digest, "entities": entities}
    answer["relations"] = [
        {
            "name": relation.name,
            "train": relation.edges,
            "valid": relation.valid,
            "test": relation.test,
            "duplicates": relation.duplicates,
            "self_loops": relation.self_loops,
        }
        for relation in record.relations
    ]
    edges = sum(relation.edges for relation in record.relations)
    found = f"{sum(entities.values()):,} entities, {counted(edges, 'edge')} to train"
    emit(answer, as_json, lambda: line(f"Prepared {found}: {out}."))


def _prepared(graph: Path, out: str, engine: "Engine | None") -> "GraphRecord":
    """The graph in the directory or the store that `out` names."""
    from bundle.graph_record import read_record
    from bundle.run import GRAPH_DIRECTORY, RUN_FILE
    from graph.prepare import found
    from graph.prepare import prepare as prepare_graph
    from storage.address import is_url
    from training.resume import only_trainer

    if is_url(out):
        from graph.stored import prepare_into_store
        from storage.store import open_store

        return prepare_into_store(graph, open_store(out), progress(), engine=engine, told=tell)
    directory = Path(out)
    run = directory.resolve().parent if directory.resolve().name == GRAPH_DIRECTORY else None
    if run is not None:
        found(graph)  # before anything is made there
    with nullcontext() if run is None else only_trainer(run):  # a training would lose its graph
        finished = run is not None and (run / RUN_FILE).exists()
        tell(prepare_graph(graph, directory, progress(), may_replace=not finished, engine=engine))
        return read_record(directory)


def tell(prepared: "PreparedGraph") -> None:
    """Say what was held out and left out, relation by relation, and what to be warned of."""
    for relation in prepared.relations[:MOST_SHOWN]:
        say(
            f"  {relation.name}: {counted(len(relation.train), 'edge')} to train{_held_out(relation)}"
            f" ({counted(relation.duplicates, 'duplicate')} and {counted(relation.self_loops, 'self-loop')} left out)"
        )
    if len(prepared.relations) > MOST_SHOWN:
        say(f"  … and {len(prepared.relations) - MOST_SHOWN} more relations")
    for warning in prepared.warnings():
        say(f"  {warning}")


def _held_out(relation: "PreparedRelation") -> str:
    """What a relation's training goes without, and what for."""
    if len(relation.test):
        return f", {len(relation.valid):,} for validation, {len(relation.test):,} for the test"
    if len(relation.valid):
        return f", {len(relation.valid):,} held out to learn what answers best"
    return ""
