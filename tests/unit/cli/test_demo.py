"""Whom the demo names as its example."""

import numpy as np

from cli.demo import usual


def test_the_example_is_neither_a_star_nor_a_loner() -> None:
    assert usual(np.array([0, 500, 3, 1, 0, 9, 2], dtype=np.int64)) == 2
