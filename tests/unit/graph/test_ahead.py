"""Work on several items at a time: in their order, errors in their turn, few of them in memory."""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator

import pytest

from bundle.cells import CORES
from graph.ahead import ahead, mapped


def counting(until: int, made: list[int]) -> Iterator[int]:
    for number in range(until):
        made.append(number)
        yield number


def test_items_stay_in_their_order_though_later_ones_are_ready_first() -> None:
    later = threading.Event()

    def slow_first(number: int) -> int:
        if number == 0 and CORES > 1:
            assert later.wait(30)
        later.set()
        return number * 2

    assert list(mapped(slow_first, range(20))) == list(range(0, 40, 2))
    assert list(mapped(slow_first, [])) == []
    assert list(ahead(range(5))) == [0, 1, 2, 3, 4]


def test_no_more_items_are_made_than_are_worked_on() -> None:
    made: list[int] = []
    results = mapped(str, counting(100, made))
    assert next(results) == "0"
    assert len(made) <= CORES + 3
    results.close()  # type: ignore[attr-defined]


def test_the_error_of_the_first_item_counts_whoever_meets_one_first() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 0
        raise ValueError("the third cannot be read")

    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda number: 1 // number, items()))
    with pytest.raises(ValueError, match="the third"):
        list(mapped(str, items()))


def test_of_several_items_that_fail_the_first_has_its_error_told() -> None:
    def refused(number: int) -> int:
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 0"):
        list(mapped(refused, range(20)))


def test_one_item_alone_is_made_and_worked_on_without_a_thread() -> None:
    """Of a small relation: thousands of these took most of their time for threads."""

    def threads(name: object) -> list[object]:
        return [name, threading.current_thread()]

    def one() -> Iterator[threading.Thread]:
        yield threading.current_thread()

    here = threading.current_thread()
    assert list(mapped(threads, one())) == [[here, here]]
    assert list(ahead(one())) == [here]


def test_an_error_behind_the_first_item_comes_after_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second cannot be read")

    for results in (ahead(items()), mapped(abs, items())):
        assert next(results) == 1
        with pytest.raises(ValueError, match="the second"):
            next(results)


class Batch:
    """Something that is known to be let go."""


@pytest.mark.parametrize(
    "use", [ahead, lambda items: mapped(id, items), lambda items: mapped(lambda item: item, ahead(items))]
)
def test_an_item_that_has_been_used_is_let_go(use: Callable[[Iterable[Batch]], Iterator[object]]) -> None:
    """The first two too, which are made before there is a thread."""
    made: list[weakref.ref[Batch]] = []

    def items() -> Iterator[Batch]:
        for _ in range(20):
            item = Batch()
            made.append(weakref.ref(item))
            yield item
            del item

    for number, _ in enumerate(use(items())):
        deadline = time.monotonic() + 10  # a thread may be about to let its last one go
        while alive := [before for before in range(number) if made[before]() is not None]:
            assert time.monotonic() < deadline, f"{alive} of those before {number}"
            time.sleep(0.001)
