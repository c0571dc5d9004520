"""The edges of a relation as a stream of checked batches."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from jaxtyping import Float64, Int64

from bundle.cells import CORES
from bundle.errors import EdgeFileError
from bundle.ids import IdKind
from bundle.progress import Stage
from graph import columns
from graph.attribute_columns import BOOLEAN, CATEGORY, LABEL
from graph.columns import BadValue
from graph.edge_file import FURTHER, EdgeFile, and_more, quoted
from graph.files import InputFile, called, local, open_edge_file
from graph.schema import RelationSpec
from graph.text import TextEdgeFile

Ids = Any  # int64 ids as a numpy array, string ids as an Arrow LargeBinaryArray
Convert = Callable[[Any], Any]
# What to do about a column whose whole type does not fit, by what was expected.
_TYPE_ADVICE = {
    columns.INT_ID: "Write the column as integers; a float cannot hold every id. (Text and UUIDs are ids of a type "
    'with id = "string".)',
    columns.STRING_ID: "Write the column as text or as integers; a float cannot hold every id.",
    columns.TIME: "Write the column as integers, dates or timestamps.",
    columns.FEATURE: "Write the column as numbers, or leave it out.",
    CATEGORY: "Write the column as text, as numbers or as a list of text, or leave it out.",
    LABEL: "Write the column as text, or name another one as label.",
    BOOLEAN: "Write the column as true and false, or as 0 and 1.",
}

# 4,5 as much of Europe writes 4.5; 1,000 may be a thousand.
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,(?!\d{3}$)\d+")


@dataclass(frozen=True, slots=True)
class EdgeBatch:
    """Some edges in file order; `relation` (names, Arrow LargeBinaryArray) only where a column carries it."""

    src: Ids
    dst: Ids
    weight: Float64[npt.NDArray[np.float64], " n"] | None
    time: Int64[npt.NDArray[np.int64], " n"] | None
    relation: Any | None

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Rows of a file as they stand there, an Arrow record batch that begins with row `first`; `source` names it."""

    source: InputFile
    file: EdgeFile
    first: int
    rows: Any


@dataclass(frozen=True, slots=True)
class EdgeReader:
    """How one relation's files are read. `held_out` files need no weight and no time."""

    spec: RelationSpec
    source: IdKind
    target: IdKind
    held_out: bool = False

    def raw_batches(self, paths: Sequence[InputFile], stage: Stage, held: ExitStack) -> Iterator["RawBatch"]:
        """The rows of all files, in order, as they stand there; the stage advances by bytes. Raises EdgeFileError.

        Whoever reads rows on other threads may be `CORES` and two batches behind, and finds the line of a fault in the
        file: as many files stay here, the last of them as long as `held` does.
        """
        total, opened = 0, deque[ExitStack]()
        for file in paths:
            opened.append(held.enter_context(ExitStack()))
            path = opened[-1].enter_context(local(file))
            with called(file, path):
                for batch in self._raw(file, open_edge_file(path, self.spec.columns), stage):
                    total += batch.rows.num_rows
                    yield batch
            if len(opened) > CORES + 2:
                opened.popleft().close()
        if total == 0:
            raise self.nothing_in(paths)

    def nothing_in(self, paths: Sequence[InputFile]) -> EdgeFileError:
        """Of files that have no edge between them."""
        names = ", ".join(str(path) for path in paths)
        return EdgeFileError(
            f"Relation {self.spec.name!r}: no edge in {names}. Give files with edges or remove the relation."
        )

    def file_batches(self, file: EdgeFile, stage: Stage) -> Iterator[EdgeBatch]:
        """The edges of one file, which may have none. Raises EdgeFileError as `read` does."""
        yield from map(self.read, self._raw(file.path, file, stage))

    def read(self, batch: "RawBatch") -> EdgeBatch:
        """The edges of some rows. Raises EdgeFileError naming file, row, column, what was found and what to do."""
        values: dict[str, Any] = {}
        with called(batch.source, batch.file.path):
            for name, convert in self._columns().items():
                values[name] = converted(batch.file, batch.first, name, batch.rows.column(name), convert)
        return self._assemble(values)

    def _raw(self, source: InputFile, file: EdgeFile, stage: Stage) -> Iterator["RawBatch"]:
        first = 0
        for rows in file.batches(list(self._columns()), stage):
            yield RawBatch(source, file, first, rows)
            first += rows.num_rows

    def _columns(self) -> dict[str, Convert]:
        kinds: dict[IdKind, Convert] = {"int64": columns.int_ids, "string": columns.string_ids}
        wanted = {self.spec.src: kinds[self.source], self.spec.dst: kinds[self.target]}
        if self.spec.relation_column is not None:
            wanted[self.spec.relation_column] = columns.string_ids
        if self.spec.weight is not None and not self.held_out:
            wanted[self.spec.weight] = columns.weights
        if self.spec.time is not None and not self.held_out:
            wanted[self.spec.time] = columns.times
        return wanted

    def _assemble(self, values: dict[str, Any]) -> EdgeBatch:
        def get(name: str | None) -> Any | None:
            return None if name is None else values.get(name)

        spec = self.spec
        return EdgeBatch(
            values[spec.src], values[spec.dst], get(spec.weight), get(spec.time), get(spec.relation_column)
        )


def converted(file: EdgeFile, first: int, name: str, column: Any, convert: Convert) -> Any:
    """A column of a batch that begins with row `first` of the file. Raises EdgeFileError with the place of a fault."""
    try:
        values = convert(column)
    except BadValue as error:
        rows = [] if error.row is None else [error.row, *islice(_further(error.row, column, convert), FURTHER)]
        places = file.places([first + row for row in rows]) if rows else []
        where = "".join(f", {place}" for place in places[:1])
        raise EdgeFileError(
            f"{file.path}{where}, column {name!r}: found {_found(error)}, expected {error.expected}. "
            f"{_advice(error, file)}{and_more(places[1:])}"
        ) from error
    return values


def _further(row: int, column: Any, convert: Convert) -> Iterator[int]:
    """The rows of `column` after `row` that `convert` refuses, too."""
    while True:
        try:
            convert(column.slice(row + 1))
        except BadValue as error:
            if error.row is None:
                return
            row += 1 + error.row
            yield row
        else:
            return


def _found(error: BadValue) -> str:
    if error.row is None:
        return str(error.found)
    return "nothing (null)" if error.found is None else quoted(error.found)


def _advice(error: BadValue, file: EdgeFile) -> str:
    """What to do. An id that is no integer may be a string, but for that the whole type must have strings."""
    if error.row is None:
        return _TYPE_ADVICE.get(error.expected, "Write the column as numbers.")
    if error.expected == columns.INT_ID and _is_string_id(error.found):
        return 'Correct the row, or set id = "string" for the entity type.'
    if isinstance(error.found, str) and _DECIMAL_COMMA.fullmatch(error.found):
        return f"Write decimals with a point, as in {error.found.replace(',', '.')}."
    if isinstance(file, TextEdgeFile) and isinstance(error.found, bytes) and not _is_utf8(error.found):
        return "Correct or remove the row. If the file is Latin-1, write it as UTF-8: `iconv -f LATIN1 -t UTF-8`."
    if error.expected == columns.FEATURE:
        return "Correct or remove the row, or leave the column out."
    return "Correct or remove the row."


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_string_id(value: object) -> bool:
    if isinstance(value, int):
        return True
    try:
        columns.string_ids(pa.array([value]))
    except (BadValue, pa.ArrowInvalid):
        return False
    return True
