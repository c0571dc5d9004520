"""The page: what was measured, in tables and charts, with the numbers as JSON beside it."""

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError, field_validator

from bundle.disk import write_text
from bundle.errors import UsageError
from bundle.records import Record, first_error
from evaluation.compression import CompressionReport
from evaluation.drift import DriftReport
from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport
from evaluation.newcomers import SHARES
from evaluation.ranking.report import RankingReport
from evaluation.report.provenance import Provenance
from evaluation.report.svg import Series, chart, palette_css
from evaluation.report.table import Cell, Column, Line, count, measured, number, plain, table, words
from evaluation.report.words import mixture_in_words, sweep_in_words
from evaluation.rows import CUTS, Row

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c61; --paper: #fff; --line: #d8d8dc; --mark: #e8f2fb;
  --best: #0b6b2f }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #ececef; --soft: #a9a9b0; --paper: #16171a;
  --line: #3a3b40; --mark: #1d3247; --best: #7ee2a0 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper) }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600 } small, .tag { color: var(--soft) }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: inherit }
thead th { font-weight: 600 } th:first-child { text-align: left }
tr.marked { background: var(--mark); font-weight: 600 } td.best { color: var(--best); font-weight: 700 }
td.best::before { content: "★ "; font-size: .8em } tr.baseline th { font-style: italic } .tag { font-size: .8em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .9em } dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere } td small { display: block; white-space: nowrap }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } .scroll { overflow-x: auto } svg { max-width: 100%; height: auto }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink) } svg .title { font-weight: 600; font-size: 12px }
svg .grid { stroke: var(--line) } svg .mark { fill: currentColor; stroke: var(--paper); stroke-width: .7 }
svg .interval { stroke: currentColor; stroke-width: 1.2; opacity: .65 }
@media print { body { margin: 0; max-width: none; font-size: 11px } .scroll { overflow: visible }
  h2 { break-after: avoid }
  table, svg, tr { break-inside: avoid } th, td { padding: .15rem .4rem } }
"""
QUALITY = ("recall@10", "one_way_recall@10", "recall@20", "recall@50", "one_way_recall@50", "ndcg@10", "mrr")
# More even exposure is better; whether more popular candidates are, the table does not say.
CATALOGUE = (
    Column("diversity@10", "higher"),
    Column("coverage@10", "higher"),
    Column("gini@10", "lower"),
    Column("in_degree@10"),
)
CODES = (
    *(Column("code"), Column("bytes"), Column("ratio"), Column("MSE", "lower"), Column("cosine", "higher")),
    *(Column("recall@100", "higher"), Column("task", "higher"), Column("loss", "lower")),
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
    """Write `report.html` and `report.json` into `directory`, made if missing. Returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "report.json", report.model_dump_json(indent=1))
    page = directory / "report.html"
    write_text(page, render(report))
    return page


def render(report: Report) -> str:
    """The page as one HTML document that needs nothing beside it."""
    sections = [] if report.provenance is None else [_provenance(report.provenance)]
    sections += [_follow(follow) for follow in report.follow]
    if report.mixtures is not None:
        sections.append(_mixtures(report.mixtures))
    sections += [_ranking(ranking) for ranking in report.ranking]
    sections += [_compression(compression) for compression in report.compression]
    if report.drift is not None:
        sections.append(_drift(report.drift))
    title = html.escape(report.title)
    head = (
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{palette_css()}</style></head>"
    )
    return (
        f'<!doctype html><html lang="en">{head}'
        f"<body><h1>{title}</h1><p><small>{report.created:%Y-%m-%d %H:%M} UTC. Intervals are 95% bootstrap intervals; "
        "★ is the best value of a column; baselines are in italics, grey and dashed; the same numbers are in "
        f"report.json.</small></p>{''.join(sections)}</body></html>\n"
    )


def _provenance(provenance: Provenance) -> str:
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in provenance.lines())
    return f"<dl>{items}</dl>"


def _follow(report: FollowReport) -> str:
    rows = [row for row in report.rows if row.missing is None]
    absent = [f"{html.escape(row.name)}: {html.escape(row.missing)}." for row in report.rows if row.missing]
    missing = "".join(f"<p><small>{text}</small></p>" for text in absent)
    heading = f"<h2>Whom to follow: {html.escape(report.relation)}</h2>"
    about = (
        f"<p>{report.users:,} users, held-out {report.held_out} edges, seed {report.seed}. One-way recall counts only "
        "held-out edges whose reverse is not in training. The highlighted row is the version's default.</p>"
    )
    if report.also_trained:
        share = report.also_trained / report.held_out_edges
        about += (
            f"<p><strong>{report.also_trained:,} of the {report.held_out_edges:,} held-out edges ({share:.1%}) are "
            "training edges too</strong>: no list can contain them, so every recall is too low by as much.</p>"
        )
    if report.unseen_share:
        about += (
            f"<p><strong>{report.unseen_share:.1%} of the held-out edges have an end that no training edge has"
            "</strong>: no list can contain them either.</p>"
        )
    columns = [Column(name, "higher") for name in QUALITY if any(name in row.metrics for row in rows)]
    quality = _methods("Recall and rank", rows, columns, report.auto)
    catalogue = _methods("Diversity, coverage and popularity bias of the first ten", rows, CATALOGUE, report.auto)
    said = f"<p>{html.escape(mixture_in_words(report))}</p>"
    charts = _follow_charts(rows)
    return (
        heading
        + about
        + charts
        + quality
        + catalogue
        + said
        + _by_degree(rows, report.auto)
        + (_newcomers(report) if report.newcomers else "")
        + missing
    )


def _methods(caption: str, rows: Sequence[Row], columns: Sequence[Column], auto: str | None) -> str:
    """One line a method, the best in the first column on top."""
    lines = [
        Line(row.name, [measured(row.metrics.get(column.name)) for column in columns], _tag(row), row.name == auto)
        for row in rows
    ]
    return table(caption, [Column(""), *columns], lines, sort_by=0)


def _tag(row: Row) -> str:
    return "baseline" if row.kind == "baseline" else ""


def _follow_charts(rows: Sequence[Row]) -> str:
    best_first = sorted(rows, key=lambda row: -row.mean("recall@10"))
    cuts = [float(k) for k in CUTS]
    curves = [_series(row, cuts, [f"recall@{k}" for k in CUTS]) for row in best_first]
    recall = chart("Recall by length of the list", "candidates", "recall", curves)
    points = [_series(row, [row.mean("diversity@10")], ["recall@10"]) for row in best_first]
    scatter = chart("Diversity against recall", "diversity@10", "recall@10", points, lines=False)
    return f'<div class="charts">{recall}{scatter}</div>'


def _series(row: Row, x: Sequence[float], metrics: Sequence[str]) -> Series:
    """The means of a method's metrics with their intervals, at the places `x`."""
    estimates = [row.metrics[name] for name in metrics if name in row.metrics]
    ends = [(one.low, one.high) for one in estimates if one.low is not None and one.high is not None]
    low, high = zip(*ends, strict=True) if len(ends) == len(metrics) else ((), ())
    return Series(row.name, tuple(x), tuple(map(row.mean, metrics)), low, high, row.kind == "baseline")


def _by_degree(rows: Sequence[Row], auto: str | None) -> str:
    labels = list(rows[0].by_degree) if rows else []
    lines = [
        Line(
            row.name,
            [measured(row.by_degree[label]["recall@10"] if label in row.by_degree else None) for label in labels],
            _tag(row),
            row.name == auto,
        )
        for row in sorted(rows, key=lambda row: -row.mean("recall@10"))
    ]
    columns = [Column(label, "higher") for label in labels]
    return table("Recall@10 by number of known edges", [Column(""), *columns], lines)


def _newcomers(report: FollowReport) -> str:
    names = [name for name in SHARES if any(name in row.metrics for row in report.newcomers)]
    lines = []
    for row in report.newcomers:
        cells = [words(str(row.known)), words(row.asked)]
        for name in names:
            share = f" <small>{row.share[name]:.0%}</small>" if name in row.share else ""
            cells.append(Cell(measured(row.metrics[name]).text + share))
        lines.append(Line(row.strategy, cells, marked=row.asked == "in training"))
    about = (
        "<h3>Cold start</h3><p>Users with as many engagements as the first column says, asked for by name, and as "
        "people whom training does not know: by the engagements alone, and by them and by who follows the user. "
        "The percentages are shares of the recall in the marked row."
    )
    if report.auto_newcomer is not None:
        about += f" The version answers {html.escape(report.auto_newcomer)} to newcomers who name no strategy."
    columns = [Column(name) for name in ("", "engagements", "asked for", *names)]
    return about + "</p>" + table("Users with few engagements", columns, lines)


def _mixtures(report: MixtureReport) -> str:
    rows = [one.row.model_copy(update={"name": one.name}) for one in report.mixtures]
    rows += [row.model_copy(update={"kind": "baseline"}) for row in report.singles]
    names = [name for name in (*SHARES, "diversity@10", "coverage@10") if any(name in row.metrics for row in rows)]
    metric = "one_way_recall@50" if "one_way_recall@50" in names else "recall@50"
    lines = []
    for vector, modes in dict.fromkeys((one.vector, one.modes) for one in report.mixtures):
        chosen = [one for one in report.mixtures if (one.vector, one.modes) == (vector, modes)]
        sizes = tuple(float(one.clusters) for one in chosen)
        lines.append(Series(f"{vector}, {modes} modes", sizes, tuple(one.row.mean(metric) for one in chosen)))
    sizes = tuple(sorted({float(one.clusters) for one in report.mixtures}))
    lines += [Series(row.name, sizes, (row.mean(metric),) * len(sizes), baseline=True) for row in report.singles]
    heading = f"<h2>A mixture against one vector: {html.escape(report.relation)}</h2>"
    about = f"<p>{report.users:,} users; one vector in italics. {html.escape(sweep_in_words(report))}</p>"
    picture = f'<div class="charts">{chart(f"{metric} by number of clusters", "clusters", metric, lines)}</div>'
    columns = [Column(name, "higher") for name in names]
    return heading + about + picture + _methods("Mixtures over numbers of clusters and modes", rows, columns, None)


def _ranking(report: RankingReport) -> str:
    names = {"RCE": "rce", "ROC-AUC": "roc_auc", "PR-AUC": "pr_auc", "MAP": "map"}
    lines = [
        Line(
            f"{row.features}, {row.model}",
            [measured(row.metrics[name]) for name in names.values()],
            "baseline" if row.features == "none" else "",
        )
        for row in report.rows
    ]
    heading = f"<h2>Ranking features: {html.escape(report.task)}</h2>"
    about = f"<p>{report.train:,} training and {report.test:,} test examples.</p>"
    columns = [Column(""), *(Column(name, "higher") for name in names)]
    return heading + about + table("With and without frozen embeddings", columns, lines, sort_by=0)


def _compression(report: CompressionReport) -> str:
    lines = [
        Line(
            "OPQ" if row.rotated else "PQ",
            [
                *(count(row.subquantizers), words(f"{row.ratio:.0f}×"), plain(row.mse), plain(row.cosine)),
                *(plain(row.recall_at_100), plain(row.task_recall), plain(row.task_loss)),
            ],
            marked=row == report.advised,
        )
        for row in sorted(report.rows, key=lambda row: (row.ratio, row.rotated))
    ]
    kinds = {"PQ": report.best_of(rotated=False), "OPQ": report.best_of(rotated=True)}
    ratios = {name: tuple(row.ratio for row in rows) for name, rows in kinds.items() if rows}
    errors = [Series(name, ratios[name], tuple(row.mse for row in kinds[name])) for name in ratios]
    losses = [Series(name, ratios[name], tuple(row.task_loss for row in kinds[name])) for name in ratios]
    error = chart("Error by compression", "compression ratio", "MSE", errors)
    loss = chart("Loss on the task by compression", "compression ratio", "relative loss", losses)
    heading = f"<h2>Compression: {html.escape(report.entity_type)}</h2><div class='charts'>{error}{loss}</div>"
    budget = f"{report.loss_budget:.1%}"
    advice = f"The highlighted code is the smallest that keeps the loss within {budget}."
    about = (
        f"<p>{report.vectors:,} vectors of dimension {report.dim}; uncompressed, the task ({html.escape(report.task)}) "
        f"measures {number(report.uncompressed)}. "
        f"{f'No code keeps the loss within {budget}.' if report.advised is None else advice}</p>"
    )
    return heading + about + table("Product quantisation: plain (PQ) and after a rotation (OPQ)", CODES, lines)


def _drift(report: DriftReport) -> str:
    lines = [
        Line(
            one.entity_type,
            [
                *(count(one.kept), count(one.added), count(one.removed), plain(one.movement.cosine_mean)),
                *(plain(one.neighbour_overlap), plain(one.cluster_churn)),
            ],
        )
        for one in report.types
    ]
    names = ("", "kept", "new", "gone", "mean cosine", "same neighbours", "changed cluster")
    title = f"<h2>Drift from {html.escape(report.old)} to {html.escape(report.new)}</h2>"
    return title + table("Entities in both versions", [Column(name) for name in names], lines)
