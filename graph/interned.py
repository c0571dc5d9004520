"""Ids numbered by the compiled engine as they come: every id is looked up once, and edges wait on disk as codes.

Memory grows with entities: the ids and some 16 bytes of table for each, then 4 for its row. While they are sorted ids,
table and result stand side by side: at the most some 55 bytes for an integer id, 130 for a string of 36 bytes.
`graph/idspace.py` does the same without an engine.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, UInt32

import engine
from bundle.cells import CORES
from bundle.errors import GraphError
from bundle.ids import IdTable, IntIds, StringIds
from bundle.scratch import RawColumn
from bundle.shards import row_type
from graph.ahead import mapped
from graph.spool import IdSpool, Rows, string_buffers

Codes = UInt32[npt.NDArray[np.uint32], " n"]


@contextmanager
def _too_many() -> Iterator[None]:
    """The engine numbers some 2^32 ids; that is all it finds wrong with arrays that fit."""
    try:
        yield
    except ValueError as error:
        raise GraphError(
            "An entity type has more ids than one machine numbers, some 2^32. Split it into several types."
        ) from error


@dataclass(slots=True)
class InternedSpool:
    """Ids of one column as codes."""

    space: "_InternedSpace"
    codes: RawColumn

    def encoded(self, ids: Any) -> Codes:
        """The code of each id. Any thread may do this."""
        return self.space.codes_of(ids)

    def append(self, encoded: Codes) -> None:
        """Set one batch aside."""
        self.codes.append(encoded)

    def rows(self) -> Iterator[Rows]:
        """The row of every id."""
        yield from mapped(self.space.rows_by_code().__getitem__, self.codes.batches())


@dataclass(slots=True)
class _InternedSpace(ABC):
    """The distinct ids of a type; `_ids` is the engine's table of them, gone once they are sorted."""

    _ids: Any
    _sorted: tuple[IdTable, Rows] | None = field(default=None, init=False)

    def spool(self, directory: Path, name: str) -> IdSpool:
        """A column of ids of this type, in files of `directory` that begin with `name`."""
        return InternedSpool(self, RawColumn(directory / f"{name}.codes", np.uint32))

    @abstractmethod
    def codes_of(self, ids: Any) -> Codes:
        """The code of each id, a new one for each that is new. Any thread may do this."""

    @abstractmethod
    def _ascending(self) -> tuple[IdTable, Codes, int]:
        """All ids, their codes, and a number above all codes."""

    def table(self) -> IdTable:
        """All ids, ascending; none is added after."""
        return self._finished()[0]

    def rows_by_code(self) -> Rows:
        """The row of each code."""
        return self._finished()[1]

    def _finished(self) -> tuple[IdTable, Rows]:
        if self._sorted is None:
            table, codes, bound = self._ascending()
            rows = np.zeros(bound, dtype=row_type(len(table)))
            rows[codes] = np.arange(len(table), dtype=rows.dtype)
            self._ids, self._sorted = None, (table, rows)
        return self._sorted


class InternedNumbers(_InternedSpace):
    """Distinct integer ids."""

    def __init__(self) -> None:
        super().__init__(engine.native().distinct_numbers())

    def codes_of(self, ids: Int64[npt.NDArray[np.int64], " n"]) -> Codes:
        """The code of each id."""
        codes = np.empty(len(ids), dtype=np.uint32)
        with _too_many():
            engine.native().add_numbers(self._ids, np.ascontiguousarray(ids), codes)
        return codes

    def _ascending(self) -> tuple[IdTable, Codes, int]:
        native = engine.native()
        count = native.numbers_size(self._ids)
        values, codes = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.uint32)
        native.list_numbers(self._ids, values, codes)
        order = np.argsort(values)
        return IntIds(values[order]), codes[order], native.numbers_codes(self._ids)


class InternedTexts(_InternedSpace):
    """Distinct string ids, given as Arrow LargeBinaryArrays."""

    def __init__(self) -> None:
        super().__init__(engine.native().distinct_texts())

    def codes_of(self, ids: Any) -> Codes:
        """The code of each id."""
        codes = np.empty(len(ids), dtype=np.uint32)
        with _too_many():
            engine.native().add_texts(self._ids, *string_buffers(ids), codes)
        return codes

    def _ascending(self) -> tuple[IdTable, Codes, int]:
        native = engine.native()
        count = native.texts_size(self._ids)
        offsets, codes = np.empty(count + 1, dtype=np.int64), np.empty(count, dtype=np.uint32)
        utf8 = np.empty(native.texts_bytes(self._ids), dtype=np.uint8)
        native.sort_texts(self._ids, CORES, offsets, utf8, codes)
        return StringIds(offsets, utf8), codes, native.texts_codes(self._ids)
