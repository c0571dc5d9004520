"""`twhin data generate|import|describe`: graphs to try, graphs from public files, what a graph holds."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonFlag, emit, line, next_command
from cli.progress import progress

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


OutArgument = Annotated[Path, typer.Argument(help="Directory for the graph; made if missing.", metavar="DIR")]


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
    source: Annotated[Source, typer.Argument(help="Which format the files have.")],
    files: Annotated[
        list[Path], typer.Argument(help="The files you have downloaded; .gz and .zip too.", metavar="FILE…")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory for the graph; made if missing.", metavar="DIR")],
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
    """Print counts, degrees, reciprocity and coverage of a graph, relation by relation."""
    from graph.describe import describe as describe_graph

    answer = describe_graph(graph, progress())
    emit(answer, as_json, lambda: line(str(answer)))
