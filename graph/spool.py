"""Columns set aside on disk between reading and preparing, so that memory holds one batch of edges at a time.

The rows of ids are known only when every file has been read; until then ids wait here, string ids as
codes into the distinct strings of their batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, Integer, UInt8

from bundle.ids import IdTable, IntIds, StringIds
from bundle.scratch import RawColumn
from bundle.shards import row_type
from graph.ahead import mapped

# Distinct strings that are looked up at a time: a look-up makes a hash table of all ids of the type, which must pay.
LOOKUP_STRINGS = 1 << 22
# Ids that fill a quarter of their range or more are looked up, at 4 bytes for each number in it.
LOOKUP_SPAN = 4
AnyArray = npt.NDArray[Any]
Rows = Integer[npt.NDArray[np.integer], " n"]


@runtime_checkable
class IdSpool(Protocol):
    """Ids of one column, waiting for the table that gives them rows."""

    def encoded(self, ids: Any) -> Any:
        """A batch of ids as it is set aside. Any thread may do this."""
        ...

    def append(self, encoded: Any) -> None:
        """Set one batch of ids aside, and take them in where ids of the type are collected."""
        ...

    def rows(self) -> Iterator[Rows]:
        """The row of every id, in the batches in which they were appended; all ids of the type must be collected."""
        ...


@runtime_checkable
class Collected(Protocol):
    """Where the distinct ids of a type are collected."""

    def add(self, ids: Any) -> None:
        """Take in the distinct ids of one batch."""
        ...

    def table(self) -> IdTable:
        """All ids, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class IntSpool:
    """Integer ids."""

    space: Collected
    ids: RawColumn

    def encoded(self, ids: Int64[npt.NDArray[np.int64], " n"]) -> tuple[AnyArray, AnyArray]:
        """The ids, and the distinct ones ascending."""
        return ids, distinct(ids)

    def append(self, encoded: tuple[AnyArray, AnyArray]) -> None:
        """Set one batch aside."""
        self.ids.append(encoded[0])
        self.space.add(encoded[1])

    def rows(self) -> Iterator[Rows]:
        """The row of every id."""
        table = self.space.table()
        if not isinstance(table, IntIds):
            raise TypeError("integer ids need a table of integer ids")
        yield from mapped(_row_finder(table.values), self.ids.batches())


def distinct(ids: Int64[npt.NDArray[np.int64], " n"]) -> Int64[npt.NDArray[np.int64], " distinct"]:
    """The distinct ids, ascending. (numpy's own `unique` hashes integers, which takes several times as long.)"""
    ordered = np.sort(ids)
    new = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]


def _row_finder(table: Int64[npt.NDArray[np.int64], " t"]) -> Callable[[AnyArray], Rows]:
    """Rows by one look-up where the ids lie close together, else by binary search."""
    span = int(table[-1]) - int(table[0]) + 1 if len(table) else 0
    kind = row_type(len(table))
    if span > LOOKUP_SPAN * len(table):
        return lambda ids: np.searchsorted(table, ids).astype(kind)
    rows = np.zeros(span, dtype=kind)
    rows[table - table[:1]] = np.arange(len(table), dtype=kind)
    return lambda ids: rows[ids - table[:1]]


@dataclass(frozen=True, slots=True)
class StringSpool:
    """String ids: for each batch, its distinct strings and every id as a position among them."""

    space: Collected
    codes: RawColumn
    lengths: RawColumn
    utf8: RawColumn

    def encoded(self, ids: Any) -> Any:
        """Each id as a position among the distinct ones."""
        return ids.dictionary_encode()

    def append(self, encoded: Any) -> None:
        """Set one batch aside."""
        offsets, utf8 = string_buffers(encoded.dictionary)
        self.codes.append(encoded.indices.to_numpy(zero_copy_only=False))
        self.lengths.append(np.diff(offsets))
        self.utf8.append(utf8)
        self.space.add(encoded.dictionary)

    def rows(self) -> Iterator[Rows]:
        """The row of every id; the distinct strings of many batches are looked up at a time."""
        table = self.space.table()
        if not isinstance(table, StringIds):
            raise TypeError("string ids need a table of string ids")
        known, kind = string_array(table.offsets, table.utf8), row_type(len(table))
        codes = self.codes.batches()
        for strings, counts in self._groups():
            rows: Rows = pc.index_in(strings, value_set=known).to_numpy(zero_copy_only=False).astype(kind)
            for part in np.split(rows, np.cumsum(counts)[:-1]):
                yield part[next(codes)]

    def _groups(self) -> Iterator[tuple[Any, list[int]]]:
        """The distinct strings of consecutive batches put together, with the number of each batch."""
        parts: list[Any] = []
        for lengths, utf8 in zip(self.lengths.batches(), self.utf8.batches(), strict=True):
            offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
            parts.append(string_array(offsets, utf8))
            if sum(len(part) for part in parts) >= LOOKUP_STRINGS:
                yield pa.concat_arrays(parts), [len(part) for part in parts]
                parts = []
        if parts:
            yield pa.concat_arrays(parts), [len(part) for part in parts]


def string_array(
    offsets: Int64[npt.NDArray[np.int64], " n_plus_1"], utf8: UInt8[npt.NDArray[np.uint8], " total"]
) -> Any:
    """The strings as an Arrow LargeBinaryArray that shares the memory."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(utf8)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def string_buffers(
    strings: Any,
) -> tuple[Int64[npt.NDArray[np.int64], " n_plus_1"], UInt8[npt.NDArray[np.uint8], " total"]]:
    """Offsets from 0 and bytes of an Arrow LargeBinaryArray."""
    if len(strings) == 0:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]
    utf8 = np.frombuffer(strings.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], utf8
