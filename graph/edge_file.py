"""What every sort of edge file offers: batches of named columns, and the place of a row for a message."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bundle.errors import EdgeFileError
from bundle.progress import Stage
from bundle.text import toml_of

# Characters of a value that a message repeats.
QUOTED_CHARACTERS = 80
# Columns that a message lists; further faults that are looked for, and how many of their places are named.
LISTED, FURTHER, NAMED_PLACES = 20, 20, 3
# How files begin whose names end so.
_MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}


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

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where rows (from 0, ascending) stand, for a message: `line 18`, `row 17`."""
        ...


def quoted(value: object) -> str:
    """A value from a file, escaped and cut so that one line of a terminal can show it."""
    text = value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else value
    escaped = repr(text)
    return escaped if len(escaped) <= QUOTED_CHARACTERS else escaped[: QUOTED_CHARACTERS - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """The names of the columns of a file, the first few of many."""
    shown = ", ".join(quoted(name) for name in names[:LISTED])
    return (shown or "none") + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def and_more(places: Sequence[str]) -> str:
    """What follows a message about one fault where more like it were found before the reading ended."""
    if not places:
        return ""
    named = ", ".join(places[:NAMED_PLACES]) + (", …" if len(places) > NAMED_PLACES else "")
    return f" At least {len(places)} more like it: {named}."


def other_contents(path: Path, compression: str | None) -> str:
    """Advice where the first bytes of a file say that it is another sort of file than its name does, else nothing."""
    with path.open("rb") as file:
        begin = file.read(4)
    sort = next((sort for magic, sort in _MAGIC.items() if begin.startswith(magic)), None)
    stem = path.name.removesuffix(path.suffix) if compression else path.name
    if sort == compression:
        return ""
    if sort is None:
        return f"It does not begin as {path.suffix} files do: if it is not compressed, call it {stem!r}. "
    name = Path(stem).stem + ".parquet" if sort == ".parquet" else stem + sort
    return f"It begins as {sort} files do: if it is one, call it {name!r}. "


def near_name(column: str, present: Sequence[str]) -> str | None:
    """The column that is called so but for case, and spaces and quotes around it."""
    return next((name for name in present if _alike(name) == _alike(column)), None)


def _alike(name: str) -> str:
    return name.strip(" \t\ufeff\"'").casefold()


def check_columns(
    path: Path, wanted: Sequence[str], present: Sequence[str], found: str = "", headerless: str = ""
) -> None:
    """Raise EdgeFileError unless each wanted column, of which the source is the first, is there exactly once.

    `found` is advice on what else the file has instead of the columns, `headerless` what to do if it has no header.
    """
    for column in wanted:
        count = present.count(column)
        if count == 1:
            continue
        how, advice, example = f"is there {count} times", "", ""
        if count == 0:
            how, advice = "is missing", found or headerless
            if (near := near_name(column, present)) is not None:
                advice, example = f"If {quoted(near)} is meant, spell it so in graph.toml. ", _as_in(column, [near])
            elif not found:
                example = _as_in(column, _free(column, wanted, present))
        raise EdgeFileError(
            f"{path}: column {column!r} {how}; the file has {listed(present)}. "
            f"{advice}Correct the file or name the column in graph.toml{example}."
        )


def _free(column: str, wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    """The columns that may be meant, none where one cannot be both ends; the target stands after the source if any
    does."""
    free = [name for name in present if name not in wanted]
    if column == "dst" and wanted[0] in present:
        free = [name for name in present[present.index(wanted[0]) :] if name in free] or free
    return free if len(present) > 1 else []


def _as_in(column: str, names: Sequence[str]) -> str:
    """How to name an end that was named by nobody, by the first of the names if it is one of a header."""
    if column not in ("src", "dst") or not names or not any(sign.isalpha() for sign in names[0]):
        return ""
    return f", as in {column} = {toml_of(names[0])}"


def one_line(error: Exception) -> str:
    """The first line of a library's message, without its last full stop."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
