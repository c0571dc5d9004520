"""Line and scatter charts as SVG text: no script, no font, no file beside the page.

Colours are variables of the page's style (`palette_css`), so that they follow its light, dark and printed forms.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 28, 44
LINE_HEIGHT = 16
# Twelve hues that stand apart on white, and the same lighter on black. Baselines are grey and dashed.
LIGHT = (
    "#0072b2",
    "#d55e00",
    "#007a5a",
    "#b0307f",
    "#8a6100",
    "#5b3fa8",
    "#c1272d",
    "#00797f",
    "#4f7a1e",
    "#1a5fd0",
    "#7a4b2a",
    "#a0149c",
)
DARK = (
    "#56b4e9",
    "#ff9d5c",
    "#3ddc9f",
    "#ff8fcf",
    "#f0c75e",
    "#b9a3ff",
    "#ff8a80",
    "#4fd6dc",
    "#b5d97a",
    "#9cc0ff",
    "#d9a982",
    "#f08cf0",
)
GREY = ("#6b6b6b", "#a8a8a8")
# Marks by turns, so that nothing is told apart by its colour alone and more series than colours still differ.
MARKS = ("circle", "square", "triangle", "diamond", "down", "bar")
DASHES = ("6 3", "2 3", "8 3 2 3", "1 4", "10 4", "4 2")
# Pixels between the same point of two series, so that their intervals can be told apart.
DODGE = 1.8


@dataclass(frozen=True, slots=True)
class Series:
    """One named line, or the points of one colour in a scatter chart.

    `low` and `high` are the ends of y's intervals, in step, or nothing; `baseline` draws it grey and dashed.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """How one series is drawn: the class that has its colour, the shape of its marks, the dashes of its line."""

    colour: str
    mark: str
    dash: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The name of an axis and the range it shows."""

    name: str
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where `value` lies between the ends, 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """About five round numbers inside the range."""
        rough = (self.high - self.low) / 5.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def palette_css() -> str:
    """The colours of the charts as style rules, for light pages and for dark ones."""

    def rules(colours: Sequence[str], grey: str) -> str:
        classes = [f".hue{i} {{ color: {colour} }}" for i, colour in enumerate(colours)]
        return " ".join([*classes, f".grey {{ color: {grey} }}"])

    light, dark = rules(LIGHT, GREY[0]), rules(DARK, GREY[1])
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}"


def looks(series: Sequence[Series]) -> list[Look]:
    """A look for each series, no two alike."""
    chosen, strategies, baselines = list[Look](), 0, 0
    for one in series:
        if one.baseline:
            chosen.append(Look("grey", MARKS[baselines % len(MARKS)], DASHES[baselines // len(MARKS) % len(DASHES)]))
            baselines += 1
        else:
            turn = strategies // len(LIGHT)
            mark = MARKS[(strategies + turn) % len(MARKS)]
            chosen.append(Look(f"hue{strategies % len(LIGHT)}", mark, "" if not turn else DASHES[turn % len(DASHES)]))
            strategies += 1
    return chosen


def chart(title: str, x_name: str, y_name: str, series: Sequence[Series], *, lines: bool = True) -> str:
    """The chart as one `<svg>` element. Points that are not finite are left out."""
    drawn = [_finite(one) for one in series]
    x_axis = _axis(x_name, [value for one in drawn for value in one.x])
    y_axis = _axis(y_name, [value for one in drawn for value in (*one.y, *one.low, *one.high)])
    height = max(HEIGHT, TOP + LINE_HEIGHT * (len(series) + 1))
    parts = [_frame(title, x_axis, y_axis)]
    for position, (one, look) in enumerate(zip(drawn, looks(drawn), strict=True)):
        dodge = DODGE * (position - (len(drawn) - 1) / 2) if lines else 0.0
        parts.append(_series(one, look, position, dodge, x_axis, y_axis, lines))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{html.escape(title)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _finite(series: Series) -> Series:
    kept = [i for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)) if math.isfinite(x) and math.isfinite(y)]
    ends = [tuple(values[i] for i in kept) for values in (series.low, series.high) if values]
    bounded = len(ends) == 2 and all(map(math.isfinite, ends[0] + ends[1]))
    low, high = ends if bounded else ((), ())
    x, y = tuple(series.x[i] for i in kept), tuple(series.y[i] for i in kept)
    return Series(series.name, x, y, low, high, series.baseline)


def _axis(name: str, values: Sequence[float]) -> Axis:
    if not values:
        return Axis(name, 0.0, 1.0)
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(name, min(0.0, low) if 0 <= low < 0.4 * high else low - room, high + room)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _frame(title: str, x_axis: Axis, y_axis: Axis) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<text x="{LEFT}" y="16" class="title">{html.escape(title)}</text>']
    for value in x_axis.ticks():
        x = _x(x_axis, value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in y_axis.ticks():
        y = _y(y_axis, value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_axis.name)}</text>')
    upright = f'transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)"'
    parts.append(f'<text {upright} text-anchor="middle">{html.escape(y_axis.name)}</text>')
    return "".join(parts)


def _series(series: Series, look: Look, position: int, dodge: float, x_axis: Axis, y_axis: Axis, lines: bool) -> str:
    """Line, intervals and marks of one series, and its line of the legend."""
    name = html.escape(series.name)
    points = [(_x(x_axis, x) + dodge, _y(y_axis, y)) for x, y in zip(series.x, series.y, strict=True)]
    parts = []
    if lines and points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"{dash}/>')
    for (x, _), low, high in zip(points, series.low, series.high, strict=False):
        ends = f'y1="{_y(y_axis, low):.1f}" y2="{_y(y_axis, high):.1f}"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} class="interval"/>')
    for i, (x, y) in enumerate(points):
        interval = f" ({series.low[i]:.4g}–{series.high[i]:.4g})" if series.low else ""
        label = f"<title>{name}: {series.x[i]:g}, {series.y[i]:.4g}{interval}</title>"
        parts.append(_mark(look.mark, x, y, label))
    height = TOP + 10.0 + LINE_HEIGHT * position
    parts.append(_mark(look.mark, WIDTH - RIGHT + 14.0, height, ""))
    parts.append(f'<text x="{WIDTH - RIGHT + 24}" y="{height + 4:g}">{name}</text>')
    return f'<g class="series {look.colour}">{"".join(parts)}</g>'


def _mark(shape: str, x: float, y: float, label: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="mark">{label}</circle>'
    corners = {
        "square": ((-3, -3), (3, -3), (3, 3), (-3, 3)),
        "triangle": ((0, -4), (4, 3), (-4, 3)),
        "diamond": ((0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0)),
        "down": ((0, 4), (4, -3), (-4, -3)),
        "bar": ((-4.5, -1.5), (4.5, -1.5), (4.5, 1.5), (-4.5, 1.5)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" class="mark">{label}</polygon>'
