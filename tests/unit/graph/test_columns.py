"""Columns become ids, weights and times exactly, or are refused at their first bad row."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.ids import MAX_INT_ID, parse_int_id
from graph.columns import BadValue, int_ids, string_ids, times, weights

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


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "x", "", "1e39", "1_0"])
def test_weights_that_are_refused(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        weights(pa.array(["1", "0.5", text], type=pa.string()))
    assert caught.value.row == 2


def test_weights() -> None:
    assert weights(pa.array(["1", "0", "2.5", "1e3"])).tolist() == [1, 0, 2.5, 1000]
    assert weights(pa.array([3, 4], type=pa.uint16())).tolist() == [3, 4]
    with pytest.raises(BadValue) as caught:
        weights(pa.array([1.0, float("nan")]))
    assert caught.value.row == 1
    with pytest.raises(BadValue) as caught:
        weights(pa.array([True]))
    assert caught.value.row is None


def test_times() -> None:
    assert times(pa.array(["-5", "0", str(2**63 - 1)])).tolist() == [-5, 0, 2**63 - 1]
    assert times(pa.array([1.0, 2.0])).tolist() == [1, 2]
    assert times(pa.array([1_500, 2_999], type=pa.timestamp("ms"))).tolist() == [1, 2]
    assert times(pa.array([2**53 + 1])).tolist() == [2**53 + 1]


@pytest.mark.parametrize("column", [pa.array(["1", "1.5"]), pa.array([1.0, 1.5]), pa.array([1, 2**63], pa.uint64())])
def test_times_that_are_refused(column: object) -> None:
    with pytest.raises(BadValue) as caught:
        times(column)
    assert caught.value.row == 1


def test_empty_columns() -> None:
    for kind in (pa.int64(), pa.string()):
        assert len(int_ids(pa.array([], type=kind))) == 0
        assert len(string_ids(pa.array([], type=kind))) == 0
    assert int_ids(pa.array([], type=pa.int64())).dtype == np.int64


def test_a_null_among_the_values_of_a_dictionary_is_found() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([7, None]))
    with pytest.raises(BadValue) as caught:
        int_ids(column)
    assert caught.value.row == 1
