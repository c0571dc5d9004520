"""The tests' own checks of signatures find what is wrong, in every test anew."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from bundle.csr import csr_from_pairs
from bundle.ids import string_ids
from recommend.types import in_sorted
from tests.support.shapes import FIRST, THEN_EACH

ROWS = np.arange(5, dtype=np.int32)


@pytest.mark.parametrize("time", ["in one test", "in another"])
def test_the_first_calls_with_arrays_are_all_checked(time: str) -> None:
    for _ in range(FIRST):
        with pytest.raises(TypeCheckError, match=r"parameters of bundle\.csr\.csr_from_pairs"):
            csr_from_pairs(ROWS, ROWS[:3], 5)


def test_of_the_others_one_in_so_many_is_checked() -> None:
    for _ in range(FIRST):
        in_sorted(ROWS, ROWS)
    refused = 0
    for _ in range(10 * THEN_EACH):
        try:
            in_sorted(ROWS.astype(np.float64), ROWS)
        except TypeCheckError:
            refused += 1
    assert refused == 10


def test_what_takes_no_array_is_checked_on_every_call() -> None:
    for _ in range(2 * FIRST):
        with pytest.raises(BeartypeCallHintViolation, match="string_ids"):
            string_ids(3)  # type: ignore[arg-type]
