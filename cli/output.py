"""What the command prints: tables for people, JSON with `--json`, errors with what to do."""

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bundle.text import printable

# Signs that JSON holds as they are, and that a terminal acts on: DEL and C1, and those that turn or hide text.
_STEERS = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
LOG_WIDTH = 160  # of a table in a file or a pipe

JsonFlag = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON on standard output.")]


class Screen(Console):
    """Rich's console, which leaves it to `cli.main` to end the command where nobody reads on."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        raise


def emit(answer: object, as_json: bool, show: Callable[[], None]) -> None:
    """Print `answer` as JSON, or call `show` to print it for a person."""
    if as_json:
        sys.stdout.write(_json(plain(answer), sys.stdout, indent=1) + "\n")
    else:
        show()


def _json(value: object, stream: TextIO, indent: int | None = None) -> str:
    """JSON that the encoding of `stream` holds, and that steers no terminal: what lacks either way gets escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = _STEERS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def plain(value: object) -> object:
    """`value` in the types JSON has; arrays, paths and times become lists and strings, NaN and Inf null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no NaN
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Path):
        return str(value)
    return _plain_object(value)


def _plain_object(value: object) -> object:
    as_list: Any = getattr(value, "tolist", None)
    if as_list is not None:
        return plain(as_list())
    dump: Any = getattr(value, "model_dump", None)
    if dump is not None:
        return plain(dump(mode="json"))
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that cuts no word; numbers are flushed right. Text is shown as it stands: an id may look like
    markup. A column without any value is left out. Where a terminal is too narrow for the words side by side, the
    lines between the columns go first, then each row becomes a list.
    """
    shown = [at for at in range(len(columns)) if not rows or any(cell(row[at]) for row in rows)]
    heads = [printable(columns[at]) for at in shown]
    cells = [[cell(row[at]) for at in shown] for row in rows]
    right = [bool(rows) and all(isinstance(row[at], int | float | None) for row in rows) for at in shown]
    screen = Screen(width=None if sys.stdout.isatty() else LOG_WIDTH)
    for box, between in ((HEAVY_HEAD, 3), (None, 2), (None, 1)):
        widths = _widths([heads, *cells], screen.width - between * len(shown) - (box is not None))
        if widths is None:
            continue
        # A line of its own: rich would break a title at the table's width, through an id that one wants to copy.
        screen.print(Text(printable(title), style="table.title"), soft_wrap=True)
        view = Table(box=box)
        view.padding, view.pad_edge = ((0, 1), True) if box else ((0, between, 0, 0), False)
        for head, width, numeric in zip(heads, widths, right, strict=True):
            view.add_column(Text(head), justify="right" if numeric else "left", width=width, overflow="fold")
        for texts in cells:
            view.add_row(*map(Text, texts))
        screen.print(view)
        return
    line(title)
    for texts in cells:
        facts = [f"{head}: {text}" if head else text for head, text in zip(heads, texts, strict=True) if text]
        line(*facts[:1], *(f"  {fact}" for fact in facts[1:]))


def _widths(lines: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """How wide each column is so that all fit into `room` and no word is cut; None where that cannot be."""
    columns = list(zip(*lines, strict=True))
    words = [max(cell_len(word) for text in column for word in ["", *text.split()]) for column in columns]
    wished = [max(map(cell_len, column)) for column in columns]
    left = room - sum(words)
    if left < 0:
        return None
    # What is left goes first to those that wish for least more.
    waiting = sorted(range(len(columns)), key=lambda at: wished[at] - words[at])
    while waiting:
        more = min(wished[waiting[0]] - words[waiting[0]], left // len(waiting))
        words[waiting.pop(0)] += more
        left -= more
    return words


def cell(item: object) -> str:
    """One table cell: thousands apart, floats in four significant digits."""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:.4g}"
    return "" if item is None else printable(str(item))


def size(n_bytes: int) -> str:
    """`240 MiB`, `1.5 GiB`: bytes in the unit that people, and `--memory`, reckon in."""
    return f"{n_bytes / (1 << 30):.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / (1 << 20):.1f} MiB"


def counted(n: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`: a count, thousands apart, with a noun that takes an s."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def next_command(*words: object) -> str:
    """The sentence that names what to run next, quoted so that a shell reads it as it is meant."""
    return f"Next: {' '.join(_quoted(str(word)) for word in words)}"


def _quoted(word: str) -> str:
    """The word as a shell reads it; signs that are not shown, and would be escaped, as `$'…'` has them."""
    if word.isprintable():
        return shlex.quote(word)
    shown = (sign if sign.isprintable() and sign not in "'\\" else _bytes_of(sign) for sign in word)
    return f"$'{''.join(shown)}'"


def _bytes_of(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))


def line(*texts: str) -> None:
    """Lines of the answer on standard output, one for each text, whatever is in it."""
    sys.stdout.write("".join(f"{printable(text)}\n" for text in texts))


def fail(message: str, code: str, as_json: bool) -> None:
    """Say on standard error what went wrong; as JSON when the command was asked for JSON."""
    if as_json:
        sys.stderr.write(_json({"error": {"code": code, "message": message}}, sys.stderr) + "\n")
    else:
        console = Screen(stderr=True, soft_wrap=True, highlight=False, emoji=False)
        console.print("twhin:", printable(message), style="red", markup=False)
