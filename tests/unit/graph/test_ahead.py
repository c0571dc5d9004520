"""Two cores for preparing: items in order, errors in their turn; edges sort alike with numbers that fit and not."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from graph.ahead import ahead
from graph.dedupe import sorted_edges


def test_items_come_in_order_and_are_made_on_another_thread() -> None:
    makers = set()

    def made() -> Iterator[int]:
        for number in range(50):
            makers.add(threading.get_ident())
            yield number

    assert list(ahead(made())) == list(range(50))
    assert threading.get_ident() not in makers


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    items = ahead(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(items)


@pytest.mark.parametrize("relations", [1, 3])
@pytest.mark.parametrize("largest", [50, 2**63])
def test_equal_edges_stand_together_as_they_came(relations: int, largest: int) -> None:
    """Keys of 63 bits leave no room for a place beside them and are sorted otherwise."""
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 40, 2_000).astype(np.uint64) * np.uint64(largest // 50)
    relation = rng.integers(0, relations, 2_000).astype(np.int32)
    order, new = sorted_edges(keys, relation, relations)
    groups: dict[tuple[int, int], list[int]] = {}
    for place, edge in enumerate(zip(keys.tolist(), relation.tolist(), strict=True)):
        groups.setdefault(edge, []).append(place)
    found = [part.tolist() for part in np.split(order, np.flatnonzero(new)[1:])]
    assert sorted(found) == sorted(groups.values())


def test_no_edges_are_sorted_too() -> None:
    order, new = sorted_edges(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int32), 1)
    assert len(order) == len(new) == 0
