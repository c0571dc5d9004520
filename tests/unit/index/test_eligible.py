"""Packed bitmaps of rows: what is set comes back, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.search.eligible import check_bitmap, count_of, has, pack, rows_of

MASKS = st.lists(st.booleans(), min_size=1, max_size=200).map(lambda bits: np.array(bits, dtype=np.bool_))


@given(MASKS)
def test_a_mask_comes_back_as_its_rows(mask: np.ndarray) -> None:
    bitmap = pack(mask)
    assert check_bitmap(bitmap, len(mask)).tolist() == bitmap.tolist()
    assert rows_of(bitmap).tolist() == np.flatnonzero(mask).tolist()
    assert count_of(bitmap) == np.count_nonzero(mask)
    assert has(bitmap, np.arange(len(mask))).tolist() == mask.tolist()


@given(MASKS, st.integers(0, 25), st.integers(0, 200))
def test_a_stretch_of_rows_is_cut_at_both_ends(mask: np.ndarray, first: int, stop: int) -> None:
    first, stop = 8 * first, min(stop, len(mask))
    expected = [row for row in np.flatnonzero(mask).tolist() if first <= row < stop]
    assert rows_of(pack(mask), first, stop).tolist() == expected


def test_the_lowest_bit_of_the_first_byte_is_row_0() -> None:
    assert rows_of(np.array([0b0000_0001, 0b1000_0000], dtype=np.uint8)).tolist() == [0, 15]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_rows_of_any_width_are_looked_up(dtype: type) -> None:
    mask = np.arange(5000) % 3 == 0
    assert has(pack(mask), np.array([0, 1, 3, 4998], dtype=dtype)).tolist() == [True, False, True, True]
