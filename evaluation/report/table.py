"""Tables of measurements as HTML: rows sorted, the best value of each column marked, baselines told apart."""

import html
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from evaluation.rows import Estimate

Better = Literal["higher", "lower"]


class Column(NamedTuple):
    """A column's heading, and which of its values is the best; None where none is."""

    name: str
    better: Better | None = None


class Cell(NamedTuple):
    """One value as it is shown, and as it is compared; NaN is compared with nothing. `kind` is a class of the style."""

    text: str
    value: float = float("nan")
    kind: str = ""


class Line(NamedTuple):
    """A row of a table. `tag` is a word beside its name, `marked` highlights it."""

    name: str
    cells: Sequence[Cell]
    tag: str = ""
    marked: bool = False


def table(caption: str, columns: Sequence[Column], lines: Sequence[Line], *, sort_by: int | None = None) -> str:
    """The table, best first by the column numbered `sort_by`, or in the order given.

    The first heading stands over the lines' names. Lines without a value to sort by come last.
    """
    if sort_by is not None:
        sign = -1.0 if columns[1 + sort_by].better == "higher" else 1.0
        lines = sorted(lines, key=lambda line: _rank(sign * line.cells[sort_by].value))
    best = [_best([line.cells[i].value for line in lines], column.better) for i, column in enumerate(columns[1:])]
    heads = "".join(f'<th scope="col">{html.escape(column.name)}</th>' for column in columns)
    body = "".join(_row(line, best) for line in lines)
    label = html.escape(caption)
    caption = f"<caption>{label}</caption>"
    content = f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    # Keys scroll it too, where it is wider than the page.
    return f'<div class="scroll" role="group" aria-label="{label}" tabindex="0">{content}</div>'


def measured(estimate: Estimate | None) -> Cell:
    """A mean with its interval; empty where nothing was measured."""
    if estimate is None or estimate.mean is None:
        return Cell("")
    low, high = estimate.low, estimate.high
    interval = "" if low is None or high is None or low == high else f" <small>{number(low)}–{number(high)}</small>"
    return Cell(number(estimate.mean) + interval, estimate.mean)


def plain(value: float | None) -> Cell:
    """A number without an interval."""
    return Cell("") if value is None else Cell(number(value), value)


def count(value: int) -> Cell:
    """A count, thousands apart."""
    return Cell(f"{value:,}")


def words(text: str) -> Cell:
    """Text, which is compared with nothing."""
    return Cell(html.escape(text), kind="words")


def number(value: float) -> str:
    """Three decimals of what is small, one of what is not; nothing of NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _best(values: Sequence[float], better: Better | None) -> float:
    """The best of the values; NaN where none is better than another."""
    known = [value for value in values if not math.isnan(value)]
    if better is None or len(set(map(number, known))) < 2:
        return float("nan")
    return max(known) if better == "higher" else min(known)


def _row(line: Line, best: Sequence[float]) -> str:
    # The best is told apart from others by what is printed: what looks equal is equally good.
    cells = ""
    for cell, top in zip(line.cells, best, strict=True):
        kind = "best" if number(cell.value) and number(cell.value) == number(top) else cell.kind
        opened = f'<td class="{kind}">' if kind else "<td>"
        cells += f"{opened}{cell.text}</td>"
    tag = f' <span class="tag">{html.escape(line.tag)}</span>' if line.tag else ""
    classes = " ".join(["marked"] * line.marked + [line.tag] * bool(line.tag))
    row = f'<tr class="{classes}">' if classes else "<tr>"
    return f'{row}<th scope="row">{html.escape(line.name)}{tag}</th>{cells}</tr>'
