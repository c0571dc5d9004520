"""`twhin data generate|import|describe|export-engagements`: graphs to try, from public files, from what users did."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonFlag, counted, emit, line, next_command
from cli.progress import progress
from cli.versions import BundlesOption

app = typer.Typer(help="Make, import and describe graphs.", no_args_is_help=True)


class Source(StrEnum):
    """The public formats that `twhin data import` reads."""

    follow = "twitter-follow"
    fave = "twitter-fave"
    snap = "snap"
    triples = "triples"


class ThirdColumn(StrEnum):
    """What the third column of a SNAP edge list is."""

    time = "time"
    weight = "weight"
    ignore = "ignore"


OutArgument = Annotated[Path, typer.Argument(help="Directory for the graph; a new one.", metavar="DIR")]


@app.command()
def generate(
    out: OutArgument,
    users: Annotated[int, typer.Option(help="Users to make.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal graphs.", min=0)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Generate a graph with planted interests: users who follow, like and click by several interests each."""
    from graph.synthetic import generate as generate_graph

    graph = generate_graph(out, n_users=users, seed=seed)
    emit(
        {"graph": graph},
        as_json,
        lambda: line(f"Generated {graph}. {next_command('twhin', 'train', graph, '--run', 'DIR')}"),
    )


@app.command("import")
def import_(
    source: Annotated[Source, typer.Argument(metavar="FORMAT", help="Which format the files have.")],
    files: Annotated[
        list[Path], typer.Argument(help="The files you have downloaded; .gz and .zip too.", metavar="FILE…")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory for the graph; a new one.", metavar="DIR")],
    third: Annotated[
        ThirdColumn | None, typer.Option(help="What the third column of a SNAP edge list is, if it has one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn public data sets into a graph directory: TwitterFollowGraph, TwitterFaveGraph, SNAP edge lists, triples."""
    from graph.importers import import_graph

    graph = import_graph(source.value, files, out, progress(), third.value if third else None)
    emit(
        {"graph": graph}, as_json, lambda: line(f"Imported {graph}. {next_command('twhin', 'data', 'describe', graph)}")
    )


@app.command()
def describe(
    graph: Annotated[Path, typer.Argument(help="The graph file, graph.toml.", metavar="GRAPH.toml")],
    as_json: JsonFlag = False,
) -> None:
    """Print counts of a graph, what its attributes are, and degrees, reciprocity and coverage, relation by relation."""
    from graph.describe import describe as describe_graph

    answer = describe_graph(graph, progress())
    emit(answer, as_json, lambda: line(*str(answer).split("\n")))


@app.command("export-engagements")
def export_engagements(
    bundles: BundlesOption,
    out: Annotated[Path, typer.Option("--out", help="Directory for the files; a new one.", metavar="DIR")],
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SQLite file of live engagements; default: TWHIN_STATE, as the service."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write what users did while a service ran as edge files, for the next training: a Parquet file a relation.

    The store is the service's own, by the same settings (TWHIN_STATE, TWHIN_REDIS_URL); the service may run meanwhile.
    """
    from bundle.appearing import appearing
    from bundle.reader import read_manifest
    from bundle.versions import current_path
    from cli.serve import service_settings
    from export.engagements import file_name, write_engagements
    from service.state.dump import stored_events

    settings = service_settings(bundles, None, None)
    if state is not None:
        settings = settings.model_copy(update={"state": state, "redis_url": None, "redis_url_file": None})
    spaces = read_manifest(current_path(bundles)).spaces.values()
    kinds = {entity.name: entity.id for space in spaces for entity in space.entities}
    with appearing(out) as staging, progress().stage("Exporting engagements", None, "events") as stage:
        counts = write_engagements(stored_events(settings), kinds, staging, stage.advance)
    files = {relation: out / f"{file_name(relation)}.parquet" for relation in counts.edges}
    answer = {**asdict(counts), "files": files}

    def show() -> None:
        line(f"Exported {counted(counts.events, 'event')} to {out}.")
        for relation, n in counts.edges.items():
            line(f"  {relation}: {counted(n, 'edge')}; add {str(files[relation])!r} to its `files` in graph.toml")
        if counts.removed or counts.blocked:
            line(f"  {counts.removed:,} removed and {counts.blocked:,} blocked stay with the store, which hides them.")

    emit(answer, as_json, show)
