"""The most popular of very many: those alone are sorted, and the order is that of a sort of all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recommend.popular import _most_popular


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 45))
def test_the_most_popular_are_the_first_of_all_by_degree_and_row(degrees: list[int], most: int) -> None:
    all_degrees = np.array(degrees, dtype=np.int64)
    rows = np.array([row for row in range(len(degrees)) if (row * 7) % 3], dtype=np.int64)
    expected = sorted(rows.tolist(), key=lambda row: (-degrees[row], row))
    assert _most_popular(rows, all_degrees, most).tolist()[:most] == expected[:most]
