"""From a column of attributes to values and a mask of those that are there; what a column can be, by its values.

Missing are nulls, empty text, and NaN, which pandas writes for a missing number. Whatever is not legal raises BadValue.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64

from bundle.attributes import AttributeKind
from bundle.ids import MAX_STRING_ID_BYTES
from graph import columns
from graph.columns import BadValue, is_text

BOOLEAN = "true or false"
CATEGORY = f"text of at most {MAX_STRING_ID_BYTES} bytes of UTF-8, or a list of such"
MAX_LABEL_BYTES = 1024
LABEL = f"text of UTF-8 of at most {MAX_LABEL_BYTES} bytes"
_VIEWED: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (pa.types.is_string_view, lambda _: pa.large_string()),
    (pa.types.is_binary_view, lambda _: pa.large_binary()),
    (pa.types.is_list_view, lambda kind: pa.list_(kind.value_type)),
    (pa.types.is_large_list_view, lambda kind: pa.large_list(kind.value_type)),
    (pa.types.is_fixed_size_list, lambda kind: pa.list_(kind.value_type)),
)
Present = Bool[npt.NDArray[np.bool_], " n"]


def kinds_of(column: Any) -> list[AttributeKind]:
    """The kinds that all values of the column fit, the likeliest first; none where every value is missing."""
    column = _plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return []
    if pa.types.is_boolean(kind):
        return ["boolean", "category"]
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return ["timestamp", "category"]
    if is_text(kind):
        column = column.filter(_present(column))
        return _kinds_of_text(column) if len(column) else []
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return ["number", "category"]
    return ["category"]


def _kinds_of_text(column: Any) -> list[AttributeKind]:
    tests: tuple[tuple[AttributeKind, Callable[[Any], Any]], ...] = (
        ("number", numbers),
        ("boolean", booleans),
        ("timestamp", _dates),
    )
    return [*(kind for kind, convert in tests if _fits(convert, column)), "category"]


def _fits(convert: Callable[[Any], Any], column: Any) -> bool:
    # A column of other text is told by its first values; only one that begins well is looked at to its end.
    try:
        convert(column[:64])
        convert(column)
    except BadValue:
        return False
    return True


def _dates(text: Any) -> None:
    """Raise BadValue unless all are dates: a year among them would be a second of 1970."""
    if not pc.all(pc.match_substring_regex(text, r"^\d{4}-\d\d-\d\d")).as_py():
        raise BadValue(None, None, columns.TIME)
    timestamps(text)


def numbers(column: Any) -> tuple[Float64[npt.NDArray[np.float64], " n"], Present]:
    """Finite numbers of 64 bits."""
    column = _plain(column)

    def convert(part: Any) -> npt.NDArray[np.float64]:
        values = columns.floats(part, columns.NUMBER)
        bad = ~np.isfinite(values)
        if bad.any():
            raise BadValue(int(bad.argmax()), float(values[bad.argmax()]), columns.NUMBER)
        return values

    return _scattered(column, convert, np.float64)


def booleans(column: Any) -> tuple[npt.NDArray[np.uint8], Present]:
    """Truth values, numbers 0 and 1, text `true` and `false` in any case."""

    def convert(part: Any) -> npt.NDArray[np.uint8]:
        try:
            return columns.labels(part).astype(np.uint8)
        except BadValue as error:
            raise BadValue(error.row, error.found, BOOLEAN) from error

    return _scattered(_plain(column), convert, np.uint8)


def timestamps(column: Any) -> tuple[Int64[npt.NDArray[np.int64], " n"], Present]:
    """Seconds since 1970, dates, dates with a time of day."""
    return _scattered(_plain(column), columns.times, np.int64)


def categories(column: Any) -> tuple[Int64[npt.NDArray[np.int64], " n"], Any]:
    """How many categories each row has, and all of them one after another, as a LargeBinaryArray."""
    column = _plain(column)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), dtype=np.int64), pa.array([], type=pa.large_binary())
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        texts, owners = column, np.arange(len(column))
    else:
        texts, owners = _plain(column.flatten()), pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    present = _present(texts)
    texts, owners = texts.filter(pa.array(present)), owners[present]
    try:
        values = _category_text(texts)
    except BadValue as error:
        if error.row is None:  # the type of what a list holds, perhaps
            raise BadValue(None, columns.type_name(column), CATEGORY) from error
        raise BadValue(int(owners[error.row]), error.found, CATEGORY) from error
    return np.bincount(owners, minlength=len(column)), values


def _category_text(texts: Any) -> Any:
    spelt: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_boolean,
        pa.types.is_date,
        pa.types.is_timestamp,
        pa.types.is_floating,
        pa.types.is_decimal,
    )
    return columns.string_ids(texts.cast(pa.string()) if any(test(texts.type) for test in spelt) else texts)


def labels(column: Any) -> list[bytes]:
    """A text for each row, empty where there is none; what is no text is spelt as a category is."""
    column = _plain(column)
    texts = [b""] * len(column)
    places = np.flatnonzero(_present(column))
    if not len(places):  # without a value any type will do
        return texts
    there = column.take(pa.array(places))
    if not is_text(column.type):
        try:
            there = _category_text(there)
        except BadValue as error:
            found = error.found if error.row is not None else columns.type_name(column)
            raise BadValue(None if error.row is None else int(places[error.row]), found, LABEL) from error
    for place, text in zip(places.tolist(), there.cast(pa.large_binary()).to_pylist(), strict=True):
        if not _is_label(text):
            raise BadValue(place, text, LABEL)
        texts[place] = text
    return texts


def _is_label(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(text) <= MAX_LABEL_BYTES


CONVERTERS: dict[AttributeKind, Callable[[Any], Any]] = {
    "number": numbers,
    "boolean": booleans,
    "timestamp": timestamps,
    "category": categories,
    "label": labels,
}


def _plain(column: Any) -> Any:
    """The column without encodings and wrappers; views, which Arrow cannot take rows of, as what they view; NaN, which
    pandas writes for a number that is missing, as null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    for is_view, whole in _VIEWED:
        if is_view(column.type):
            return column.cast(whole(column.type))
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _present(column: Any) -> Present:
    """Where the column has a value."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if is_text(column.type):
        filled = pc.greater(pc.fill_null(pc.binary_length(column.cast(pa.large_binary())), 0), 0)
        there = there & filled.to_numpy(zero_copy_only=False)
    present: Present = there.astype(np.bool_)
    return present


def _scattered(column: Any, convert: Callable[[Any], Any], dtype: type[np.generic]) -> tuple[Any, Present]:
    """The values where there are any, 0 elsewhere; a fault is named by its row in the whole column."""
    values, present = np.zeros(len(column), dtype=dtype), _present(column)
    places = np.flatnonzero(present)
    if not len(places):  # without a value any type will do
        return values, present
    try:
        values[places] = convert(column.take(pa.array(places)))
    except BadValue as error:
        raise BadValue(None if error.row is None else int(places[error.row]), error.found, error.expected) from error
    return values, present
