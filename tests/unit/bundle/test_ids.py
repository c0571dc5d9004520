"""External ids: one spelling each, any size, either kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import BundleInvalid
from bundle.ids import ABSENT, MAX_INT_ID, int_ids, is_int_id, parse_int_id, string_ids

IDS = int_ids(np.array([0, 7, 2**53 + 1, MAX_INT_ID], dtype=np.int64))


@pytest.mark.parametrize(
    "text", ["007", "+7", "1_000", "1.0", "1e3", "-1", "", " 7", "7 ", "٧", "9" * 5000, str(2**63)]
)
def test_only_the_canonical_decimal_form_is_an_id(text: str) -> None:
    assert parse_int_id(text) is None
    assert not is_int_id(text)
    assert IDS.row(text) is None


def test_ids_beyond_the_exact_doubles_survive() -> None:
    assert IDS.externals(np.arange(4)) == ["0", "7", "9007199254740993", "9223372036854775807"]
    assert [IDS.row(text) for text in IDS.externals(np.arange(4))] == [0, 1, 2, 3]
    assert all(map(is_int_id, IDS.externals(np.arange(4))))
    assert IDS.row("9007199254740992") is None


def test_a_batch_answers_as_single_look_ups_do() -> None:
    wanted = ["7", "nobody", "0", "8", str(MAX_INT_ID), "007"]
    assert IDS.rows(wanted).tolist() == [1, ABSENT, 0, ABSENT, 3, ABSENT]


def test_an_empty_table_has_nobody() -> None:
    empty = int_ids(np.empty(0, dtype=np.int64))
    assert empty.row("0") is None
    assert empty.rows(["0", "1"]).tolist() == [ABSENT, ABSENT]


@pytest.mark.parametrize("values", [[1, 1], [2, 1], [-1, 0]])
def test_integer_ids_must_ascend_from_zero(values: list[int]) -> None:
    with pytest.raises(BundleInvalid, match="ascending"):
        int_ids(np.array(values, dtype=np.int64))


LEGAL_TEXT = st.text(min_size=1, max_size=60).filter(lambda text: _encodable(text))


def _encodable(text: str) -> bool:
    try:
        return 1 <= len(text.encode("utf-8")) <= 256
    except UnicodeEncodeError:
        return False


@given(st.lists(LEGAL_TEXT, unique=True, max_size=40), LEGAL_TEXT)
def test_any_text_is_found_at_its_row_and_no_other_text_is(externals: list[str], other: str) -> None:
    table = string_ids(externals)
    for row in range(len(table)):
        assert table.row(table.external(row)) == row
    assert sorted(table.externals(np.arange(len(table)))) == sorted(externals)
    assert (table.row(other) is None) == (other not in externals)


def test_a_lone_surrogate_is_nobody() -> None:
    assert string_ids(["a"]).row("\ud800") is None


@pytest.mark.parametrize("externals", [[""], ["x" * 257], ["é" * 129], ["a", "a"]])
def test_illegal_string_ids_are_refused(externals: list[str]) -> None:
    with pytest.raises(BundleInvalid):
        string_ids(externals)
