"""The charts of a page: what the page's script draws, as JSON, and the places where it draws them."""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

# What would end the element that holds the JSON, or begin another, is written as JSON can write any sign.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


@dataclass(frozen=True, slots=True)
class Series:
    """One named line, or the points of one colour.

    `low` and `high` are the ends of the intervals, in step, or nothing; a `baseline` is drawn grey and dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over two axes. In `rows` y is the number of a line of `labels`, and the intervals are along x; else they
    are along y. `zero` keeps 0 in sight; `log` spaces x by ratios.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    kind: Literal["lines", "points", "rows"] = "lines"
    labels: Sequence[str] = ()
    zero: bool = False
    log: bool = False

    def spec(self) -> dict[str, object]:
        """What the script reads. Points that are not finite are left out, and so are series without any."""
        drawn = [one for one in map(_finite, self.series) if one["x"]]
        return {
            "kind": self.kind,
            "title": self.title,
            "x": self.x,
            "y": self.y,
            "labels": list(self.labels),
            "zero": self.zero,
            "log": self.log,
            "series": drawn,
        }


@dataclass(slots=True)
class Charts:
    """The charts of one page, in order."""

    specs: list[dict[str, object]] = field(default_factory=list)

    def add(self, chart: Chart) -> str:
        """The place of a chart in the page; nothing where it has no point."""
        spec = chart.spec()
        if not spec["series"]:
            return ""
        self.specs.append(spec)
        title = html.escape(chart.title)
        missing = "<small>Charts need JavaScript; the tables have the same numbers.</small>"
        return (
            f'<figure class="chart" id="chart-{len(self.specs) - 1}"><figcaption>{title}</figcaption>'
            f'<div class="plot">{missing}</div></figure>'
        )

    def add_all(self, *charts: Chart) -> str:
        """Several charts side by side where there is room."""
        figures = "".join(map(self.add, charts))
        return f'<div class="charts">{figures}</div>' if figures else ""

    def data(self) -> str:
        """The JSON of all charts, as it may stand in an element of a page."""
        return json.dumps(self.specs, allow_nan=False).translate(ESCAPES)


def _finite(series: Series) -> dict[str, object]:
    bounded = len(series.low) == len(series.high) == len(series.x) > 0
    columns = [series.x, series.y, *([series.low, series.high] if bounded else [])]
    kept = [i for i in range(len(series.x)) if all(math.isfinite(column[i]) for column in columns[:2])]
    if bounded and not all(math.isfinite(column[i]) for column in columns for i in kept):
        columns, bounded = columns[:2], False
    x, y, *ends = ([float(column[i]) for i in kept] for column in columns)
    low, high = ends if bounded else ([], [])
    return {"name": series.name, "x": x, "y": y, "low": low, "high": high, "baseline": series.baseline}
