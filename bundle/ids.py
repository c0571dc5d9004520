"""External ids and rows: a client's id is a string on the wire; a row is a position in one version's arrays.

Ids are stored in ascending order, so a look-up is a binary search on a mapped file and nothing has to
be built when a version is opened.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NewType, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, UInt8

from bundle.errors import BundleInvalid

Row = NewType("Row", int)
IdKind = Literal["int64", "string"]

MAX_INT_ID = 2**63 - 1
MAX_INT_DIGITS = 19
MAX_STRING_ID_BYTES = 256
ABSENT = -1
# Strings of one table that are looked up in another at a time.
_MATCHED_AT_ONCE = 2**16
_MAX_INT_DIGITS = len(str(2**63 - 1))
_CANONICAL_INT = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)


def parse_int_id(text: str) -> int | None:
    """The number that `text` names in its one canonical form, 0 to 2^63 - 1, else None.

    `007`, `+7`, `1_000` and `1.0` name nothing: an id that could be spelt two ways would alias.
    """
    if not _CANONICAL_INT.match(text):
        return None
    number = int(text)
    return number if number <= MAX_INT_ID else None


def is_int_id(text: str) -> bool:
    """Whether `parse_int_id` finds a number."""
    return _CANONICAL_INT.match(text) is not None and (len(text) < _MAX_INT_DIGITS or int(text) <= MAX_INT_ID)


@runtime_checkable
class IdTable(Protocol):
    """The external ids of one entity type, by row."""

    @property
    def kind(self) -> IdKind: ...

    def __len__(self) -> int: ...

    def row(self, external: str) -> Row | None:
        """The row of `external`, None when this version has no such entity."""
        ...

    def rows(self, externals: Sequence[str]) -> Int64[npt.NDArray[np.int64], " n"]:
        """The row of each external id, -1 (`ABSENT`) where there is none."""
        ...

    def external(self, row: int) -> str:
        """The external id at `row`."""
        ...

    def externals(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """The external ids at `rows`."""
        ...

    def beginning_with(self, prefix: str, limit: int) -> list[int]:
        """The first `limit` rows, in their order, whose external id begins with `prefix`, which is not empty."""
        ...


@dataclass(frozen=True, slots=True, weakref_slot=True)
class IntIds:
    """Ids that are integers 0 to 2^63 - 1, strictly ascending; on the wire their canonical decimal form."""

    values: Int64[npt.NDArray[np.int64], " n"]
    kind: IdKind = "int64"

    def __len__(self) -> int:
        return len(self.values)

    def row(self, external: str) -> Row | None:
        number = parse_int_id(external)
        if number is None:
            return None
        position = int(self.values.searchsorted(number))
        if position == len(self.values) or self.values[position] != number:
            return None
        return Row(position)

    def rows(self, externals: Sequence[str]) -> Int64[npt.NDArray[np.int64], " n"]:
        return self.rows_of(_parse_int_ids(externals))

    def rows_of(self, numbers: Int64[npt.NDArray[np.int64], " n"]) -> Int64[npt.NDArray[np.int64], " n"]:
        """The row of each number, `ABSENT` where there is none."""
        if len(self.values) == 0:
            return np.full(len(numbers), ABSENT, dtype=np.int64)
        positions = np.minimum(np.searchsorted(self.values, numbers), len(self.values) - 1)
        found = self.values[positions] == numbers
        return np.where(found, positions, ABSENT).astype(np.int64)

    def external(self, row: int) -> str:
        return str(int(self.values[row]))

    def externals(self, rows: npt.NDArray[np.integer]) -> list[str]:
        return list(map(str, self.values[rows].tolist()))

    def beginning_with(self, prefix: str, limit: int) -> list[int]:
        number = parse_int_id(prefix)
        rows: list[int] = []
        # Those with so many digits more lie side by side.
        for digits in range(MAX_INT_DIGITS - len(prefix) + 1) if number is not None else ():
            if (digits and number == 0) or len(rows) >= limit:
                break
            low = number * 10**digits
            high = min(low + 10**digits - 1, MAX_INT_ID)
            if low <= MAX_INT_ID:
                start, stop = self.values.searchsorted(low), self.values.searchsorted(high, side="right")
                rows += range(int(start), int(stop))[: limit - len(rows)]
        return rows


def _parse_int_ids(externals: Sequence[str]) -> Int64[npt.NDArray[np.int64], " n"]:
    """The numbers of many ids, -1 for what names none. A canonical id is one that its number spells again."""
    try:
        numbers = list(map(int, externals))
        if list(map(str, numbers)) == list(externals) and min(numbers, default=0) >= 0:
            return np.array(numbers, dtype=np.int64)
    except (ValueError, OverflowError):
        pass  # one of them is no number: look at each
    parsed = [parse_int_id(external) for external in externals]
    return np.array([ABSENT if number is None else number for number in parsed], dtype=np.int64)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StringIds:
    """Ids that are any UTF-8 text of 1 to 256 bytes, ascending by bytes.

    Id i is `utf8[offsets[i]:offsets[i + 1]]`.
    """

    offsets: Int64[npt.NDArray[np.int64], " n_plus_1"]
    utf8: UInt8[npt.NDArray[np.uint8], " total"]
    kind: IdKind = "string"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _bytes(self, row: int) -> bytes:
        return self.utf8[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def row(self, external: str) -> Row | None:
        try:
            wanted = external.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate is no text, so nobody has it as an id
            return None
        low = self._first_from(wanted)
        return Row(low) if low < len(self) and self._bytes(low) == wanted else None

    def _first_from(self, wanted: bytes) -> int:
        """The first row whose id is not below `wanted`."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def rows(self, externals: Sequence[str]) -> Int64[npt.NDArray[np.int64], " n"]:
        found = (self.row(external) for external in externals)
        return np.array([ABSENT if row is None else row for row in found], dtype=np.int64)

    def external(self, row: int) -> str:
        return self._bytes(row).decode("utf-8")

    def externals(self, rows: npt.NDArray[np.integer]) -> list[str]:
        return [self.external(row) for row in rows.tolist()]

    def beginning_with(self, prefix: str, limit: int) -> list[int]:
        try:
            wanted = prefix.encode("utf-8")
        except UnicodeEncodeError:  # as in `row`
            return []
        first = self._first_from(wanted)
        candidates = range(first, min(first + limit, len(self)))
        return list(itertools.takewhile(lambda row: self._bytes(row).startswith(wanted), candidates))


def int_ids(values: Int64[npt.NDArray[np.int64], " n"]) -> IntIds:
    """Check that `values` are ids in strictly ascending order. Raises BundleInvalid."""
    if len(values) and (values[0] < 0 or not np.all(values[1:] > values[:-1])):
        raise BundleInvalid("integer ids must be strictly ascending and not negative")
    return IntIds(values)


def string_ids(externals: Sequence[str]) -> StringIds:
    """Lay out distinct strings, sorted here by their bytes. Raises BundleInvalid for one that is no legal id."""
    encoded = sorted(external.encode("utf-8") for external in externals)
    lengths = np.array([len(item) for item in encoded], dtype=np.int64)
    if len(encoded) and (lengths.min() < 1 or lengths.max() > MAX_STRING_ID_BYTES):
        raise BundleInvalid(f"a string id must have 1 to {MAX_STRING_ID_BYTES} bytes")
    if len(set(encoded)) != len(encoded):
        raise BundleInvalid("string ids must be distinct")
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return StringIds(offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8))


def matching_rows(ids: IdTable, others: IdTable) -> Int64[npt.NDArray[np.int64], " n"]:
    """For each row of `ids` the row of the same external id in `others`, -1 (`ABSENT`) where there is none."""
    if isinstance(ids, IntIds) and isinstance(others, IntIds):
        return others.rows_of(ids.values)
    starts = range(0, len(ids), _MATCHED_AT_ONCE)
    blocks = [np.arange(start, min(start + _MATCHED_AT_ONCE, len(ids))) for start in starts]
    return np.concatenate([np.empty(0, dtype=np.int64), *(others.rows(ids.externals(block)) for block in blocks)])
