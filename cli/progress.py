"""Progress as the command shows it: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from bundle.text import printable
from cli.output import Screen

LINE_EVERY_S = 10.0
ROOM_FOR_A_NOTE = 16
REST_OF_A_LINE = 37  # spinner, percentage, figures of the rate, two times, and what stands between them


class _Rate(ProgressColumn):
    """Units a second, in the unit that the stage names."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text("" if speed is None else f"{readable(speed)} {unit}/s", style="progress.data.speed")


@dataclass(frozen=True, slots=True)
class _BarStage:
    bars: Progress
    task: TaskID

    def advance(self, n: int = 1) -> None:
        self.bars.advance(self.task, n)

    def note(self, text: str) -> None:
        self.bars.update(self.task, note=printable(text))


@dataclass(slots=True)
class _LineStage:
    name: str
    total: int | None
    unit: str
    started_s: float = field(default_factory=time.monotonic)
    shown_s: float = field(default_factory=time.monotonic)
    done: int = 0
    text: str = ""
    told: tuple[int, str] | None = None

    def advance(self, n: int = 1) -> None:
        self.done += n
        self._show_if_due()

    def note(self, text: str) -> None:
        self.text = text
        self._show_if_due()

    def _show_if_due(self) -> None:
        if time.monotonic() - self.shown_s >= LINE_EVERY_S:
            self.shown_s = time.monotonic()
            self.show()

    def end(self) -> None:
        """The last line, unless it was just shown."""
        if self.told != (self.done, self.text):
            self.show()

    def show(self) -> None:
        self.told = (self.done, self.text)
        elapsed_s = max(1e-9, time.monotonic() - self.started_s)
        note = f", {self.text}" if self.text else ""
        if not self.done:
            say(f"{self.name}: {elapsed_s:.1f} s{note}")
            return
        share = f" of {readable(self.total)}" if self.total else ""
        left = ""
        if self.total and 0 < self.done < self.total:
            left = f", {elapsed_s * (self.total - self.done) / self.done:.0f} s left"
        rate = f", {readable(self.done / elapsed_s)} {self.unit}/s"
        say(f"{self.name}: {readable(self.done)}{share} {self.unit} in {elapsed_s:.1f} s{rate}{left}{note}")


class TerminalProgress:
    """Bars on a terminal, one for each stage."""

    def __init__(self) -> None:
        self._console = Screen(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[_BarStage]:
        """Show a bar for `total` units, a spinner when the number is unknown."""
        name = printable(name)
        # What may not be broken comes first; the bar and the note share what a narrow terminal leaves.
        left = self._console.width - sum(map(cell_len, (name, unit))) - REST_OF_A_LINE
        bar = max(4, min(30, left - ROOM_FOR_A_NOTE))
        note = Column(no_wrap=True, overflow="ellipsis", max_width=max(1, left - bar))
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", markup=False, table_column=note),
        )
        with Progress(*columns, console=self._console) as bars:
            task = bars.add_task(name, total=total, unit=unit, note="")
            yield _BarStage(bars, task)
            if total is None:
                bars.update(task, total=1, completed=1)


class LineProgress:
    """A line at least every ten seconds and one at the end of each stage: for logs."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[_LineStage]:
        """Show lines for one piece of work."""
        stage = _LineStage(name, total, unit)
        yield stage
        stage.end()


def progress() -> TerminalProgress | LineProgress:
    """The progress display that fits where standard error goes."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


def readable(number: float) -> str:
    """`number` in three digits or so: 950, 12.3k, 4.56M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def say(text: str) -> None:
    """A line for the person who watches: standard error, so that standard output stays clean."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()
