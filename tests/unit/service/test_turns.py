"""Few requests begin in one turn of the event loop, in their order; the loop looks at its sockets in between."""

import asyncio
import socket
from functools import partial

from service.turns import BEGUN_A_TURN, Turns


async def test_what_comes_alone_begins_at_once() -> None:
    turns, begun = Turns(), list[int]()
    for number in range(3):
        turns.begin(partial(begun.append, number))
        assert begun == list(range(number + 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_many_begin_in_order_a_few_a_turn() -> None:
    turns, begun, seen = Turns(), list[int](), list[int]()
    for number in range(20):
        turns.begin(partial(begun.append, number))
    while len(begun) < 20:
        seen.append(len(begun))
        if len(begun) == 10:
            turns.begin(lambda: begun.append(20))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == list(range(21))
    assert max(after - before for before, after in zip(seen, seen[1:], strict=False)) <= BEGUN_A_TURN


async def test_what_arrives_is_read_before_all_that_waits_has_begun() -> None:
    turns, order = Turns(), list[str]()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()

    def read() -> None:
        order.append(ours.recv(10).decode())

    loop.add_reader(ours, read)
    theirs.send(b"read")
    for _ in range(100):
        turns.begin(partial(order.append, "begun"))
    for _ in range(200):
        await asyncio.sleep(0)
    loop.remove_reader(ours)
    assert len(order) == 101
    assert order.index("read") < 100 - 10 * BEGUN_A_TURN
    ours.close()
    theirs.close()
