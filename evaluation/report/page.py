"""The page: what was measured, in tables and charts, with the numbers as JSON beside it."""

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bundle.disk import write_text
from bundle.records import Record
from evaluation.compression import CompressionReport
from evaluation.drift import DriftReport
from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport
from evaluation.newcomers import SHARES
from evaluation.ranking.report import RankingReport
from evaluation.report.svg import Series, chart
from evaluation.report.words import mixture_in_words, sweep_in_words
from evaluation.rows import CUTS, Row

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600 } small { color: #666 }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
tr.auto td { font-weight: 600; background: #eef6fc } tr.baseline td:first-child { font-style: italic }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } svg text { font: 11px system-ui, sans-serif; fill: #333 }
td small { display: block; white-space: nowrap }
svg .title { font-weight: 600; font-size: 12px } svg .grid { stroke: #e5e5e5 } .scroll { overflow-x: auto }
"""
COLUMNS = ("recall@10", "one_way_recall@10", "recall@20", "recall@50", "one_way_recall@50", "ndcg@10", "mrr")
CATALOGUE = ("diversity@10", "coverage@10", "gini@10", "in_degree@10")


class Report(Record):
    """Everything on one page; each part is there if it was measured."""

    title: str
    created: datetime
    follow: FollowReport | None = None
    mixtures: MixtureReport | None = None
    ranking: tuple[RankingReport, ...] = ()
    compression: tuple[CompressionReport, ...] = ()
    drift: DriftReport | None = None


def write_report(report: Report, directory: Path) -> Path:
    """Write `report.html` and `report.json` into `directory`, made if missing. Returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "report.json", report.model_dump_json(indent=1))
    page = directory / "report.html"
    write_text(page, render(report))
    return page


def render(report: Report) -> str:
    """The page as one HTML document that needs nothing beside it."""
    sections = []
    if report.follow is not None:
        sections.append(_follow(report.follow))
    if report.mixtures is not None:
        sections.append(_mixtures(report.mixtures))
    sections += [_ranking(ranking) for ranking in report.ranking]
    sections += [_compression(compression) for compression in report.compression]
    if report.drift is not None:
        sections.append(_drift(report.drift))
    title = html.escape(report.title)
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return (
        f'<!doctype html><html lang="en">{head}'
        f"<body><h1>{title}</h1><p><small>{report.created:%Y-%m-%d %H:%M} UTC. Intervals are 95% bootstrap intervals; "
        f"the same numbers are in report.json.</small></p>{''.join(sections)}</body></html>\n"
    )


def _follow(report: FollowReport) -> str:
    rows = [row for row in report.rows if row.missing is None]
    missing = "".join(
        f"<p><small>{html.escape(row.name)}: {html.escape(row.missing)}.</small></p>"
        for row in report.rows
        if row.missing
    )
    columns = [column for column in COLUMNS if any(column in row.metrics for row in rows)]
    heading = f"<h2>Whom to follow: {html.escape(report.relation)}</h2>"
    about = (
        f"<p>{report.users:,} users, held-out {report.held_out} edges, seed {report.seed}. One-way recall counts only "
        "held-out edges whose reverse is not in training. The highlighted row is the version's default.</p>"
    )
    quality = _table("Recall and rank", rows, columns, report.auto)
    catalogue = _table("Diversity, coverage and popularity bias of the first ten", rows, CATALOGUE, report.auto)
    words = f"<p>{html.escape(mixture_in_words(report))}</p>"
    degrees = _by_degree(rows, report.auto)
    return heading + about + _follow_charts(rows) + quality + catalogue + words + degrees + _newcomers(report) + missing


def _mixtures(report: MixtureReport) -> str:
    rows = [one.row.model_copy(update={"name": one.name}) for one in report.mixtures]
    rows += [row.model_copy(update={"kind": "baseline"}) for row in report.singles]
    columns = [name for name in (*SHARES, "diversity@10", "coverage@10") if any(name in row.metrics for row in rows)]
    metric = "one_way_recall@50" if "one_way_recall@50" in columns else "recall@50"
    lines = [
        Series(f"{vector}, {modes} modes", *_line_of(report, vector, modes, metric))
        for vector, modes in dict.fromkeys((one.vector, one.modes) for one in report.mixtures)
    ]
    sizes = sorted({float(one.clusters) for one in report.mixtures})
    lines += [Series(row.name, tuple(sizes), (row.mean(metric),) * len(sizes)) for row in report.singles]
    heading = f"<h2>A mixture against one vector: {html.escape(report.relation)}</h2>"
    about = f"<p>{report.users:,} users; one vector in italics. {html.escape(sweep_in_words(report))}</p>"
    picture = f'<div class="charts">{chart(f"{metric} by number of clusters", "clusters", metric, lines)}</div>'
    return heading + about + picture + _table("Mixtures over numbers of clusters and modes", rows, columns, None)


def _line_of(
    report: MixtureReport, vector: str, modes: int, metric: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = [one for one in report.mixtures if (one.vector, one.modes) == (vector, modes)]
    return tuple(float(one.clusters) for one in found), tuple(one.row.mean(metric) for one in found)


def _follow_charts(rows: Sequence[Row]) -> str:
    curves = [Series(row.name, tuple(map(float, CUTS)), tuple(row.mean(f"recall@{k}") for k in CUTS)) for row in rows]
    recall = chart("Recall by length of the list", "candidates shown", "recall", curves)
    points = [Series(row.name, (row.mean("diversity@10"),), (row.mean("recall@10"),)) for row in rows]
    scatter = chart("Diversity against recall", "diversity@10", "recall@10", points, lines=False)
    return f'<div class="charts">{recall}{scatter}</div>'


def _by_degree(rows: Sequence[Row], auto: str | None) -> str:
    labels = list(rows[0].by_degree) if rows else []
    body = []
    for row in rows:
        cells = [row.by_degree[label]["recall@10"].mean if label in row.by_degree else None for label in labels]
        body.append(_line(row.name, [_number(cell) for cell in cells], row.kind, row.name == auto))
    return _wrap("Recall@10 by number of known edges", ["", *labels], body)


def _newcomers(report: FollowReport) -> str:
    if not report.newcomers:
        return ""
    columns = [name for name in SHARES if any(name in row.metrics for row in report.newcomers)]
    body = []
    for row in report.newcomers:
        cells = [str(row.known), row.asked]
        for name in columns:
            found = row.metrics[name]
            share = f" <small>{row.share[name]:.0%}</small>" if name in row.share else ""
            cells.append(_estimate(found.mean, found.low, found.high) + share)
        body.append(_line(row.strategy, cells, "strategy", row.asked == "in training"))
    about = (
        "<h3>Cold start</h3><p>Users with as many engagements as the first column says, asked for by name, and as "
        "people whom training does not know: by the engagements alone, and by them and by who follows the user. "
        f"The percentages are shares of the recall in the marked row.{_default_for_newcomers(report)}</p>"
    )
    return about + _wrap("Users with few engagements", ["", "engagements", "asked for", *columns], body)


def _default_for_newcomers(report: FollowReport) -> str:
    if report.auto_newcomer is None:
        return ""
    return f" The version answers {html.escape(report.auto_newcomer)} to newcomers who name no strategy."


def _ranking(report: RankingReport) -> str:
    names = ("rce", "roc_auc", "pr_auc", "map")
    body = []
    for row in report.rows:
        cells = [_estimate(row.metrics[name].mean, row.metrics[name].low, row.metrics[name].high) for name in names]
        body.append(_line(f"{row.features}, {row.model}", cells, "strategy", False))
    heading = f"<h2>Ranking features: {html.escape(report.task)}</h2>"
    about = f"<p>{report.train:,} training and {report.test:,} test examples.</p>"
    return heading + about + _wrap("With and without frozen embeddings", ["", "RCE", "ROC-AUC", "PR-AUC", "MAP"], body)


def _compression(report: CompressionReport) -> str:
    body = []
    for row in sorted(report.rows, key=lambda row: (row.ratio, row.rotated)):
        cells = [str(row.subquantizers), f"{row.ratio:.0f}×"]
        cells += [_number(v) for v in (row.mse, row.cosine, row.recall_at_100, row.task_recall, row.task_loss)]
        body.append(_line("OPQ" if row.rotated else "PQ", cells, "", row == report.advised))
    kinds = {"PQ": report.best_of(rotated=False), "OPQ": report.best_of(rotated=True)}
    ratios = {name: tuple(row.ratio for row in rows) for name, rows in kinds.items() if rows}
    errors = [Series(name, ratios[name], tuple(row.mse for row in kinds[name])) for name in ratios]
    losses = [Series(name, ratios[name], tuple(row.task_loss for row in kinds[name])) for name in ratios]
    error = chart("Error by compression", "compression ratio", "MSE", errors)
    loss = chart("Loss on the task by compression", "compression ratio", "relative loss", losses)
    heading = f"<h2>Compression: {html.escape(report.entity_type)}</h2><div class='charts'>{error}{loss}</div>"
    about = (
        f"<p>{report.vectors:,} vectors of dimension {report.dim}; uncompressed, the task ({html.escape(report.task)}) "
        f"measures {_number(report.uncompressed)}. {_advice(report)}</p>"
    )
    head = ["code", "bytes", "ratio", "MSE", "cosine", "recall@100", "task", "loss"]
    return heading + about + _wrap("Product quantisation: plain (PQ) and after a rotation (OPQ)", head, body)


def _advice(report: CompressionReport) -> str:
    if report.advised is None:
        return f"No code keeps the loss within {report.loss_budget:.1%}."
    return f"The highlighted code is the smallest that keeps the loss within {report.loss_budget:.1%}."


def _drift(report: DriftReport) -> str:
    body = []
    for one in report.types:
        cells = [f"{one.kept:,}", f"{one.added:,}", f"{one.removed:,}", _number(one.movement.cosine_mean)]
        cells += [_number(one.neighbour_overlap), _number(one.cluster_churn)]
        body.append(_line(one.entity_type, cells, "", False))
    head = ["", "kept", "new", "gone", "mean cosine", "same neighbours", "changed cluster"]
    title = f"<h2>Drift from {html.escape(report.old)} to {html.escape(report.new)}</h2>"
    return title + _wrap("Entities in both versions", head, body)


def _table(caption: str, rows: Sequence[Row], columns: Sequence[str], auto: str | None) -> str:
    body = []
    for row in rows:
        cells = []
        for column in columns:
            found = row.metrics.get(column)
            cells.append("" if found is None else _estimate(found.mean, found.low, found.high))
        body.append(_line(row.name, cells, row.kind, row.name == auto))
    return _wrap(caption, ["", *columns], body)


def _line(name: str, cells: Sequence[str], kind: str, default: bool) -> str:
    classes = " ".join([kind, "auto"] if default else [kind])
    return f'<tr class="{classes}"><td>{html.escape(name)}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _wrap(caption: str, head: Sequence[str], body: Sequence[str]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    table = f"<table><caption>{html.escape(caption)}</caption><tr>{cells}</tr>{''.join(body)}</table>"
    return f'<div class="scroll">{table}</div>'


def _estimate(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None or low is None or high is None:
        return ""
    return _number(mean) if low == high else f"{_number(mean)} <small>{_number(low)}–{_number(high)}</small>"


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
