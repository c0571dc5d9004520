"""What every sort of edge file offers: batches of named columns, and the place of a row for a message."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bundle.errors import EdgeFileError
from bundle.progress import Stage

# Characters of a value that a message repeats.
QUOTED_CHARACTERS = 80


@runtime_checkable
class EdgeFile(Protocol):
    """A file of edges."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The names of the columns, none in a file without a line; a text file is split so that it has `wanted`."""
        ...

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """The named columns as Arrow record batches; the stage advances by bytes of the file."""
        ...

    def place(self, row: int) -> str:
        """Where row `row` (from 0) stands, for a message: `line 18`, `row 17`."""
        ...


def quoted(value: object) -> str:
    """A value from a file, escaped and cut so that one line of a terminal can show it."""
    text = value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else value
    escaped = repr(text)
    return escaped if len(escaped) <= QUOTED_CHARACTERS else escaped[: QUOTED_CHARACTERS - 1] + "…"


def check_columns(path: Path, wanted: Sequence[str], present: Sequence[str], advice: str) -> None:
    """Raise EdgeFileError unless each wanted column is there exactly once."""
    for column in wanted:
        count = present.count(column)
        if count != 1:
            how = "is missing" if count == 0 else f"is there {count} times"
            raise EdgeFileError(
                f"{path}: column {column!r} {how}; the file has {', '.join(quoted(name) for name in present)}. "
                f"{advice}Correct the file or name the column in graph.toml."
            )


def one_line(error: Exception) -> str:
    """The first line of a library's message, without its last full stop."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
