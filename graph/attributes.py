"""The attributes of entities: files with one row an entity, read into arrays over the rows of the type.

Two passes: the first finds what each column is that graph.toml does not declare, the second reads it. Memory grows with
the entities and their values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from bundle.attributes import (
    MAX_NAME_CHARACTERS,
    SCALARS,
    Attribute,
    AttributeEntry,
    AttributeKind,
    Categories,
    Labels,
    Scalars,
    concatenated,
    packed,
)
from bundle.csr import Csr
from bundle.errors import EdgeFileError, GraphFileError
from bundle.ids import ABSENT, IdTable, IntIds, StringIds, string_ids
from bundle.progress import SilentStage, Stage
from graph import columns
from graph.attribute_columns import CONVERTERS, kinds_of
from graph.edge_file import EdgeFile, listed, near_name, quoted
from graph.edge_reader import converted
from graph.files import is_json_lines, open_edge_file
from graph.schema import EntitySpec
from graph.spool import string_array

Rows = Int64[npt.NDArray[np.int64], " n"]


@dataclass(slots=True)
class ReadAttributes:
    """The attributes of one entity type; `unknown` rows of the files name entities that no edge has."""

    entries: list[AttributeEntry]
    attributes: list[Attribute]
    described: int
    unknown: int


def read_attributes(spec: EntitySpec, paths: Sequence[Path], table: IdTable, stage: Stage) -> ReadAttributes:
    """Read the attributes of the entities of `table` from `paths`; the stage advances by bytes of the second pass.

    An id of no entity is counted and left out. Raises GraphFileError for a column that graph.toml names and no file
    has, EdgeFileError naming file, place and column of a value of a wrong type or of an id that is there twice.
    """
    opened = [open_edge_file(path, None) for path in paths]
    files = [_AttributeFile(file, file.names([spec.attribute_id])) for file in opened]
    names = _names(spec, files)
    kinds = _kinds(spec, files, names)
    stores = {name: _store(kinds[name], len(table)) for name in names}
    seen, unknown = np.zeros(len(table), dtype=np.bool_), 0
    find = _finder(table)
    convert_id = columns.int_ids if table.kind == "int64" else columns.string_ids
    for file, first, batch in _batches(files, [spec.attribute_id, *names], stage):
        ids = converted(file, first, spec.attribute_id, batch.column(spec.attribute_id), convert_id)
        rows = find(ids)
        _refuse_repeats(file, first, spec.attribute_id, ids, rows, seen)
        unknown += int(np.count_nonzero(rows == ABSENT))
        for name in names:
            column = _separated(batch.column(name), spec.separator if kinds[name] == "category" else None)
            stores[name].add(rows, converted(file, first, name, column, CONVERTERS[kinds[name]]))
    entries = [AttributeEntry(name=name, kind=kinds[name]) for name in names]
    return ReadAttributes(entries, [stores[name].finish() for name in names], int(np.count_nonzero(seen)), unknown)


@dataclass(frozen=True, slots=True)
class _AttributeFile:
    """A file, and the names of its columns: none where it has no line."""

    file: EdgeFile
    columns: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.file.path


def _names(spec: EntitySpec, files: Sequence[_AttributeFile]) -> list[str]:
    """The columns that hold attributes: all of the files but the ids. Each file must have all of them, but objects of
    JSON, which leave out what is null.
    """
    present = dict.fromkeys(name for file in files for name in file.columns)
    first = next((file for file in files if file.columns), files[0])
    for name in (spec.attribute_id, *spec.attribute_types, *([spec.label] if spec.label else [])):
        if name not in present:
            near = near_name(name, tuple(present))
            meant = f"If {quoted(near)} is meant, spell it so in graph.toml. " if near else ""
            raise EdgeFileError(
                f"{first.path}: column {name!r} is missing; the file has {listed(first.columns)}. {meant}"
                "Correct the file, or attribute_id, label and attribute_types in graph.toml."
            )
    for file in files:
        _check_same(file, (spec.attribute_id,) if is_json_lines(file.path) else tuple(present))
    names: list[str] = [name for name in present if name != spec.attribute_id]
    overlong = next((name for name in names if not 0 < len(name) <= MAX_NAME_CHARACTERS), None)
    if overlong is not None:
        raise EdgeFileError(
            f"{first.path}: column {quoted(overlong)}: its name must have 1 to {MAX_NAME_CHARACTERS} characters. "
            "Rename it, or leave it out (pandas: index=False)."
        )
    if not names:
        raise GraphFileError(f"{first.path} has no column beside the ids {spec.attribute_id!r}. Add the attributes.")
    return names


def _check_same(file: _AttributeFile, wanted: Sequence[str]) -> None:
    """Raise EdgeFileError for a column that is twice in the file, or is wanted and lacking. A file without a line has
    none.
    """
    present = file.columns
    twice = next((name for name in present if present.count(name) > 1), None)
    if twice is not None:
        raise EdgeFileError(
            f"{file.path}: column {twice!r} is there {present.count(twice)} times. Rename or remove it."
        )
    lacking = next((name for name in wanted if name not in present), None) if present else None
    if lacking is not None:
        raise EdgeFileError(
            f"{file.path}: column {lacking!r} is missing, and other files of these attributes have it; this one has "
            f"{listed(present)}. Give all of them the same columns; values may be empty."
        )


def _kinds(spec: EntitySpec, files: Sequence[_AttributeFile], names: Sequence[str]) -> dict[str, AttributeKind]:
    """What each column is: as declared, or the first kind that all of its values fit."""
    declared: dict[str, AttributeKind] = {**spec.attribute_types, **({spec.label: "label"} if spec.label else {})}
    possible: dict[str, list[AttributeKind]] = {name: [] for name in names if name not in declared}
    wanted = [spec.attribute_id, *possible]  # by the ids a row is told from a header
    for _, _, batch in _batches(files, wanted, SilentStage()) if possible else ():
        for name, known in possible.items():
            fitting = kinds_of(batch.column(name))
            possible[name] = [kind for kind in fitting if kind in known] if known and fitting else known or fitting
    # Nothing in common, as a number in one file and a truth value in another, is read as text.
    return {**declared, **{name: kinds[0] if kinds else "category" for name, kinds in possible.items()}}


def _batches(
    files: Sequence[_AttributeFile], wanted: Sequence[str], stage: Stage
) -> Iterator[tuple[EdgeFile, int, Any]]:
    """Each batch of each file, with the number of its first row; nulls where a file lacks a column."""
    for file in files:
        first = 0
        for batch in file.file.batches([name for name in wanted if name in file.columns], stage):
            rows = batch.num_rows
            arrays = [batch.column(name) if name in file.columns else pa.nulls(rows) for name in wanted]
            yield file.file, first, pa.record_batch(arrays, names=list(wanted))
            first += rows


def _separated(column: Any, separator: str | None) -> Any:
    """A column of text as one of lists, cut at `separator`."""
    if separator is None or not columns.is_text(column.type):
        return column
    return pc.split_pattern(column.cast(pa.large_binary()), separator.encode())


def _finder(table: IdTable) -> Any:
    """Maps ids of a batch to rows, `ABSENT` for an id that no entity has."""
    if isinstance(table, IntIds):
        return table.rows_of
    if not isinstance(table, StringIds):
        raise TypeError("ids are integers or strings")
    known = string_array(table.offsets, table.utf8)

    def find_strings(ids: Any) -> Rows:
        found = pc.fill_null(pc.index_in(ids, value_set=known), ABSENT)
        rows: Rows = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    return find_strings


def _refuse_repeats(file: EdgeFile, first: int, name: str, ids: Any, rows: Rows, seen: npt.NDArray[np.bool_]) -> None:
    """Mark `rows` as seen. Raises EdgeFileError for an entity that was seen before."""
    places = np.flatnonzero(rows != ABSENT)
    here = rows[places]
    _, earliest = np.unique(here, return_index=True)
    again = np.ones(len(here), dtype=np.bool_)
    again[earliest] = False
    again |= seen[here]
    if again.any():
        at = int(places[again.argmax()])
        found = int(ids[at]) if isinstance(ids, np.ndarray) else ids[at].as_py()
        (place,) = file.places([first + at])
        raise EdgeFileError(
            f"{file.path}, {place}, column {name!r}: found {quoted(found)} a second time, expected one row an entity. "
            "Remove one of them."
        )
    seen[here] = True


@dataclass(slots=True)
class _ScalarStore:
    kind: Any
    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_]

    def add(self, rows: Rows, column: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]) -> None:
        values, present = column
        kept = present & (rows != ABSENT)
        self.values[rows[kept]] = values[kept]
        self.present[rows[kept]] = True

    def finish(self) -> Attribute:
        return Scalars(self.kind, self.values, packed(self.present))


@dataclass(slots=True)
class _CategoryStore:
    """(row, value) pairs; a value is a number until all are known, and then its rank."""

    n: int
    numbers: dict[bytes, int] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)
    values: list[Rows] = field(default_factory=list)

    def add(self, rows: Rows, column: tuple[Rows, Any]) -> None:
        lengths, texts = column
        encoded = texts.dictionary_encode()
        numbers = [self.numbers.setdefault(value, len(self.numbers)) for value in encoded.dictionary.to_pylist()]
        codes = np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        owners = np.repeat(rows, lengths)
        self.rows.append(owners[owners != ABSENT])
        self.values.append(codes[owners != ABSENT])

    def finish(self) -> Attribute:
        none = np.empty(0, dtype=np.int64)
        rows, values = np.concatenate([none, *self.rows]), np.concatenate([none, *self.values])
        used = np.unique(values)  # of entities that there are
        spelt = list(self.numbers)
        ranked = sorted(used.tolist(), key=spelt.__getitem__)
        rank = np.zeros(len(spelt), dtype=np.int64)
        rank[ranked] = np.arange(len(ranked))
        pairs = np.unique(rows * max(len(ranked), 1) + rank[values])
        owners, codes = np.divmod(pairs, max(len(ranked), 1))
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(owners, minlength=self.n))])
        vocabulary = string_ids([spelt[number].decode("utf-8") for number in ranked])
        return Categories(vocabulary, Csr(indptr.astype(np.int64), codes.astype(np.int32)))


@dataclass(slots=True)
class _LabelStore:
    texts: list[bytes]

    def add(self, rows: Rows, column: list[bytes]) -> None:
        for row, text in zip(rows.tolist(), column, strict=True):
            if row != ABSENT:
                self.texts[row] = text

    def finish(self) -> Attribute:
        return Labels(*concatenated(self.texts))


def _store(kind: AttributeKind, n: int) -> Any:
    if kind in SCALARS:
        return _ScalarStore(kind, np.zeros(n, dtype=SCALARS[kind]), np.zeros(n, dtype=np.bool_))
    return _CategoryStore(n) if kind == "category" else _LabelStore([b""] * n)
