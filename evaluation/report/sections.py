"""The parts of an evaluation's page: tables and charts of everything that may be measured."""

import html
from collections.abc import Sequence

from evaluation.compression import CompressionReport
from evaluation.drift import DegreeMovement, DriftReport
from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport
from evaluation.newcomers import SHARES
from evaluation.ranking.report import RankingReport
from evaluation.report.charts import Chart, Charts, Series
from evaluation.report.table import Cell, Column, Line, count, measured, number, plain, table, words
from evaluation.report.words import mixture_in_words, sweep_in_words
from evaluation.rows import CUTS, Estimate, Row, metrics_of

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


def follow_section(report: FollowReport, charts: Charts) -> str:
    """One relation: every strategy beside the baselines, users with few engagements, and what the mixture is worth."""
    rows = [row for row in report.rows if row.missing is None]
    absent = [f"{html.escape(row.name)}: {html.escape(row.missing)}." for row in report.rows if row.missing]
    missing = "".join(f"<p><small>{text}</small></p>" for text in absent)
    columns = [Column(name, "higher") for name in metrics_of(QUALITY, rows)]
    return (
        _about(report)
        + _follow_charts(rows, charts)
        + _methods("Recall and rank", rows, columns, report.auto)
        + _methods("Diversity, coverage and popularity bias of the first ten", rows, CATALOGUE, report.auto)
        + f"<p>{html.escape(mixture_in_words(report))}</p>"
        + _by_degree(rows, report.auto, charts)
        + (_newcomers(report, charts) if report.newcomers else "")
        + missing
    )


def _about(report: FollowReport) -> str:
    one_way = any("one_way_recall@10" in row.metrics for row in report.rows)
    about = (
        f"<p>{report.users:,} users, held-out {report.held_out} edges, seed {report.seed}. "
        f"{'One-way recall counts only held-out edges whose reverse is not in training. ' if one_way else ''}"
        "The highlighted row is the version's default.</p>"
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
    return about


def _methods(caption: str, rows: Sequence[Row], columns: Sequence[Column], auto: str | None) -> str:
    """One line a method, the best in the first column on top."""
    lines = [
        Line(row.name, [measured(row.metrics.get(column.name)) for column in columns], _tag(row), row.name == auto)
        for row in rows
    ]
    return table(caption, [Column(""), *columns], lines, sort_by=0)


def _tag(row: Row) -> str:
    return "baseline" if row.kind == "baseline" else ""


def _best_first(rows: Sequence[Row], metric: str = "recall@10") -> list[Row]:
    return sorted((row for row in rows if metric in row.metrics), key=lambda row: -row.mean(metric))


def _follow_charts(rows: Sequence[Row], charts: Charts) -> str:
    ordered = _best_first(rows)
    cuts = [float(k) for k in CUTS]
    curves = [_series(row, cuts, [f"recall@{k}" for k in CUTS]) for row in ordered]
    points = [_series(row, [row.mean("diversity@10")], ["recall@10"]) for row in ordered]
    return charts.add_all(
        ranked("Recall in the first ten", "recall@10", [(row.name, row.metrics["recall@10"], row) for row in ordered]),
        Chart("Recall by length of the list", "candidates", "recall", curves),
        Chart("Diversity against recall", "diversity@10", "recall@10", points, kind="points"),
    )


def ranked(title: str, metric: str, values: Sequence[tuple[str, Estimate, Row | None]]) -> Chart:
    """A line for each value in the order given, its interval drawn; baselines are a series of their own."""
    kinds = {"strategies": False, "baselines": True}
    series = []
    for name, baseline in kinds.items():
        chosen = [
            (float(place), one)
            for place, (_, one, row) in enumerate(values)
            if (row is not None and row.kind == "baseline") is baseline and one.mean is not None
        ]
        series.append(_along(name, chosen, baseline))
    return Chart(title, metric, "", series, kind="rows", labels=[name for name, _, _ in values])


def _along(name: str, values: Sequence[tuple[float, Estimate]], baseline: bool = False) -> Series:
    """Estimates as points of a chart of rows, each with the number of its row."""
    x = [one.mean if one.mean is not None else float("nan") for _, one in values]
    ends = [(one.low, one.high) for _, one in values if one.low is not None and one.high is not None]
    low, high = zip(*ends, strict=True) if ends and len(ends) == len(values) else ((), ())
    return Series(name, x, [place for place, _ in values], low, high, baseline)


def _series(row: Row, x: Sequence[float], metrics: Sequence[str]) -> Series:
    """The means of a method's metrics with their intervals, at the places `x`."""
    estimates = [row.metrics[name] for name in metrics if name in row.metrics]
    ends = [(one.low, one.high) for one in estimates if one.low is not None and one.high is not None]
    low, high = zip(*ends, strict=True) if len(ends) == len(metrics) else ((), ())
    return Series(row.name, x, [row.mean(name) for name in metrics], low, high, row.kind == "baseline")


def _by_degree(rows: Sequence[Row], auto: str | None, charts: Charts) -> str:
    labels = list(rows[0].by_degree) if rows else []
    ordered = _best_first(rows)
    lines = [
        Line(
            row.name,
            [measured(row.by_degree[label]["recall@10"] if label in row.by_degree else None) for label in labels],
            _tag(row),
            row.name == auto,
        )
        for row in ordered
    ]
    columns = [Column(label, "higher") for label in labels]
    # Six methods are as many as can be told apart in one row.
    told = [row for row in ordered if row.by_degree][:6]
    series = [
        _along(
            row.name,
            [
                (float(place), row.by_degree[label]["recall@10"])
                for place, label in enumerate(labels)
                if label in row.by_degree
            ],
            row.kind == "baseline",
        )
        for row in told
    ]
    chart = Chart("Recall@10 by number of known edges", "recall@10", "", series, kind="rows", labels=labels)
    return charts.add_all(chart) + table("Recall@10 by number of known edges", [Column(""), *columns], lines)


def _newcomers(report: FollowReport, charts: Charts) -> str:
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
    known = list(dict.fromkeys(row.known for row in report.newcomers))
    series = [
        _along(
            asked,
            [
                (float(known.index(row.known)), row.metrics["recall@10"])
                for row in report.newcomers
                if row.asked == asked
            ],
        )
        for asked in dict.fromkeys(row.asked for row in report.newcomers)
    ]
    labels = [f"{n} engagement{'' if n == 1 else 's'}" for n in known]
    chart = Chart("Cold start: recall in the first ten", "recall@10", "", series, kind="rows", labels=labels)
    return about + "</p>" + charts.add_all(chart) + table("Users with few engagements", columns, lines)


def mixtures_section(report: MixtureReport, charts: Charts) -> str:
    """The sweep over clusters and modes."""
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
    about = f"<p>{report.users:,} users; one vector in italics. {html.escape(sweep_in_words(report))}</p>"
    picture = charts.add_all(Chart(f"{metric} by number of clusters", "clusters", metric, lines))
    columns = [Column(name, "higher") for name in names]
    return about + picture + _methods("Mixtures over numbers of clusters and modes", rows, columns, None)


def ranking_section(report: RankingReport, charts: Charts) -> str:
    """Small models with and without embeddings."""
    names = {"RCE": "rce", "ROC-AUC": "roc_auc", "PR-AUC": "pr_auc", "MAP": "map"}
    lines = [
        Line(
            f"{row.features}, {row.model}",
            [measured(row.metrics[name]) for name in names.values()],
            "baseline" if row.features == "none" else "",
        )
        for row in report.rows
    ]
    about = f"<p>{report.train:,} training and {report.test:,} test examples.</p>"
    columns = [Column(""), *(Column(name, "higher") for name in names)]
    ordered = sorted(report.rows, key=lambda row: -(row.metrics["roc_auc"].mean or 0.0))
    series = [
        _along(
            name,
            [(float(i), row.metrics["roc_auc"]) for i, row in enumerate(ordered) if (row.features == "none") is plain_],
            plain_,
        )
        for name, plain_ in (("with embeddings", False), ("without", True))
    ]
    labels = [f"{row.features}, {row.model}" for row in ordered]
    picture = charts.add_all(Chart("ROC-AUC with and without", "ROC-AUC", "", series, kind="rows", labels=labels))
    return about + picture + table("With and without frozen embeddings", columns, lines, sort_by=0)


def compression_section(report: CompressionReport, charts: Charts) -> str:
    """The sweep over code sizes."""
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
    picture = charts.add_all(
        Chart("Error by compression", "compression ratio", "MSE", errors),
        Chart("Loss on the task by compression", "compression ratio", "relative loss", losses),
    )
    budget = f"{report.loss_budget:.1%}"
    advice = f"The highlighted code is the smallest that keeps the loss within {budget}."
    if not report.uncompressed:
        advice = "So no code can be told from another by it."
    elif report.advised is None:
        advice = f"No code keeps the loss within {budget}."
    about = (
        f"<p>{report.vectors:,} vectors of dimension {report.dim}; uncompressed, the task ({html.escape(report.task)}) "
        f"measures {number(report.uncompressed)}. "
        f"{advice}</p>"
    )
    return picture + about + table("Product quantisation: plain (PQ) and after a rotation (OPQ)", CODES, lines)


def drift_section(report: DriftReport) -> str:
    """How far the entities of both moved, in all and by number of edges."""
    lines = [
        Line(
            one.entity_type,
            [
                *(count(one.kept), count(one.added), count(one.removed), plain(one.movement.cosine_mean)),
                *(plain(one.movement.relative_l2_mean), plain(one.neighbour_overlap), plain(one.cluster_churn)),
            ],
        )
        for one in report.types
    ]
    names = ("", "kept", "new", "gone", "mean cosine", "moved, of its length", "same neighbours", "changed cluster")
    found = sorted((one.from_degree, _band(one)) for of in report.types for one in of.by_degree)
    bands = list(dict.fromkeys(band for _, band in found))
    degrees = [
        Line(
            of.entity_type,
            [plain({_band(one): one.movement.cosine_mean for one in of.by_degree}.get(band)) for band in bands],
        )
        for of in report.types
    ]
    return table("Entities in both versions", [Column(name) for name in names], lines) + table(
        "Mean cosine of old and new by number of edges", [Column(name) for name in ("", *bands)], degrees
    )


def _band(one: DegreeMovement) -> str:
    low, high = one.from_degree, one.to_degree
    return f"{low}+" if high is None else f"{low}" if low == high else f"{low}–{high}"
