"""Line and scatter charts as SVG text: no script, no font, no file beside the page."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 28, 44
# Okabe and Ito's colours, which most colour-blind readers tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c")


@dataclass(frozen=True, slots=True)
class Series:
    """One named line, or the points of one colour in a scatter chart."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


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


def chart(title: str, x_name: str, y_name: str, series: Sequence[Series], *, lines: bool = True) -> str:
    """The chart as one `<svg>` element. Points that are not finite are left out."""
    shown = [_finite(one) for one in series]
    x_axis = _axis(x_name, [value for one in shown for value in one.x])
    y_axis = _axis(y_name, [value for one in shown for value in one.y])
    parts = [_frame(title, x_axis, y_axis)]
    for position, one in enumerate(shown):
        parts.append(_series(one, position, x_axis, y_axis, lines))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _finite(series: Series) -> Series:
    kept = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, tuple(x for x, _ in kept), tuple(y for _, y in kept))


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


def _series(series: Series, position: int, x_axis: Axis, y_axis: Axis, lines: bool) -> str:
    colour, again = COLOURS[position % len(COLOURS)], position // len(COLOURS) % 2 == 1
    # The second time round the colours, lines are dashed and points hollow, so that no two series look alike.
    dash, fill = (' stroke-dasharray="5 4"', "#fff") if again else ("", colour)
    mark = f'r="3.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"'
    points = [(_x(x_axis, x), _y(y_axis, y)) for x, y in zip(series.x, series.y, strict=True)]
    name = html.escape(series.name)
    parts = []
    if lines and points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for (x, y), raw in zip(points, zip(series.x, series.y, strict=True), strict=True):
        label = f"<title>{name}: {raw[0]:g}, {raw[1]:.4g}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {mark}>{label}</circle>')
    height = TOP + 10 + 16 * position
    parts.append(f'<circle cx="{WIDTH - RIGHT + 14}" cy="{height}" {mark}/>')
    parts.append(f'<text x="{WIDTH - RIGHT + 24}" y="{height + 4}">{name}</text>')
    return "".join(parts)
