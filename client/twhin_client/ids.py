"""External ids of one type, by row: ascending integers, or strings ascending by their UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

ABSENT = -1
_CANONICAL = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)
_MOST = 2**63 - 1
# More look-ups at once than this are worth a dictionary of all strings.
MANY = 1000


class IntIds:
    """`values` int64 [n], ascending."""

    kind = "int64"

    def __init__(self, values: npt.NDArray[np.int64]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, ids: Iterable[str | int] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row of each id, -1 where there is none. Arrays of integers are looked up as they are."""
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            wanted = np.where(ids > _MOST, ABSENT, ids).astype(np.int64) if ids.dtype.kind == "u" else ids
        else:
            wanted = np.array([_number(one) for one in listed(ids)], dtype=np.int64)
        if len(self.values) == 0:
            return np.full(len(wanted), ABSENT, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.values, wanted), len(self.values) - 1)
        return np.where(self.values[places] == wanted, places, ABSENT).astype(np.int64)

    def externals(self, rows: npt.NDArray[np.integer[Any]] | slice = slice(None)) -> list[str]:
        """The ids at `rows`, as strings."""
        return list(map(str, self.values[rows].tolist()))


def listed(ids: Iterable[Any]) -> list[Any]:
    """Ids as a list; NumPy's arrays too. Raises TypeError for a single one."""
    if isinstance(ids, str):
        raise TypeError("ids are many: put the one into a list")
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)


def _number(one: str | int) -> int:
    """The number that an id names, -1 for what has not the one spelling that a number has."""
    text = str(one)
    number = int(text) if _CANONICAL.match(text) else ABSENT
    return number if number <= _MOST else ABSENT


class StringIds:
    """Id i is `utf8[offsets[i]:offsets[i + 1]]`."""

    kind = "string"

    def __init__(self, offsets: npt.NDArray[np.int64], utf8: npt.NDArray[np.uint8]) -> None:
        self.offsets = offsets
        self.utf8 = utf8

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, ids: Iterable[str | int] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row of each id, -1 where there is none."""
        wanted = [str(one).encode("utf-8", errors="replace") for one in listed(ids)]
        found = self._by_name.get if len(wanted) > MANY else self._row
        return np.array([found(one, ABSENT) for one in wanted], dtype=np.int64)

    @cached_property
    def _by_name(self) -> dict[bytes, int]:
        whole, bounds = self.utf8.tobytes(), self.offsets.tolist()
        return {whole[start:stop]: row for row, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True))}

    def _row(self, wanted: bytes, absent: int) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._bytes(low) == wanted else absent

    def _bytes(self, row: int) -> bytes:
        return self.utf8[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def externals(self, rows: npt.NDArray[np.integer[Any]] | slice = slice(None)) -> list[str]:
        """The ids at `rows`."""
        starts, stops = self.offsets[:-1][rows].tolist(), self.offsets[1:][rows].tolist()
        if isinstance(rows, slice) and rows.step in (None, 1) and starts:
            first, whole = starts[0], self.utf8[starts[0] : stops[-1]].tobytes()
            return [whole[start - first : stop - first].decode() for start, stop in zip(starts, stops, strict=True)]
        return [self.utf8[start:stop].tobytes().decode() for start, stop in zip(starts, stops, strict=True)]


Ids = IntIds | StringIds
