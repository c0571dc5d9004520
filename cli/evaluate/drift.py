"""`twhin evaluate drift`: how far vectors moved from one version to the next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, emit, table
from cli.progress import progress

if TYPE_CHECKING:
    from evaluation.drift import DriftReport


def drift(
    old: Annotated[Path, typer.Argument(help="The earlier run or version.", metavar="OLD")],
    new: Annotated[Path, typer.Argument(help="The later run or version.", metavar="NEW")],
    k: Annotated[int, typer.Option("-k", help="How many neighbours to compare.", min=1)] = 10,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Drift: how far the vectors of the entities that both have moved, and whether their neighbours stayed."""
    from evaluation.drift import evaluate_drift

    measured = evaluate_drift(old, new, k=k, progress=progress())
    emit(measured, as_json, lambda: _show(measured))
    write(report, "Drift", {"old": old, "new": new, "k": k}, drift=measured)


def _show(report: "DriftReport") -> None:
    columns = ("type", "kept", "added", "removed", "L2", "relative L2", "cosine", "neighbours kept", "cluster churn")
    rows = [
        [
            one.entity_type,
            one.kept,
            one.added,
            one.removed,
            one.movement.l2_mean,
            one.movement.relative_l2_mean,
            one.movement.cosine_mean,
            one.neighbour_overlap,
            one.cluster_churn,
        ]
        for one in report.types
    ]
    table(f"From {report.old} to {report.new}", columns, rows)
