"""Edge files in CSV and TSV, perhaps gzipped, read in batches.

Text is read as bytes, with no guessing of types: `NA`, `null` and `007` arrive as they stand. In CSV a field may be
quoted with `"`; TSV has no quoting.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from bundle.errors import EdgeFileError
from bundle.progress import Stage
from graph.edge_file import check_columns, one_line, quoted

# Text that is parsed at a time, and the longest line there may be.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TextEdgeFile:
    """A delimited text file; `opener` starts reading it anew and says how many bytes of the file are consumed."""

    path: Path
    delimiter: str
    columns: tuple[str, ...] | None
    opener: Callable[[], "TextStream"]

    @property
    def _quote(self) -> str | None:
        return '"' if self.delimiter == "," else None

    def header(self) -> tuple[str, ...]:
        """The names of the columns. Raises EdgeFileError when the file is empty."""
        if self.columns is not None:
            return self.columns
        return self.first_fields()

    def first_fields(self) -> tuple[str, ...]:
        """The fields of the first line that is not blank. Raises EdgeFileError when there is none."""
        try:
            for _, fields in self._records():
                return tuple(fields)
        except (OSError, EOFError, zlib.error) as error:
            raise EdgeFileError(f"{self.path} cannot be read: {one_line(error)}. Copy it again.") from error
        raise EdgeFileError(f"{self.path} is empty. Put a header line and edges in it, or leave it out.")

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """Read the named columns as bytes, some megabytes of text at a time."""
        advice = (
            "" if self.columns else 'If the file has no header line, add columns = ["src", "dst"] to the relation. '
        )
        try:
            check_columns(self.path, columns, self.header(), advice)
            yield from self._stream(columns, stage)
        except (pa.ArrowException, OSError, EOFError, zlib.error, csv.Error) as error:
            if "straddling" in str(error):
                raise EdgeFileError(
                    f"{self.path}: a line is longer than {BLOCK_BYTES} bytes, or a quote is not closed. Correct it."
                ) from error
            raise EdgeFileError(f"{self.path} cannot be read as text: {one_line(error)}. Write it again.") from error

    def _stream(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        ragged: list[Any] = []
        if self._is_empty():
            return
        stream, done = self.opener(), 0
        with (
            stream.file,
            pa.csv.open_csv(stream.file, *self._options(columns, ragged)) as reader,
        ):
            for batch in reader:
                self._refuse(ragged)
                consumed = stream.consumed()
                stage.advance(consumed - done)
                done = consumed
                yield batch
        self._refuse(ragged)

    def _options(self, columns: Sequence[str], ragged: list[Any]) -> tuple[Any, Any, Any]:
        def refuse_later(row: Any) -> str:
            ragged.append(row)
            return "skip"

        return (
            pa.csv.ReadOptions(
                block_size=BLOCK_BYTES, use_threads=False, column_names=list(self.columns) if self.columns else None
            ),
            pa.csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self._quote or False,
                invalid_row_handler=refuse_later,
            ),
            pa.csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.binary()),
                null_values=[],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )

    def _is_empty(self) -> bool:
        """Whether there is no line of data: the reader below takes that for an error."""
        records = self._records()
        if self.columns is None:
            next(records, None)
        return next(records, None) is None

    def _refuse(self, ragged: list[Any]) -> None:
        if not ragged:
            return
        row = ragged[0]
        line = "?"
        with suppress(csv.Error):
            line = str(next(line for line, fields in self._records() if len(fields) != row.expected_columns))
        raise EdgeFileError(
            f"{self.path}, line {line}: found {row.actual_columns} fields in {quoted(row.text)}, "
            f"expected {row.expected_columns} separated by {self.delimiter!r}. Correct or remove the line."
        )

    def place(self, row: int) -> str:
        """Lines are counted from 1, header and blank lines included; finding one reads the file up to there."""
        first = 0 if self.columns is not None else 1
        with suppress(csv.Error):
            for position, (line, _) in enumerate(self._records()):
                if position == row + first:
                    return f"line {line}"
        return f"data row {row + 1}"

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Each record that is not blank, with the number of its (last) line."""
        file: Any = self.opener().file
        with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            if self._quote:
                reader = csv.reader(text)
                yield from ((reader.line_num, fields) for fields in reader if fields)
            else:
                lines = (line.rstrip("\r\n") for line in text)
                yield from ((i, line.split(self.delimiter)) for i, line in enumerate(lines, start=1) if line)


@dataclass(frozen=True, slots=True)
class TextStream:
    """Text being read, uncompressed, and how far into the file on disk that is."""

    file: io.BufferedIOBase
    consumed: Callable[[], int]


def file_opener(path: Path) -> Callable[[], TextStream]:
    def plain() -> TextStream:
        file = path.open("rb")
        return TextStream(file, file.tell)

    def unzipped() -> TextStream:
        file = _Gunzip(path)
        return TextStream(file, file.raw.tell)

    return unzipped if path.suffix.lower() == ".gz" else plain


class _Gunzip(gzip.GzipFile):
    """A gzipped file that knows how much of the file beneath is consumed."""

    def __init__(self, path: Path) -> None:
        self.raw = path.open("rb")
        super().__init__(fileobj=self.raw)

    def close(self) -> None:
        super().close()
        self.raw.close()
