"""The page of a comparison: the verdict, every difference with its interval, for whom, what moved, what it costs."""

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bundle.disk import write_together
from bundle.manifest import IndexEntry
from evaluation.comparison.facts import facts
from evaluation.comparison.records import Comparison, Difference, Group, RelationComparison, Side
from evaluation.comparison.words import label, short, signed
from evaluation.report.charts import Chart, Charts, Series
from evaluation.report.document import document
from evaluation.report.provenance import Provenance
from evaluation.report.sections import drift_section
from evaluation.report.table import Cell, Column, Line, count, table, words

HOW = {
    "paired": "Both were asked for the same users about the same held-out edges; intervals are 95% bootstrap "
    "intervals of the mean difference, user by user.",
    "builds": "What each build measured on its own validation edges and users; intervals of the differences are "
    "Newcombe's, from Wilson's intervals of both, and wider than asking both with --run.",
    "reports": "What each report measured; intervals of the differences are put together from those of both, and wider "
    "than asking both with twhin compare --run.",
}
DRAWN = ("recall@10", "recall@50", "one_way_recall@10")
SHOWN = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50", "ndcg@10")
OUTCOMES = {"better": "better", "worse": "worse", "alike": "alike", "unknown": ""}


def write_comparison(found: Comparison, made: Provenance, created: datetime, directory: Path) -> Path:
    """Write `compare.html` and `compare.json` into `directory`, made if missing. Returns the page's path.

    Raises DiskFull.
    """
    page = directory / "compare.html"
    write_together({directory / "compare.json": found.model_dump_json(indent=1), page: render(found, made, created)})
    return page


def render(found: Comparison, made: Provenance | None, created: datetime) -> str:
    """The page as one HTML document that needs nothing beside it."""
    charts = Charts()
    sections = [(one.relation, _relation(one, charts)) for one in found.relations]
    if found.a.indexes or found.b.indexes:
        sections.append(("What a search finds, and what it costs", _indexes(found, charts)))
    if found.drift is not None:
        sections.append(("How far entities moved", drift_section(found.drift)))
    sections.append(("Facts", _facts(found)))
    names = f"A is <b>{html.escape(found.a.name)}</b>, B is <b>{html.escape(found.b.name)}</b>."
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in found.notes)
    lead = (
        f'<p class="verdict">{html.escape(found.verdict)}</p><p>{names} Differences are B less A: to the right of 0 B '
        "is better, and where an interval has 0 in it the two are alike. The same numbers are in compare.json.</p>"
        f"{f'<ul>{notes}</ul>' if notes else ''}"
    )
    return document(f"{found.a.name} and {found.b.name}", created, lead, sections, charts, made)


def _relation(one: RelationComparison, charts: Charts) -> str:
    users = "" if one.users is None else f"{one.users:,} users. "
    auto = "" if one.auto_a is None else f" Answered by default by {one.auto_a} in A, by {one.auto_b} in B."
    about = f"<p>{users}{HOW[one.how]}{html.escape(auto)}</p>" if one.strategies else ""
    for share, version in ((one.trained_a, "A"), (one.trained_b, "B")):
        if share > 0:
            about += (
                f"<p><strong>{share:.1%} of the held-out edges are training edges of {version}</strong>: "
                "they are left out for both.</p>"
            )
    pictures = charts.add_all(
        _differences("By strategy", one.strategies, [group.name for group in one.strategies]),
        _differences("For whom", one.groups, [label(group) for group in one.groups]),
    )
    lacking = [
        f"<p><small>Only {version} has {html.escape(', '.join(names))}.</small></p>"
        for version, names in (("A", one.only_a), ("B", one.only_b))
        if names
    ]
    return (
        about
        + pictures
        + _table("By strategy, best of B first", one.strategies, [group.name for group in one.strategies], by_b=True)
        + _table("The default answers, for whom", one.groups, [label(group) for group in one.groups])
        + "".join(lacking)
        + _overlap(one)
    )


def _differences(title: str, groups: Sequence[Group], labels: Sequence[str]) -> Chart:
    """A line for each group, a series for each metric."""
    series = []
    for metric in DRAWN:
        some = [(float(i), group.metrics[metric]) for i, group in enumerate(groups) if metric in group.metrics]
        known = [(place, one) for place, one in some if one.difference is not None]
        ends = [(one.low, one.high) for _, one in known if one.low is not None and one.high is not None]
        low, high = zip(*ends, strict=True) if ends and len(ends) == len(known) else ((), ())
        x = [one.difference for _, one in known if one.difference is not None]
        series.append(Series(metric, x, [place for place, _ in known], low, high))
    return Chart(title, "B less A", "", series, kind="rows", labels=labels, zero=True)


def _table(caption: str, groups: Sequence[Group], labels: Sequence[str], *, by_b: bool = False) -> str:
    """Means of both and the difference, metric by metric."""
    metrics = [name for name in SHOWN if any(name in group.metrics for group in groups)]
    lines = []
    for group, name in zip(groups, labels, strict=True):
        cells = [cell for metric in metrics for cell in _cells(group.metrics.get(metric))]
        lines.append(
            Line(name, [count(group.users), *cells, words(OUTCOMES[group.outcome()])], marked=group.name == "auto")
        )
    if by_b:
        lines.sort(key=lambda line: -line.cells[1].value)
    heads = [head for metric in metrics for head in (metric, "difference")]
    return table(caption, [Column(name) for name in ("", "users", *heads, "B is")], lines) if lines else ""


def _cells(found: Difference | None) -> tuple[Cell, Cell]:
    if found is None:
        return Cell(""), Cell("")
    interval = "" if found.low is None else f" <small>{signed(found.low)} to {signed(found.high)}</small>"
    kind = {"better": "better", "worse": "worse"}.get(found.outcome, "")
    means = Cell(f"{short(found.a)} → {short(found.b)}", float("nan") if found.b is None else found.b)
    return means, Cell(f"{signed(found.difference)}{interval}", kind=kind)


def _overlap(one: RelationComparison) -> str:
    lines = [
        Line(
            each.strategy,
            [count(each.users), Cell(f"{each.shared:.0%}"), Cell(f"{each.same_first:.0%}")],
            marked=each.strategy == "auto",
        )
        for each in one.overlap
    ]
    if not lines:
        return ""
    names = ("", "users", "candidates that both have", "the same first")
    return table(f"How alike the first {one.overlap[0].k} are", [Column(name) for name in names], lines)


def _indexes(found: Comparison, charts: Charts) -> str:
    """Recall against time of the searchers that each build tried, and of those that it took."""
    pictures = []
    for name in dict.fromkeys((*found.a.indexes, *found.b.indexes)):
        series = [
            _tried(f"{letter}, {kind}", side.indexes[name], kind)
            for letter, side in (("A", found.a), ("B", found.b))
            if name in side.indexes
            for kind in dict.fromkeys(one.kind for one in side.indexes[name].tried)
        ]
        series += [
            _taken(letter, side, name) for letter, side in (("A", found.a), ("B", found.b)) if name in side.indexes
        ]
        pictures.append(Chart(f"Searching {name}", "CPU µs a query", "recall", series, log=True))
    return (
        "<p>Points that no other searcher of the same build beats in recall, CPU time and bytes at once, and the one "
        "that was taken, as it was measured at last. Times are of the machines that built them.</p>"
        + charts.add_all(*pictures)
    )


def _tried(name: str, entry: IndexEntry, kind: str) -> Series:
    points = sorted((one.cpu_us_per_query, one.recall) for one in entry.tried if one.kind == kind)
    return Series(name, [x for x, _ in points], [y for _, y in points])


def _taken(letter: str, side: Side, name: str) -> Series:
    entry = side.indexes[name]
    recall = next(iter(entry.recall.values()), float("nan"))
    time = float("nan") if entry.cpu_us_per_query is None else entry.cpu_us_per_query
    return Series(f"{letter}, taken: {entry.kind}", [time], [recall], baseline=True)


def _facts(found: Comparison) -> str:
    lines = [Line(name, [words(before), words(after)]) for name, before, after in facts(found.a, found.b)]
    columns = [Column(name) for name in ("", f"A: {found.a.name}", f"B: {found.b.name}")]
    return table("What both hold", columns, lines) if lines else "<p>Two reports: nothing but their numbers.</p>"
