"""From a column as it stands in a file to ids, weights and times: checked, exact, and never one Python object a row.

Integer ids never pass through a float. Whatever is not legal raises BadValue with the first offending row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from bundle.ids import MAX_INT_ID, MAX_STRING_ID_BYTES

_MAX_DIGITS = len(str(MAX_INT_ID))
_MAX_WEIGHT = float(np.finfo(np.float32).max)
INT_ID = f"a whole number from 0 to {MAX_INT_ID}, in digits alone and without leading zeros"
STRING_ID = f"text of 1 to {MAX_STRING_ID_BYTES} bytes of UTF-8"
WEIGHT = "a finite number, not negative"
TIME = "a whole number of 64 bits (Unix seconds, or any count that grows with time)"


@dataclass(slots=True, eq=False)
class BadValue(Exception):
    """A value that is not legal: at `row` of the batch (None when the whole column is of a wrong type)."""

    row: int | None
    found: object
    expected: str


def int_ids(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """The column as integer ids. Raises BadValue."""
    column = _present(column, INT_ID)
    if pa.types.is_integer(column.type):
        return _refuse_first(_integers(column), column, INT_ID)
    if not _is_text(column.type):
        raise BadValue(None, _type_name(column), INT_ID)
    text = column.cast(pa.large_binary())
    sound = _first(_not_canonical(text))
    values = _integers(text.slice(0, sound).cast(pa.large_string()).cast(pa.uint64()))
    _refuse_first(values, text, INT_ID)
    if sound < len(text):
        raise BadValue(sound, text[sound].as_py(), INT_ID)
    return values


def string_ids(column: Any) -> Any:
    """The column as string ids, a LargeBinaryArray. Integers count as their decimal form. Raises BadValue."""
    column = _present(column, STRING_ID)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.large_string())
    if not _is_text(column.type):
        raise BadValue(None, _type_name(column), STRING_ID)
    text = column.cast(pa.large_binary())
    lengths = np.diff(_offsets(text))
    sound = _first((lengths < 1) | (lengths > MAX_STRING_ID_BYTES))
    _cast(text.slice(0, sound), pa.large_string(), STRING_ID)
    if sound < len(text):
        raise BadValue(sound, text[sound].as_py(), f"{STRING_ID}, not {lengths[sound]} bytes")
    return text


def weights(column: Any) -> Float64[npt.NDArray[np.float64], " n"]:
    """The column as weights. Raises BadValue."""
    column = _numeric(_present(column, WEIGHT), WEIGHT)
    values: npt.NDArray[np.float64] = _cast(column, pa.float64(), WEIGHT).to_numpy(zero_copy_only=False)
    bad = ~((values >= 0) & (values <= _MAX_WEIGHT))
    if bad.any():
        row = int(bad.argmax())
        raise BadValue(row, float(values[row]), WEIGHT)
    return values


def times(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """The column as times; a Parquet timestamp counts as its Unix seconds. Raises BadValue."""
    column = _numeric(_present(column, TIME), TIME)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"), safe=False)
    values: npt.NDArray[np.int64] = _cast(column, pa.int64(), TIME).to_numpy(zero_copy_only=False)
    return values


def _first(bad: Bool[npt.NDArray[np.bool_], " n"]) -> int:
    """The first bad row, or the number of rows when all are sound."""
    return int(bad.argmax()) if bad.any() else len(bad)


def _present(column: Any, expected: str) -> Any:
    if pa.types.is_dictionary(column.type):  # whose null may stand among its values
        column = column.dictionary_decode()
    if column.null_count:
        raise BadValue(int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))), None, expected)
    return column


def _numeric(column: Any, expected: str) -> Any:
    kind = column.type
    if _is_text(kind):
        return _cast(column.cast(pa.large_binary()), pa.large_string(), expected)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column
    if pa.types.is_timestamp(kind) and expected == TIME:
        return column
    raise BadValue(None, _type_name(column), expected)


def _integers(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """Integers of any width as int64; those beyond its range turn negative, and so are refused after."""
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.astype(np.int64)


def _refuse_first(values: Int64[npt.NDArray[np.int64], " n"], column: Any, expected: str) -> npt.NDArray[np.int64]:
    if len(values) and values.min() < 0:
        row = int((values < 0).argmax())
        raise BadValue(row, column[row].as_py(), expected)
    return values


def _not_canonical(text: Any) -> Bool[npt.NDArray[np.bool_], " n"]:
    """Which rows are not 1 to 19 digits without a leading zero."""
    # The bytes of all rows lie one after another, so they are looked at as one array: a byte below "0" wraps round to
    # a large number, and a byte that is no digit marks the row whose offsets it lies between.
    offsets = _offsets(text)
    lengths = np.diff(offsets)
    bad = (lengths < 1) | (lengths > _MAX_DIGITS)
    data = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)[: offsets[-1]]
    strange = np.flatnonzero((data[offsets[0] :] - ord("0")) > 9) + offsets[0]
    bad[np.searchsorted(offsets, strange, side="right") - 1] = True
    starts = offsets[:-1][lengths > 1]
    bad[lengths > 1] |= data[starts] == ord("0")
    return bad


def _offsets(text: Any) -> Int64[npt.NDArray[np.int64], " n_plus_1"]:
    if len(text) == 0:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset : text.offset + len(text) + 1]


def _cast(column: Any, kind: Any, expected: str) -> Any:
    """Cast, and when that fails find the first row that does by halving."""
    if _casts(column, kind):
        return column.cast(kind)
    low, high = 0, len(column)  # rows before `low` cast; some row before `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if _casts(column.slice(low, middle - low), kind):
            low = middle
        else:
            high = middle
    raise BadValue(low, column[low].as_py(), expected)


def _casts(column: Any, kind: Any) -> bool:
    try:
        pc.cast(column, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(kind: Any) -> bool:
    tests: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _type_name(column: Any) -> str:
    return f"a column of type {column.type}"
