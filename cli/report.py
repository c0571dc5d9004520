"""`--report DIR`: the same numbers as one HTML page and as JSON."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.progress import say

if TYPE_CHECKING:
    from evaluation.compression import CompressionReport
    from evaluation.drift import DriftReport
    from evaluation.follow import FollowReport
    from evaluation.mixtures import MixtureReport
    from evaluation.ranking import RankingReport

ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write report.html, one self-contained page, and report.json.", metavar="DIR"),
]


def write(
    directory: Path | None,
    title: str,
    *,
    follow: "FollowReport | None" = None,
    mixtures: "MixtureReport | None" = None,
    ranking: "tuple[RankingReport, ...]" = (),
    compression: "tuple[CompressionReport, ...]" = (),
    drift: "DriftReport | None" = None,
) -> None:
    """Write the page into `directory`; nothing without one."""
    if directory is None:
        return
    from evaluation.report.page import Report, write_report

    found = Report(
        title=title,
        created=datetime.now(UTC),
        follow=follow,
        mixtures=mixtures,
        ranking=ranking,
        compression=compression,
        drift=drift,
    )
    say(f"Report: {write_report(found, directory)}")
