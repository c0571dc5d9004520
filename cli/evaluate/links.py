"""`twhin evaluate links`: link prediction on held-out edges."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate.options import Part
from cli.output import JsonFlag, emit, table
from cli.progress import progress

if TYPE_CHECKING:
    from evaluation.links import LinkReport


def links(
    run: Annotated[Path, typer.Argument(help="The run directory that `twhin train` wrote.", metavar="RUN_DIR")],
    part: Annotated[Part, typer.Option(help="Which held-out edges to rank.")] = Part.test,
    max_edges: Annotated[int | None, typer.Option(help="Rank a sample of so many edges a relation.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample.", min=0)] = 1,
    without_self: Annotated[
        bool,
        typer.Option("--without-self", help="No entity is its own candidate, as where nobody follows themselves."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Link prediction: filtered MRR and Hits@1/3/10 of held-out edges, both ends, beside random and degree order."""
    from evaluation.links import evaluate_links

    report = evaluate_links(
        run, part=part.value, max_edges=max_edges, seed=seed, without_self=without_self, progress=progress()
    )
    emit(report, as_json, lambda: _show(report))


def _show(report: "LinkReport") -> None:
    questions = {
        "both ends": report.overall,
        "targets": report.target,
        "sources": report.source,
        "by degree": report.degree,
        "at random": report.random,
    }
    rows = [
        [name, one.mrr, one.hits_at_1, one.hits_at_3, one.hits_at_10, one.mean_rank, one.edges]
        for name, one in questions.items()
    ]
    columns = ("", "MRR", "Hits@1", "Hits@3", "Hits@10", "mean rank", "edges")
    table(f"Link prediction on {report.part} edges", columns, rows)
