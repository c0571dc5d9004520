"""`--report DIR`: the same numbers as one HTML page and as JSON."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.comparison.records import Comparison
    from evaluation.compression import CompressionReport
    from evaluation.drift import DriftReport
    from evaluation.follow import FollowReport
    from evaluation.mixtures import MixtureReport
    from evaluation.ranking.report import RankingReport


def require_writable(directory: Path | None) -> Path | None:
    """`directory` as it is. Raises UsageError, before anything is measured, when nothing can be written there."""
    if directory is not None:
        whole = directory.absolute()
        nearest = next(path for path in (whole, *whole.parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"--report {directory}: {nearest} is no directory that can be written to. Name another.")
    return directory


ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Also write report.html, one self-contained page, and report.json.",
        metavar="DIR",
        callback=require_writable,
    ),
]


def write(
    directory: Path | None,
    title: str,
    settings: "Mapping[str, object]",
    *,
    run: Path | None = None,
    version: Path | None = None,
    service: str | None = None,
    follow: "tuple[FollowReport, ...]" = (),
    mixtures: "MixtureReport | None" = None,
    ranking: "tuple[RankingReport, ...]" = (),
    compression: "tuple[CompressionReport, ...]" = (),
    drift: "DriftReport | None" = None,
) -> None:
    """Write the page into `directory`; nothing without one.

    `settings` are the command's own; `run`, `version` and `service` are what it measured.
    """
    if directory is None:
        return
    from bundle.reader import read_manifest
    from bundle.run import open_run
    from evaluation.report.page import Report, write_report
    from evaluation.report.provenance import provenance

    report = Report(
        title=title,
        created=datetime.now(UTC),
        provenance=provenance(
            settings,
            run=None if run is None else open_run(run),
            manifest=None if version is None else read_manifest(version),
            version=follow[0].version if follow else None,
            service=service,
        ),
        follow=follow,
        mixtures=mixtures,
        ranking=ranking,
        compression=compression,
        drift=drift,
    )
    say(f"Report: {write_report(report, directory)}")


def write_comparison(
    directory: Path | None, found: "Comparison", settings: "Mapping[str, object]", run: Path | None
) -> None:
    """Write compare.html and compare.json into `directory`; nothing without one."""
    if directory is None:
        return
    from bundle.run import open_run
    from evaluation.comparison.page import write_comparison as write_page
    from evaluation.report.provenance import provenance

    made = provenance(settings, run=None if run is None else open_run(run))
    say(f"Report: {write_page(found, made, datetime.now(UTC), directory)}")
