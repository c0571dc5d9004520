"""Columns become ids, weights and times exactly, or are refused at their first bad row."""

import datetime
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.ids import MAX_INT_ID, parse_int_id
from graph.columns import BadValue, int_ids, labels, string_ids, times, weights

pytestmark = pytest.mark.usefixtures("either_way")

EXACT = [0, 1, 2**53 - 1, 2**53, 2**53 + 1, MAX_INT_ID - 1, MAX_INT_ID]
NOT_INTEGERS = [
    *("abc", "1.5", "1e3", "-1", "+7", "007", "00", " 7", "7 ", "1_000", "", "0x1F", "0xFFFFFFFFF", "1,0"),
    *("9223372036854775808", "9999999999999999999", "18446744073709551616", "1" * 40, "٣", "７", "NaN", "null"),
]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_integers_from_text_are_exact(kind: object) -> None:
    column = pa.array([str(number) for number in EXACT]).cast(pa.binary()).cast(kind)
    assert int_ids(column).tolist() == EXACT


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_integers_from_integers_are_exact(kind: object) -> None:
    assert int_ids(pa.array(EXACT, type=kind)).tolist() == EXACT


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()])
def test_narrow_integers(kind: object) -> None:
    assert int_ids(pa.array([0, 7, 127], type=kind)).tolist() == [0, 7, 127]


def test_dictionary_columns_are_read_through() -> None:
    assert int_ids(pa.array(["7", "8", "7"]).dictionary_encode()).tolist() == [7, 8, 7]
    assert string_ids(pa.array(["a", "b", "a"]).dictionary_encode()).to_pylist() == [b"a", b"b", b"a"]


@pytest.mark.parametrize("text", NOT_INTEGERS)
def test_text_that_is_no_integer_id_is_refused_at_its_row(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        int_ids(pa.array(["1", "2", text, "abc"]))
    assert caught.value.row == 2
    assert caught.value.found == text.encode()


@given(st.lists(st.text(alphabet="0123456789-+x. ", max_size=20), max_size=8))
def test_text_is_an_integer_id_exactly_where_the_wire_says_so(texts: list[str]) -> None:
    wanted = [parse_int_id(text) for text in texts]
    column = pa.array(texts, type=pa.string())
    if None in wanted:
        with pytest.raises(BadValue) as caught:
            int_ids(column)
        assert wanted[caught.value.row or 0] is None
    else:
        assert int_ids(column).tolist() == wanted


DECIMALS = [pa.decimal128(38, 0), pa.decimal128(38, 10), pa.decimal256(60, 2), pa.decimal64(18, 0), pa.decimal32(9, 3)]


@pytest.mark.parametrize("kind", DECIMALS, ids=str)
def test_decimals_that_are_whole_are_ids_and_times_exactly(kind: object) -> None:
    numbers = [0, 7, 123_456] if kind == pa.decimal32(9, 3) else [0, 7, 10**17 + 1]
    column = pa.array([Decimal(number) for number in numbers], type=kind)
    assert int_ids(column).tolist() == numbers
    assert times(column).tolist() == numbers
    assert string_ids(column).to_pylist() == [str(number).encode() for number in numbers]


def test_decimals_that_are_refused() -> None:
    column = pa.array([Decimal(1), Decimal("1.5")], type=pa.decimal128(38, 2))
    for convert in (int_ids, string_ids, times):
        with pytest.raises(BadValue) as caught:
            convert(column)
        assert (caught.value.row, caught.value.found) == (1, Decimal("1.50"))
    with pytest.raises(BadValue) as caught:
        int_ids(pa.array([Decimal(MAX_INT_ID), Decimal(MAX_INT_ID + 1)], type=pa.decimal128(38, 0)))
    assert caught.value.row == 1
    with pytest.raises(BadValue) as caught:
        int_ids(pa.array([Decimal(1), Decimal(-1)], type=pa.decimal128(38, 0)))
    assert caught.value.row == 1


@pytest.mark.parametrize("kind", [pa.uuid(), pa.binary(16)], ids=str)
def test_uuids_are_their_text(kind: object) -> None:
    ids = [uuid.UUID(int=number) for number in (0, 2**128 - 1, 0x0123456789ABCDEF0123456789ABCDEF, 5)]
    column = pa.array([one.bytes for one in ids], type=kind)
    assert string_ids(column).to_pylist() == [str(one).encode() for one in ids]
    assert string_ids(column.slice(1, 2)).to_pylist() == [str(one).encode() for one in ids[1:3]]
    with pytest.raises(BadValue, match="fixed_size_binary"):
        int_ids(column)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.binary(2)], ids=str)
def test_other_text_types(kind: object) -> None:
    column = pa.array([b"77", b"12", b"10"]).cast(kind)
    assert string_ids(column.slice(1)).to_pylist() == [b"12", b"10"]
    if kind != pa.binary(2):
        assert int_ids(column.slice(1)).tolist() == [12, 10]
        assert times(column).tolist() == [77, 12, 10]


def test_a_slice_of_a_column_is_checked_alone() -> None:
    column = pa.array(["x", "1", "2", "y"], type=pa.large_binary())
    assert int_ids(column.slice(1, 2)).tolist() == [1, 2]
    with pytest.raises(BadValue) as caught:
        int_ids(column.slice(1, 3))
    assert caught.value.row == 2


@pytest.mark.parametrize(
    ("column", "row", "found"),
    [
        (pa.array([1, -1]), 1, -1),
        (pa.array([1, 2**63], type=pa.uint64()), 1, 2**63),
        (pa.array([1, None]), 1, None),
        (pa.array([1.0, 2.0]), None, "a column of type double"),
        (pa.array([True]), None, "a column of type bool"),
    ],
)
def test_integer_columns_that_are_refused(column: object, row: int | None, found: object) -> None:
    with pytest.raises(BadValue) as caught:
        int_ids(column)
    assert (caught.value.row, caught.value.found) == (row, found)


def test_string_ids_are_kept_as_they_stand() -> None:
    texts = ["NA", "null", "nan", "007", " a ", "a\0", "a", "é" * 128, "😀", '"', "1.0", "x" * 256]
    assert [item.decode() for item in string_ids(pa.array(texts)).to_pylist()] == texts
    assert string_ids(pa.array([7, 2**53 + 1])).to_pylist() == [b"7", b"9007199254740993"]


@pytest.mark.parametrize(
    "bad",
    [b"", b"x" * 257, "é".encode() * 129, b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"],
)
def test_string_ids_that_are_refused(bad: bytes) -> None:
    with pytest.raises(BadValue) as caught:
        string_ids(pa.array([b"a", b"b", b"c", bad, b""], type=pa.binary()))
    assert (caught.value.row, caught.value.found) == (3, bad)


def test_string_ids_need_text() -> None:
    with pytest.raises(BadValue, match="double") as caught:
        string_ids(pa.array([1.5]))
    assert caught.value.row is None
    with pytest.raises(BadValue) as caught:
        string_ids(pa.array(["a", None]))
    assert caught.value.row == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "x", "", "1e39", "1_0", "1e-46", "-1e-46"])
def test_weights_that_are_refused(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        weights(pa.array(["1", "0.5", text], type=pa.string()))
    assert caught.value.row == 2


def test_the_least_and_the_largest_numbers_of_32_bits_are_weights_as_they_are_told() -> None:
    """Java's Float.MIN_VALUE and Float.MAX_VALUE, the latter a sentinel, are told with the fewest digits."""
    told = weights(pa.array(["1.4E-45", "3.4028235E38"]))
    assert told.astype(np.float32).tolist() == [2.0**-149, float(np.finfo(np.float32).max)]
    for text in ("0.7e-45", "3.4028236E38"):
        with pytest.raises(BadValue):
            weights(pa.array([text]))


def test_weights() -> None:
    assert weights(pa.array(["1", "0", "2.5", "1e3"])).tolist() == [1, 0, 2.5, 1000]
    assert weights(pa.array([3, 4], type=pa.uint16())).tolist() == [3, 4]
    assert weights(pa.array([2**53 + 1, 2**64 - 1], type=pa.uint64())).tolist() == [2**53, 2**64]
    assert weights(pa.array([0.5, 2], type=pa.float16())).tolist() == [0.5, 2]
    assert weights(pa.array([Decimal("0.5")], type=pa.decimal32(3, 1))).tolist() == [0.5]
    with pytest.raises(BadValue) as caught:
        weights(pa.array([1.0, float("nan")]))
    assert caught.value.row == 1
    with pytest.raises(BadValue) as caught:
        weights(pa.array([True]))
    assert caught.value.row is None


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_labels_of_a_part_of_a_column(kind: pa.DataType) -> None:
    column = pa.array(["2", "TRUE", "0", "False", "1", "3", "1"]).cast(kind)
    assert labels(column.slice(1, 4)).tolist() == [True, False, False, True]
    with pytest.raises(BadValue) as caught:
        labels(column.slice(1))
    assert (caught.value.row, caught.value.found) == (4, 3)


def test_times() -> None:
    assert times(pa.array(["-5", "0", str(2**63 - 1)])).tolist() == [-5, 0, 2**63 - 1]
    assert times(pa.array([1.0, 2.0])).tolist() == [1, 2]
    assert times(pa.array([1_500, 2_999], type=pa.timestamp("ms"))).tolist() == [1, 2]
    assert times(pa.array([-1_500, -1_000], type=pa.timestamp("ms"))).tolist() == [-2, -1]
    assert times(pa.array([1], type=pa.timestamp("s", tz="Europe/Berlin"))).tolist() == [1]
    assert times(pa.array([2**53 + 1])).tolist() == [2**53 + 1]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_dates_are_unix_seconds(kind: object) -> None:
    days = [datetime.date(1970, 1, 2), datetime.date(1969, 12, 31), datetime.date(9999, 12, 31)]
    assert times(pa.array(days, type=kind)).tolist() == [86_400, -86_400, 253_402_214_400]


TIME_TEXTS = {
    "7": 7,
    "-7": -7,
    "1700000000.0": 1_700_000_000,
    "1.7e9": 1_700_000_000,
    "9007199254740993.0": 9_007_199_254_740_993,
    "1970-01-02": 86_400,
    "1970-01-01T00:01": 60,
    "1970-01-01 00:00:07": 7,
    "1970-01-01T00:00:07.999999999": 7,
    "1969-12-31T23:59:58.5": -2,
    "1970-01-01T00:00:07Z": 7,
    "1970-01-01T02:00:07.5+02:00": 7,
    "1970-01-01T02:00:07+0200": 7,
    "1970-01-01 00:00:07 UTC": 7,
    "1970-01-01 02:00:07.123 +0200": 7,
    "0001-01-01": -62_135_596_800,
}


@pytest.mark.parametrize("text", TIME_TEXTS)
def test_times_in_text(text: str) -> None:
    assert times(pa.array([text])).tolist() == [TIME_TEXTS[text]]


def test_each_row_of_a_text_column_of_times_has_its_own_form() -> None:
    assert times(pa.array(list(TIME_TEXTS)).dictionary_encode()).tolist() == list(TIME_TEXTS.values())


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "1.5", "1e30", "2026-13-01", "2026-02-30", "2026-01", "2026-01-01T25:00", "01/02/2026"]
)
def test_text_that_is_no_time_is_refused_at_its_row(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        times(pa.array(["1", "2026-01-01", text, "y"]))
    assert (caught.value.row, caught.value.found) == (2, text)


@pytest.mark.parametrize("text", ["0x1f", "0X1F", "+", "١"])
def test_whole_numbers_of_time_have_decimal_digits_whatever_stands_beside_them(text: str) -> None:
    for others in (["1", "2"], ["1", "2026-01-01"]):
        with pytest.raises(BadValue):
            times(pa.array([*others, text]))


@pytest.mark.parametrize("column", [pa.array(["1", "1.5"]), pa.array([1.0, 1.5]), pa.array([1, 2**63], pa.uint64())])
def test_times_that_are_refused(column: object) -> None:
    with pytest.raises(BadValue) as caught:
        times(column)
    assert caught.value.row == 1


def test_empty_columns() -> None:
    for kind in (pa.int64(), pa.string(), pa.null(), pa.float64(), pa.binary(16), pa.uuid(), pa.list_(pa.int8())):
        assert len(int_ids(pa.array([], type=kind))) == 0
        assert len(string_ids(pa.array([], type=kind))) == 0
        assert len(times(pa.array([], type=kind))) == len(weights(pa.array([], type=kind))) == 0
    assert int_ids(pa.array([], type=pa.int64())).dtype == np.int64


def test_a_null_among_the_values_of_a_dictionary_is_found() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([7, None]))
    with pytest.raises(BadValue) as caught:
        int_ids(column)
    assert caught.value.row == 1
