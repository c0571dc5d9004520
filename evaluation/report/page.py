"""The page of an evaluation: what was measured, in tables and charts, with the numbers as JSON beside it."""

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError, field_validator

from bundle.disk import write_together
from bundle.errors import UsageError
from bundle.records import Record, first_error
from evaluation.compression import CompressionReport
from evaluation.drift import DriftReport
from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport
from evaluation.ranking.report import RankingReport
from evaluation.report.charts import Charts
from evaluation.report.document import document
from evaluation.report.provenance import Provenance
from evaluation.report.sections import (
    compression_section,
    drift_section,
    follow_section,
    mixtures_section,
    ranking_section,
)
from evaluation.report.table import Column, Line, measured, table, words
from evaluation.rows import Row

LEGEND = (
    "Intervals are 95% bootstrap intervals over users. ★ is the best value of a column; baselines are in italics, grey "
    "and dashed. Point at a chart for its numbers, click a name below it to hide or show it, twice to show it alone. "
    "The same numbers are in report.json."
)


class Report(Record):
    """Everything on one page; each part is there if it was measured."""

    title: str
    created: datetime
    provenance: Provenance | None = None
    follow: tuple[FollowReport, ...] = ()
    mixtures: MixtureReport | None = None
    ranking: tuple[RankingReport, ...] = ()
    compression: tuple[CompressionReport, ...] = ()
    drift: DriftReport | None = None

    @field_validator("follow", mode="before")
    @classmethod
    def _one_as_a_tuple(cls, value: object) -> object:
        """Reports from before every relation was on the page have one alone."""
        return () if value is None else value if isinstance(value, tuple | list) else (value,)


def read_report(directory: Path) -> Report:
    """The report that `write_report` left in the directory. Raises UsageError where there is none to be read."""
    file = directory / "report.json"
    try:
        return Report.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{file} is missing. Name a directory that --report wrote.") from error
    except ValidationError as error:
        raise UsageError(f"{file} is no report of this release: {first_error(error)}. Write it again.") from error


def write_report(report: Report, directory: Path) -> Path:
    """Write `report.html` and `report.json` into `directory`, made if missing. Returns the page's path.

    Raises DiskFull.
    """
    page = directory / "report.html"
    write_together({directory / "report.json": report.model_dump_json(indent=1), page: render(report)})
    return page


def render(report: Report) -> str:
    """The page as one HTML document that needs nothing beside it."""
    charts = Charts()
    sections = [(f"Candidates: {one.relation}", follow_section(one, charts)) for one in report.follow]
    if report.mixtures is not None:
        heading = f"A mixture against one vector: {report.mixtures.relation}"
        sections.append((heading, mixtures_section(report.mixtures, charts)))
    sections += [(f"Ranking features: {one.task}", ranking_section(one, charts)) for one in report.ranking]
    sections += [(f"Compression: {one.entity_type}", compression_section(one, charts)) for one in report.compression]
    if report.drift is not None:
        heading = f"Drift from {Path(report.drift.old).name} to {Path(report.drift.new).name}"
        sections.append((heading, drift_section(report.drift)))
    lead = f"<p><small>{html.escape(LEGEND)}</small></p>" + _summary(report.follow)
    return document(report.title, report.created, lead, sections, charts, report.provenance)


def _summary(reports: Sequence[FollowReport]) -> str:
    """One line a relation: the default answers beside the best strategy and the best baseline."""
    lines = []
    for report in reports:
        strategies, baselines = (_best(report.rows, kind) for kind in ("strategy", "baseline"))
        default = next((row for row in report.rows if row.name == report.auto and row.missing is None), None)
        cells = [words(f"{report.users:,}")]
        for row in (default, strategies, baselines):
            cells.append(words("" if row is None else row.name))
            cells.append(measured(None if row is None else row.metrics.get("recall@10")))
        lines.append(Line(report.relation, cells))
    names = ("relation", "users", "default", "recall@10", "best strategy", "recall@10", "best baseline", "recall@10")
    return table("In short", [Column(name) for name in names], lines) if lines else ""


def _best(rows: Sequence[Row], kind: str) -> Row | None:
    some = [row for row in rows if row.kind == kind and row.missing is None and "recall@10" in row.metrics]
    return max(some, key=lambda row: row.mean("recall@10"), default=None)
