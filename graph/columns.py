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
from jaxtyping import Bool, Float32, Float64, Int64

import engine
from bundle.ids import MAX_INT_ID, MAX_STRING_ID_BYTES

_MAX_DIGITS = len(str(MAX_INT_ID))
# Weights are stored with 32 bits: more would be infinite there, and less, which is not zero, would be zero.
_MAX_FLOAT = float(np.finfo(np.float32).max)
_MIN_FLOAT = float(np.finfo(np.float32).smallest_subnormal)
# The 36 places of a UUID's text: hyphens at four of them, hexadecimal digits at the others.
_UUID_BYTES, _UUID_LENGTH, _UUID_HYPHENS = 16, 36, (8, 13, 18, 23)
_HEXADECIMAL = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
# A whole number in text with a point or an exponent has at most so many digits, and so many after the point.
_DECIMAL_TEXT = pa.decimal256(60, 20)
_WHOLE_DECIMAL = pa.decimal256(76, 0)
INT_ID = f"a whole number from 0 to {MAX_INT_ID}, in digits alone and without leading zeros"
STRING_ID = f"text of 1 to {MAX_STRING_ID_BYTES} bytes of UTF-8"
WEIGHT = "a finite number, not negative"
TIME = "a whole number of 64 bits (Unix seconds, or any count that grows with time), or a date as in 2026-01-31"
LABEL = "0 or 1"
NUMBER = "a finite number"
FEATURE = "a finite number, as features are"
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(slots=True, eq=False)
class BadValue(Exception):
    """A value that is not legal: at `row` of the batch (None when the whole column is of a wrong type)."""

    row: int | None
    found: object
    expected: str


def int_ids(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """The column as integer ids: integers, decimals that are whole, or text of digits. Raises BadValue."""
    column = _present(column, INT_ID)
    if pa.types.is_decimal(column.type):
        column = _whole(column, INT_ID)
    if pa.types.is_integer(column.type):
        return _refuse_first(_integers(column), column, INT_ID)
    if not is_text(column.type):
        raise BadValue(None, type_name(column), INT_ID)
    text = column.cast(pa.large_binary())
    values, sound = _numbers(text)
    if sound < len(text):
        raise BadValue(sound, text[sound].as_py(), INT_ID)
    return values


def string_ids(column: Any) -> Any:
    """The column as string ids, a LargeBinaryArray. Raises BadValue.

    Integers and decimals that are whole count as their decimal form, 16 bytes of fixed size as a UUID's text.
    """
    column = _present(column, STRING_ID)
    if pa.types.is_decimal(column.type):
        column = _rescaled(column, STRING_ID)
    if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_fixed_size_binary(column.type):
        column = _uuid_text(column) if column.type.byte_width == _UUID_BYTES else column.cast(pa.large_binary())
    if not is_text(column.type):
        raise BadValue(None, type_name(column), STRING_ID)
    text = column.cast(pa.large_binary())
    lengths = np.diff(_offsets(text))
    sound = _first((lengths < 1) | (lengths > MAX_STRING_ID_BYTES))
    _cast(text.slice(0, sound), pa.large_string(), STRING_ID)
    if sound < len(text):
        raise BadValue(sound, text[sound].as_py(), f"{STRING_ID}, not {lengths[sound]} bytes")
    return text


def weights(column: Any) -> Float64[npt.NDArray[np.float64], " n"]:
    """The column as weights. Raises BadValue."""
    column = _present(column, WEIGHT)
    if pa.types.is_boolean(column.type):
        raise BadValue(None, type_name(column), WEIGHT)
    values = floats(column, WEIGHT)
    stored = _rounded(values)
    bad = ~((values >= 0) & np.isfinite(stored)) | ((values > 0) & (stored == 0))
    if bad.any():
        row = int(bad.argmax())
        within = f"{WEIGHT}, and if not 0 from {_MIN_FLOAT:.1e} to {_MAX_FLOAT:.1e}"
        raise BadValue(row, float(values[row]), within if 0 < values[row] < np.inf else WEIGHT)
    return values


def numbers(column: Any) -> Float32[npt.NDArray[np.float32], " n"]:
    """The column as numbers of 32 bits; false and true are 0 and 1. Raises BadValue."""
    values = floats(_present(column, FEATURE), FEATURE)
    stored = _rounded(values)
    bad = ~np.isfinite(stored)
    if bad.any():
        too_large = np.isfinite(values[bad.argmax()])
        expected = f"{NUMBER} of at most {_MAX_FLOAT:.1e}" if too_large else FEATURE
        raise BadValue(int(bad.argmax()), float(values[bad.argmax()]), expected)
    return stored


def _rounded(values: Float64[npt.NDArray[np.float64], " n"]) -> Float32[npt.NDArray[np.float32], " n"]:
    """The numbers as 32 bits hold them: the largest and the least that these have are told rounded, as 1.4E-45."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32)


def labels(column: Any) -> Bool[npt.NDArray[np.bool_], " n"]:
    """The column as labels: 0 and 1, or false and true. Raises BadValue."""
    column = _present(column, LABEL)
    if is_text(column.type):
        # Not `ascii_lower`, which reads other bytes of a slice whose offsets were widened (pyarrow 26).
        text = pc.utf8_lower(_cast(column.cast(pa.large_binary()), pa.large_string(), LABEL))
        column = pc.if_else(pc.equal(text, "true"), "1", pc.if_else(pc.equal(text, "false"), "0", text))
    values = floats(column, LABEL)
    bad = (values != 0) & (values != 1)
    if bad.any():
        raise BadValue(int(bad.argmax()), float(values[bad.argmax()]), LABEL)
    ones: npt.NDArray[np.bool_] = values == 1
    return ones


def times(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """The column as times: whole numbers, or dates and times of day as Unix seconds. Raises BadValue.

    Parts of a second are left out. Without a zone a time is one of UTC.
    """
    column = _present(column, TIME)
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(kind) else "ms"))
    if pa.types.is_timestamp(column.type):
        return np.floor_divide(_integers(column.cast(pa.int64())), _UNITS[column.type.unit])
    if pa.types.is_decimal(kind):
        column = _whole(column, TIME)
    if is_text(kind):
        return _times_of_text(_cast(column.cast(pa.large_binary()), pa.large_string(), TIME))
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(kind)):
        raise BadValue(None, type_name(column), TIME)
    values: npt.NDArray[np.int64] = _cast(column, pa.int64(), TIME).to_numpy(zero_copy_only=False)
    return values


def _times_of_text(text: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """Every row by its own form: digits; a number with a point or an exponent; a date; a date and a time of day."""
    if _casts(text, pa.int64()) and not pc.any(pc.match_substring_regex(text, "[xX]")).as_py():  # Arrow takes 0x1f
        return _integers(text.cast(pa.int64()))
    values = np.zeros(len(text), dtype=np.int64)
    dated = pc.match_substring_regex(text, r"^\d{4}-\d\d-\d\d").to_numpy(zero_copy_only=False)
    # Arrow takes neither parts of a second where seconds are wanted, nor the zone as BigQuery and Snowflake write it.
    bare = pc.replace_substring_regex(text, r"(:\d\d)[.]\d+", r"\1")
    bare = pc.replace_substring_regex(pc.replace_substring_regex(bare, r" UTC$", "Z"), r" ([+-]\d\d:?\d\d)$", r"\1")
    zoned = pc.match_substring_regex(bare, r":.*(Z|[+-]\d\d(:?\d\d)?)$").to_numpy(zero_copy_only=False)
    forms: tuple[tuple[npt.NDArray[np.bool_], Any, Callable[[Any], Any]], ...] = (
        (~dated, text, _whole_text),
        (dated & zoned, bare, lambda part: _cast(part, pa.timestamp("s", tz="UTC"), TIME).cast(pa.int64())),
        (dated & ~zoned, bare, lambda part: _cast(part, pa.timestamp("s"), TIME).cast(pa.int64())),
    )
    bad = len(text)
    for mask, source, convert in forms:
        rows = np.flatnonzero(mask)
        try:
            values[rows] = _integers(convert(source.take(pa.array(rows))))
        except BadValue as error:
            bad = min(bad, int(rows[error.row or 0]))
    if bad < len(text):
        raise BadValue(bad, text[bad].as_py(), TIME)
    return values


def _whole_text(text: Any) -> Any:
    """Text of whole numbers that may have a point or an exponent, as int64, exactly. Raises BadValue."""
    sound = _sound(text, _DECIMAL_TEXT)
    values = _whole(text.slice(0, sound).cast(_DECIMAL_TEXT), TIME)
    if sound < len(text):
        raise BadValue(sound, text[sound].as_py(), TIME)
    return values


def _first(bad: Bool[npt.NDArray[np.bool_], " n"]) -> int:
    """The first bad row, or the number of rows when all are sound."""
    return int(bad.argmax()) if bad.any() else len(bad)


def _present(column: Any, expected: str) -> Any:
    """The column without encodings and wrappers. Raises BadValue for the first null."""
    if pa.types.is_dictionary(column.type):  # whose null may stand among its values
        column = column.dictionary_decode()
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if column.null_count:
        raise BadValue(int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))), None, expected)
    return column if len(column) else pa.array([], type=pa.large_string())  # without a value any type will do


def _rescaled(column: Any, expected: str) -> Any:
    """Decimals of any size as whole ones, exactly. Raises BadValue for the first that has a fraction."""
    return _cast(column, _WHOLE_DECIMAL, expected)


def _whole(column: Any, expected: str) -> Any:
    """Decimals as int64, exactly. Raises BadValue for the first that has a fraction or is too large."""
    return _cast(_rescaled(column, expected), pa.int64(), expected)


def _uuid_text(column: Any) -> Any:
    """16 bytes each as text: 8-4-4-4-12 hexadecimal digits."""
    binary = column.cast(pa.large_binary())
    start, end = _offsets(binary)[[0, -1]]
    data = np.frombuffer(binary.buffers()[2] or b"", dtype=np.uint8)[start:end]
    text = np.full((len(column), _UUID_LENGTH), ord("-"), dtype=np.uint8)
    digits = np.delete(np.arange(_UUID_LENGTH), _UUID_HYPHENS)
    text[:, digits[0::2]] = _HEXADECIMAL[data >> 4].reshape(-1, _UUID_BYTES)
    text[:, digits[1::2]] = _HEXADECIMAL[data & 15].reshape(-1, _UUID_BYTES)
    offsets = np.arange(len(column) + 1, dtype=np.int64) * _UUID_LENGTH
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )


def floats(column: Any, expected: str) -> Float64[npt.NDArray[np.float64], " n"]:
    kind = column.type
    if is_text(kind):
        column = _cast(column.cast(pa.large_binary()), pa.large_string(), expected)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        column = column.cast(pa.float64(), safe=False)  # beyond 2^53 the last digits do not matter
    elif not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BadValue(None, type_name(column), expected)
    values: npt.NDArray[np.float64] = _cast(column, pa.float64(), expected).to_numpy(zero_copy_only=False)
    return values


def _integers(column: Any) -> Int64[npt.NDArray[np.int64], " n"]:
    """Integers of any width as int64; those beyond its range turn negative, and so are refused after."""
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.astype(np.int64)


def _refuse_first(values: Int64[npt.NDArray[np.int64], " n"], column: Any, expected: str) -> npt.NDArray[np.int64]:
    if len(values) and values.min() < 0:
        row = int((values < 0).argmax())
        raise BadValue(row, column[row].as_py(), expected)
    return values


def _numbers(text: Any) -> tuple[Int64[npt.NDArray[np.int64], " n"], int]:
    """Integer ids out of text, and how many are sound before the first that is not."""
    if not engine.available():
        return numbers_without_engine(text)
    values, utf8 = np.empty(len(text), dtype=np.int64), np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    return values, engine.native().numbers_of_text(_offsets(text), utf8, values)


def numbers_without_engine(text: Any) -> tuple[Int64[npt.NDArray[np.int64], " n"], int]:
    """Integer ids out of a LargeBinaryArray, and how many are sound before the first that is not."""
    sound = _first(_not_canonical(text))
    values = _integers(text.slice(0, sound).cast(pa.large_string()).cast(pa.uint64()))
    return values, _first(values < 0)


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
    sound = _sound(column, kind)
    if sound < len(column):
        raise BadValue(sound, column[sound].as_py(), expected)
    return column.cast(kind)


def _sound(column: Any, kind: Any) -> int:
    """How many rows cast before the first that does not, which is found by halving."""
    if _casts(column, kind):
        return len(column)
    low, high = 0, len(column)  # rows before `low` cast; some row before `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if _casts(column.slice(low, middle - low), kind):
            low = middle
        else:
            high = middle
    return low


def _casts(column: Any, kind: Any) -> bool:
    try:
        pc.cast(column, kind)
    except pa.ArrowInvalid:
        return False
    return True


def is_text(kind: Any) -> bool:
    tests: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
    )
    return any(test(kind) for test in tests)


def type_name(column: Any) -> str:
    """What to say of a column whose type does not fit."""
    return f"a column of type {column.type}"
