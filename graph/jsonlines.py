"""Edge files in JSON lines, perhaps compressed: one object a line, read in batches."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bundle.disk import has_remedy
from bundle.errors import EdgeFileError
from bundle.progress import SilentStage, Stage
from graph.edge_file import FURTHER, and_more, check_columns, one_line, quoted
from graph.textstream import TextBlocks, TextStream

# Text that is parsed at a time.
BLOCK_BYTES = 1 << 20
# The longest line there may be: a file without line ends would be read into memory as one.
MAX_LINE_BYTES = 1 << 26
# Beyond it a float does not hold every integer.
_MAX_EXACT = 2**53
# What the decoder raises; the last for arrays and objects within one another, too deep to be followed.
_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_READ = "text or a number; of attributes also true or false, or a list of text and whole numbers"
_OF_A_KIND = (  # what may follow where these are in the lines before, the strictest first
    ("text", "text or a whole number"),
    ("large integer", "text or a whole number"),
    ("float", "a number"),
    ("integer", "text or a number"),
    ("truth", "true or false"),
    ("list", "a list of text and whole numbers"),
)
_KINDS: dict[type, str] = {str: "text", int: "integer", float: "float", bool: "truth", list: "list"}


@dataclass(frozen=True, slots=True)
class JsonLinesEdgeFile:
    """A file of JSON objects, one a line, of which numbers and text are read; a key that is missing counts as null."""

    path: Path
    opener: Callable[[], TextStream]

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The keys of all objects, in the order in which they first appear: many exporters leave out what is null."""
        return self._keys(None)

    def _keys(self, wanted: set[str] | None) -> tuple[str, ...]:
        """The keys of all objects, or of those up to the first by which there are all that are `wanted`."""
        decoder: Any = msgspec.json.Decoder(dict[str, object])
        found: dict[str, None] = {}
        for line, text in self._lines():
            found.update(dict.fromkeys(self._object(line, text, decoder)))
            if wanted is not None and wanted <= found.keys():
                break
        return tuple(found)

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """Read the named keys of every object, a megabyte of text at a time."""
        names = self._keys(set(columns))
        if not names:
            return
        check_columns(self.path, columns, names)
        # An object's own keys may be no names in Python. What is not among them is skipped without being made.
        fields = [f"field{i}" for i in range(len(columns))]
        row_type = msgspec.defstruct(
            "Row", [(name, object, None) for name in fields], rename=dict(zip(fields, columns, strict=True))
        )
        decoder: Any = msgspec.json.Decoder(row_type)
        kinds: list[set[str]] = [set() for _ in columns]
        for line, block in self._blocks(stage):
            rows = self._rows(line, block, decoder)
            arrays = []
            for name, field, known in zip(columns, fields, kinds, strict=True):
                values = [getattr(row, field) for row in rows]
                self._check_kinds(name, values, known, line, block)
                arrays.append(_array(values))
            yield pa.record_batch(arrays, names=list(columns))

    def places(self, rows: Sequence[int]) -> list[str]:
        """Lines are counted from 1, blank ones included; finding them reads the file up to the last."""
        lines = islice(self._lines(), max(rows) + 1)
        found = {position: f"line {line}" for position, (line, _) in enumerate(lines) if position in rows}
        return [found.get(row, f"object {row + 1}") for row in rows]

    def _rows(self, line: int, block: bytes, decoder: Any) -> list[Any]:
        """The objects of whole lines, the first of which is `line`.

        The decoder takes any white space between two objects. Where not every line begins and ends with a brace, or
        the objects are not as many as the lines, each line is decoded alone: blank ones are left out, and the first
        that holds anything but one object is refused.
        """
        lines = block.count(b"\n")
        if block.startswith(b"{") and block.count(b"\n{") == lines - 1 and _closed_lines(block) == lines:
            try:
                rows: list[Any] = decoder.decode_lines(block)
            except _NOT_READ:
                rows = []
            if len(rows) == lines:
                return rows
        numbered, rows = _numbered(line, block), []
        for number, text in numbered:
            try:
                rows.append(self._object(number, text, decoder))
            except EdgeFileError as error:
                others = (f"line {later}" for later, text in numbered if not self._is_object(later, text, decoder))
                raise EdgeFileError(f"{error}{and_more(list(islice(others, FURTHER)))}") from error
        return rows

    def _is_object(self, line: int, text: bytes, decoder: Any) -> bool:
        try:
            self._object(line, text, decoder)
        except EdgeFileError:
            return False
        return True

    def _object(self, line: int, text: bytes, decoder: Any) -> Any:
        try:
            return decoder.decode(text)
        except _NOT_READ as error:
            raise EdgeFileError(
                f"{self.path}, line {line}: found {quoted(text)}, expected one JSON object: {one_line(error)}. "
                f"{_advice(text)}"
            ) from error

    def _check_kinds(self, name: str, values: list[Any], known: set[str], line: int, block: bytes) -> None:
        """Raise EdgeFileError for an object, truth or a list among other values, a float among text or large integers.

        What floats mean beside these is not clear: 7.0 may be the id 7, and no float is just that large integer.
        `known` are the kinds that the column has had so far, so that it does not matter where a block ends.
        """
        if not _clash(known | _kinds(values)):
            known |= _kinds(values)
            return
        for (number, _), value in zip(_numbered(line, block), values, strict=True):
            if _clash(known | _kinds([value])):
                before = next(
                    (f"{words}, as in the lines before" for kind, words in _OF_A_KIND if kind in known), _READ
                )
                raise EdgeFileError(
                    f"{self.path}, line {number}, column {name!r}: found {quoted(msgspec.json.encode(value))}, "
                    f"expected {before}. Correct or remove the row."
                )
            known |= _kinds([value])

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its number."""
        for line, block in self._blocks(SilentStage()):
            yield from _numbered(line, block)

    def _blocks(self, stage: Stage) -> Iterator[tuple[int, bytes]]:
        """Whole lines, a megabyte or more at a time, and the number of the first."""
        stream, done, line, rest = self.opener(), 0, 1, b""
        try:
            with TextBlocks(stream.file) as text:
                while read := text.read(BLOCK_BYTES):
                    consumed = stream.consumed()
                    stage.advance(consumed - done)
                    done = consumed
                    lines, end, rest = (rest + read).rpartition(b"\n")
                    if len(rest) > MAX_LINE_BYTES:
                        number = line + lines.count(b"\n") + len(end)
                        raise EdgeFileError(
                            f"{self.path}, line {number}: longer than {MAX_LINE_BYTES} bytes. Put each object on a "
                            "line of its own."
                        )
                    if end:
                        yield line, (lines + end).removeprefix(codecs.BOM_UTF8 if line == 1 else b"")
                        line += lines.count(b"\n") + 1
                if rest:
                    yield line, rest.removeprefix(codecs.BOM_UTF8 if line == 1 else b"") + b"\n"
        except (pa.ArrowException, OSError, UnicodeError) as error:
            if has_remedy(error):
                raise
            raise EdgeFileError(f"{self.path} cannot be read as text: {one_line(error)}. Write it again.") from error


def _numbered(line: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Each line of a block that is not blank, with its number; the first is `line`."""
    for number, text in enumerate(block.split(b"\n"), start=line):
        if text.strip():
            yield number, text


def _advice(text: bytes) -> str:
    """What to do about a line that is no object; an object over several lines, or an array, is JSON all right."""
    begin = text.strip()
    if begin == b"{":
        return "Put each object on one line of its own, as `jq -c .` does."
    if begin.startswith(b"["):
        return "Put each object on one line of its own, as `jq -c '.[]'` does."
    return "Correct or remove the line."


def _closed_lines(block: bytes) -> int:
    return block.count(b"}\n") + block.count(b"}\r\n")


def _kinds(values: list[Any]) -> set[str]:
    """What is among the values: text, integers, those among them that no float holds, and so on; null is nothing."""
    types = set(map(type, values)) - {type(None)}
    kinds = {_KINDS.get(one, "other") for one in types}
    if int in types and any(abs(value) > _MAX_EXACT for value in values if type(value) is int):
        kinds.add("large integer")
    if list in types and not all(_is_flat(value) for value in values if type(value) is list):
        kinds.add("other")
    return kinds


def _is_flat(values: list[Any]) -> bool:
    return set(map(type, values)) <= {str, int, type(None)}


def _clash(kinds: set[str]) -> bool:
    if kinds & {"truth", "list"} and len(kinds) > 1:
        return True
    return "other" in kinds or ("float" in kinds and bool(kinds & {"text", "large integer"}))


def _array(values: list[Any]) -> Any:
    """The values as an Arrow column: floats, truth values, integers, lists of text, or else text, in which integers
    are digits."""
    types = set(map(type, values))
    if list in types:
        return pa.array([None if value is None else _texts(value) for value in values], pa.list_(pa.large_string()))
    if float in types or bool in types:
        return pa.array(values, type=pa.float64() if float in types else pa.bool_())
    try:
        return pa.array(values, type=pa.int64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(_texts(values), type=pa.large_string())


def _texts(values: list[Any]) -> list[str | None]:
    return [None if value is None else str(value) for value in values]
