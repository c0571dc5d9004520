"""Edge files in CSV and TSV, perhaps compressed, read in batches.

Text is read as bytes, with no guessing of types: `NA`, `null` and `007` arrive as they stand. In CSV a field may be
quoted with `"`, and then hold separators and line breaks; TSV has no quoting.
"""

import codecs
import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bundle.disk import has_remedy
from bundle.errors import EdgeFileError
from bundle.progress import Stage
from bundle.text import toml_of
from graph.edge_file import FURTHER, LISTED, and_more, check_columns, one_line, other_contents, quoted
from graph.textstream import CODECS, TextBlocks, TextStream

# Text that is parsed at a time, and the longest line there may be (the longest record, where quotes hold line breaks).
BLOCK_BYTES = 1 << 20
# Records after one with too many or too few fields among which more like it are looked for.
NEXT = 10_000
# What may stand between the columns of a CSV file; the first that fits the header does.
CSV_DELIMITERS = (",", ";", "\t", "|")
TSV_DELIMITERS = ("\t",)
# What stands between columns elsewhere, and is only told of; " " is any white space.
OTHER_DELIMITERS = ("::", " ", "^", "~", "\1")
# Lines among which the header is looked for where the first is none.
FIRST_LINES = 20
# What pyarrow, zlib, zipfile and the decoders raise over a file that is not what its name says.
_UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError)


@dataclass(slots=True)
class TextEdgeFile:
    """A delimited text file; `opener` starts reading it anew and says how many bytes of the file are consumed.

    `columns` names all columns of a file that has no header line. `delimiters` are what may stand between columns,
    `delimiter` is what does, as far as is known.
    """

    path: Path
    delimiters: Sequence[str]
    columns: tuple[str, ...] | None
    opener: Callable[[], TextStream]
    delimiter: str = field(init=False)

    def __post_init__(self) -> None:
        self.delimiter = self.delimiters[0]

    @property
    def _quotes(self) -> bool:
        return self.delimiters[0] == ","

    def first_fields(self) -> tuple[str, ...]:
        """The fields of the first line that is not blank. Raises EdgeFileError when there is none."""
        _, fields = next(self._records(), (0, []))
        if not fields:
            raise EdgeFileError(f"{self.path} is empty. Put a header line and edges in it, or leave it out.")
        return tuple(fields)

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The columns that graph.toml or the first line names."""
        self._choose_delimiter(wanted)
        return self.columns or tuple(next(self._records(), (0, []))[1])

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """Read the named columns as bytes, some megabytes of text at a time; a file without a line has no batch."""
        header = self.names(columns)
        if any("\0" in name for name in header):
            self._refuse_zero_bytes()
        if header:
            if not set(columns) <= set(header) and (other := self._other_contents()):
                raise EdgeFileError(f"{self.path} cannot be read as text. {other.strip()}")
            found, headerless = "", ""
            if self.columns is None and not set(columns) <= set(header):
                found, headerless = self._found_instead(columns, header), self._headerless(columns, header)
            check_columns(self.path, columns, header, found, headerless)
        records = self._records()
        if not self.columns:
            next(records, None)
        if next(records, None) is None:
            return  # pyarrow would take the lack of data for a fault
        try:
            yield from self._stream(columns, header[0], stage)
        except pa.ArrowInvalid as error:
            raise self._fault(error) from error
        except _UNREADABLE as error:
            if has_remedy(error):
                raise
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> EdgeFileError:
        advice = self._other_contents() or "Write it again."
        return EdgeFileError(f"{self.path} cannot be read as text: {one_line(error)}. {advice.strip()}")

    def _choose_delimiter(self, columns: Sequence[str]) -> None:
        """Take the first delimiter by which the first line has the columns, or as many fields as columns are named."""
        for delimiter in self.delimiters:
            self.delimiter = delimiter
            _, fields = next(self._records(), (0, []))
            if set(columns) <= set(fields) if self.columns is None else len(fields) == len(self.columns):
                return
        self.delimiter = self.delimiters[0]

    def _found_instead(self, columns: Sequence[str], header: Sequence[str]) -> str:
        """Advice where the columns are there, but not as the first line's fields."""
        if (other := self._other_delimiter(header, lambda parts: set(columns) <= set(parts))) is not None:
            return f"Its columns are apart by {other}. "
        if (line := self._header_line(columns)) is not None:
            return f"Line {line} names the columns: remove what stands before it. "
        return ""

    def _headerless(self, columns: Sequence[str], header: Sequence[str]) -> str:
        """What to do if the first line is an edge, which it is not where it names one of the columns."""
        if set(columns) & set(header):
            return ""
        if len(header) < len(columns):
            other = self._other_delimiter(header, lambda parts: len(parts) >= len(columns))
            return "" if other is None else f"Its columns may be apart by {other}. "
        names = [*columns, *(f"column{number}" for number in range(len(columns) + 1, len(header) + 1))]
        shown = toml_of(names[:LISTED])[:-1] + (f", and {len(names) - LISTED} more]" if len(names) > LISTED else "]")
        return f"If the file has no header line, add columns = {shown}, in its order, to the relation. "

    def _header_line(self, columns: Sequence[str]) -> int | None:
        """The line that has the names of the columns where the first one has not, as below `sep=;` or a comment."""
        for delimiter in self.delimiters:
            self.delimiter = delimiter
            line = next((n for n, fields in islice(self._records(), FIRST_LINES) if set(columns) <= set(fields)), None)
            if line is not None:
                return line
        return None

    def _other_delimiter(self, fields: Sequence[str], fits: Callable[[Sequence[str]], bool]) -> str | None:
        """What else the one field of the first line could be split by so that the parts fit, and what to do then."""
        named = _split_by(fields, [one for one in CSV_DELIMITERS if one not in self.delimiters], fits)
        if named is not None:
            return f"{named!r}: let its name end in .csv"
        other = _split_by(fields, OTHER_DELIMITERS, fits)
        return None if other is None else self._write_commas(other)

    def _write_commas(self, found: str) -> str:
        return f"{found!r}, which is not read: write {self.delimiters[0]!r} instead"

    def _stream(self, columns: Sequence[str], first: str, stage: Stage) -> Iterator[Any]:
        """`first` is the name of the first column of the file."""
        stream, done = self.opener(), 0
        names = list(self.columns) if self.columns else None
        read = pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, column_names=names)
        parse = pa.csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char='"' if self._quotes else False,
            newlines_in_values=self._quotes,
        )
        convert = pa.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.binary()),
            null_values=[],
            strings_can_be_null=False,
            check_utf8=False,
        )
        with TextBlocks(stream.file) as blocks, pa.csv.open_csv(blocks, read, parse, convert) as reader:
            rows = 0
            for batch in reader:
                if blocks.zeros:
                    self._refuse_zero_bytes()
                if blocks.marks and first in columns:
                    self._refuse_marks(batch.column(first), rows)
                self._refuse_header_as_row(batch, rows)
                rows += batch.num_rows
                consumed = stream.consumed()
                stage.advance(consumed - done)
                done = consumed
                yield batch
            if blocks.zeros:
                self._refuse_zero_bytes()
            several_lines = rows + (self.columns is None) < blocks.lines  # some record has, or a line is blank
            if self._quotes and (blocks.quotes % 2 or (blocks.quotes and several_lines)):
                self._refuse_open_quote()
                self._refuse_text_after_quote()

    def _refuse_header_as_row(self, batch: Any, first: int) -> None:
        """A row of the columns' own names would be of entities called so, or what else nobody meant: the header of a
        file that was appended to another, or one in a file that `columns` says has none.
        """
        names = [name.encode() for name in batch.schema.names]
        if len(names) < 2 or not batch.num_rows:
            return
        rows = np.arange(batch.num_rows)
        for column, name in zip(batch.columns[:2], names, strict=False):  # by their lengths most rows are told apart
            rows = rows[np.diff(_offsets(column))[rows] == len(name)]
        for column, name in zip(batch.columns, names, strict=True) if len(rows) else ():
            rows = rows[pc.equal(column.take(pa.array(rows)), name).to_numpy(zero_copy_only=False)]
        if len(rows):
            (place,) = self.places([first + int(rows[0])])
            declared = self.columns and first + rows[0] == 0
            advice = "Remove `columns` from the relation, or the line" if declared else "Remove the line"
            raise EdgeFileError(f"{self.path}, {place}: it holds the names of the columns, as a header does. {advice}.")

    def _refuse_marks(self, column: Any, first: int) -> None:
        """A byte order mark within a file, where another one was appended to it, would be part of an id. A mark
        begins a line: `column` is the first one of the file; its rows are those from `first` on.
        """
        marked = pc.starts_with(column, codecs.BOM_UTF8).to_numpy(zero_copy_only=False)
        if marked.any():
            (place,) = self.places([first + int(marked.argmax())])
            raise EdgeFileError(
                f"{self.path}, {place}: it begins with a byte order mark, as where one file was appended to another. "
                "Remove the mark, and the line if it is a header."
            )

    def _refuse_zero_bytes(self) -> None:
        """pyarrow looks for delimiters in several bytes at once, and sees none that follows a zero byte among them."""
        lines = (line for line, fields in self._records() if any("\0" in text for text in fields))
        line = next((f", line {line}" for line in lines), "")
        advice = self._other_contents() or "Remove it, write UTF-16 as UTF-8, or keep such values in Parquet."
        raise EdgeFileError(f"{self.path}{line}: found a zero byte, which text has not. {advice.strip()}")

    def _other_contents(self) -> str:
        suffix = self.path.suffix.lower()
        return other_contents(self.path, suffix if suffix in CODECS else None)

    def _fault(self, error: Exception) -> EdgeFileError:
        """What is wrong with a file that pyarrow cannot read, which is looked for record by record."""
        names = self.columns
        longest, longest_line = 0, 0
        records = self._records()
        for line, fields in records:
            names = names or tuple(fields)
            if any("\0" in text for text in fields):
                self._refuse_zero_bytes()
            if len(fields) != len(names):
                if self._quotes and any("\n" in text or "\r" in text for text in fields):
                    self._refuse_open_quote()
                    self._refuse_text_after_quote()
                others = (f"line {line}" for line, fields in islice(records, NEXT) if len(fields) != len(names))
                return EdgeFileError(
                    f"{self.path}, line {line}: found {len(fields)} fields in {quoted(self.delimiter.join(fields))}, "
                    f"expected {len(names)} separated by {self.delimiter!r}. {self._field_advice(fields, len(names))}"
                    f"{and_more(list(islice(others, FURTHER)))}"
                )
            length = sum(map(len, fields))
            if length > longest:
                longest, longest_line = length, line
        too_long = "straddling" in str(error) or "Empty CSV file or block" in str(error)
        return self._too_long(longest_line) if too_long else self._unreadable(error)

    def _field_advice(self, fields: Sequence[str], count: int) -> str:
        other = _split_by(fields, OTHER_DELIMITERS, lambda parts: len(parts) == count)
        return (
            "Correct or remove the line." if other is None else f"Its columns are apart by {self._write_commas(other)}."
        )

    def _refuse_open_quote(self) -> None:
        """A quote that is never closed makes one field of the rest of the file, so edges would be missing.

        One may also stand within a field that is not quoted, where it means nothing, so counting them does not tell:
        a line that is put after the last one is a record of its own then, and else part of the field.
        """
        mark = "\0"
        line, fields = 0, [mark]
        for line, fields in self._records(mark):  # noqa: B007 (the last is what counts)
            pass
        if fields != [mark]:
            raise EdgeFileError(
                f"{self.path}, line {line}: a field is quoted to the end of the file: "
                f"{quoted(fields[-1].removesuffix(mark))}. Close the quote, or double one that is part of a value."
            )

    def _refuse_text_after_quote(self) -> None:
        """A quote that is never closed ends where the next one begins (`"5 inch`, lines later `"7 inch`): the edges
        between would be missing. There text follows what closes a field, which in one line does no harm.
        """
        line = 1
        with self._lines() as lines:
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            while True:
                try:
                    next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    if reader.line_num > line:
                        raise EdgeFileError(
                            f"{self.path}, line {line}: a quoted field goes on to line {reader.line_num}, where text "
                            "follows its closing quote. Close the quote where the field ends, or double one that is "
                            "part of a value."
                        ) from None
                line = reader.line_num + 1

    def _too_long(self, line: int) -> EdgeFileError:
        reason = f"a line is longer than {BLOCK_BYTES} bytes, or a quote is not closed"
        return EdgeFileError(f"{self.path}, line {line}: {reason}. Correct the line.")

    def places(self, rows: Sequence[int]) -> list[str]:
        """Lines are counted from 1, header and blank lines included; finding them reads the file up to the last."""
        wanted = {row + (self.columns is None): row for row in rows}
        found: dict[int, str] = {}
        for position, (line, _) in enumerate(self._records()):
            if position in wanted:
                found[wanted[position]] = f"line {line}"
                if len(found) == len(wanted):
                    break
        return [found.get(row, f"data row {row + 1}") for row in rows]

    def _records(self, end: str | None = None) -> Iterator[tuple[int, list[str]]]:
        """Each record that is not blank, with the number of its first line; `end` is a line to put after the last.

        Raises EdgeFileError at a field that is longer than two blocks, which no parser of blocks can put together.
        """
        csv.field_size_limit(2 * BLOCK_BYTES)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE
        line = 1
        try:
            with self._lines() as text:
                lines = text if end is None else (line for part in (text, (end,)) for line in part)
                reader = csv.reader(lines, delimiter=self.delimiter, quoting=quoting)
                for fields in reader:
                    if fields:
                        yield line, fields
                    line = reader.line_num + 1
        except csv.Error as error:
            raise self._too_long(line) from error
        except _UNREADABLE as error:
            if has_remedy(error):
                raise
            raise self._unreadable(error) from error

    def _lines(self) -> io.TextIOWrapper:
        binary = io.BufferedReader(TextBlocks(self.opener().file))
        return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _offsets(column: Any) -> Any:
    """Where each value of a column of binary begins, and where the last one ends."""
    return np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]


def _split_by(fields: Sequence[str], delimiters: Sequence[str], fits: Callable[[Sequence[str]], bool]) -> str | None:
    """The first of `delimiters` by which the one field of a line has parts that fit; None for no such thing."""
    if len(fields) != 1 or fields[0].startswith("#"):  # a comment
        return None
    split = {other: [part for part in fields[0].split(other) if part or other != " "] for other in delimiters}
    return next((other for other, parts in split.items() if fits(parts)), None)
