"""Requests begin for a short time in one turn of the event loop, in their order; it looks at its sockets in between."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import pytest

from service.turns import TURN_SECONDS, Turns

A_TURN = 4  # pieces of work that fill one


class Clock:
    """Stands still but for work."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def work(self, what: Callable[[], object]) -> Callable[[], None]:
        """`what`, which takes a part of a turn."""

        def done() -> None:
            what()
            self.time += TURN_SECONDS * 1.01 / A_TURN

        return done


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_comes_alone_begins_at_once(clock: Clock) -> None:
    turns, begun = Turns(clock), list[int]()
    for number in range(10 * A_TURN):
        assert turns.begin(clock.work(partial(begun.append, number)))
        assert begun == list(range(number + 1))
        await asyncio.sleep(0)


async def test_what_takes_no_time_begins_at_once_however_many(clock: Clock) -> None:
    turns, begun = Turns(clock), list[int]()
    for number in range(1000):
        assert turns.begin(partial(begun.append, number))
    assert begun == list(range(1000))


async def test_many_begin_in_order_a_few_a_turn(clock: Clock) -> None:
    turns, begun, seen = Turns(clock), list[int](), list[int]()
    now = [turns.begin(clock.work(partial(begun.append, number))) for number in range(40)]
    assert now == [True] * A_TURN + [False] * (40 - A_TURN)
    while len(begun) < 40:
        seen.append(len(begun))
        if len(begun) == 2 * A_TURN:
            turns.begin(clock.work(lambda: begun.append(40)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == list(range(41))
    assert max(after - before for before, after in zip(seen, seen[1:], strict=False)) <= A_TURN


async def test_what_arrives_is_read_before_all_that_waits_has_begun(clock: Clock) -> None:
    turns, order = Turns(clock), list[str]()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()

    def read() -> None:
        order.append(ours.recv(10).decode())

    loop.add_reader(ours, read)
    theirs.send(b"read")
    for _ in range(100):
        turns.begin(clock.work(partial(order.append, "begun")))
    for _ in range(200):
        await asyncio.sleep(0)
    loop.remove_reader(ours)
    assert len(order) == 101
    assert order.index("read") < 100 - 10 * A_TURN
    ours.close()
    theirs.close()


async def test_an_error_keeps_nobody_from_beginning(clock: Clock) -> None:
    def fail() -> None:
        raise KeyError("its own")

    raised = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    turns, begun = Turns(clock), list[int]()
    for number in range(3 * A_TURN):
        turns.begin(clock.work(fail if number == 2 * A_TURN else partial(begun.append, number)))
    for _ in range(3 * A_TURN):
        await asyncio.sleep(0)
    assert begun == [number for number in range(3 * A_TURN) if number != 2 * A_TURN]
    assert [type(one) for one in raised] == [KeyError]


async def test_an_error_that_fills_a_turn_keeps_nobody_from_beginning(clock: Clock) -> None:
    def fail() -> None:
        clock.time += TURN_SECONDS
        raise KeyError("its own")

    turns, begun = Turns(clock), list[int]()
    with pytest.raises(KeyError):
        turns.begin(fail)
    turns.begin(partial(begun.append, 1))
    await asyncio.sleep(0)
    assert begun == [1]


async def test_what_is_put_off_is_done_in_the_next_turn_for_as_long_as_one_takes(clock: Clock) -> None:
    turns, seen = Turns(clock), list[str]()

    def go_on(number: int) -> None:
        seen.append(f"{number} goes on")

    for number in range(2 * A_TURN):
        turns.put_off(clock.work(partial(seen.append, f"{number}")), partial(go_on, number))
    assert seen == []
    await asyncio.sleep(0)
    first = [str(number) for number in range(A_TURN)]
    assert seen == first + [f"{number} goes on" for number in first]
    await asyncio.sleep(0)
    assert len(seen) == 4 * A_TURN
    await asyncio.sleep(0)
    assert len(seen) == 4 * A_TURN


async def test_what_goes_on_with_an_error_keeps_nobody_from_going_on(clock: Clock) -> None:
    raised, seen = list[object](), list[int]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    turns = Turns(clock)

    def go_on(number: int) -> None:
        if number == 1:
            raise KeyError("its own")
        seen.append(number)

    for number in range(3):
        turns.put_off(lambda: None, partial(go_on, number))
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [0, 2]
    assert [type(one) for one in raised] == [KeyError]
