"""Work that many ask for at once: few turns, none of them begun before it was asked for."""

import asyncio
import time

import pytest

from service.shared_turn import RESTS, SharedTurn


async def test_who_asks_while_it_is_done_shares_the_next() -> None:
    turn, begun = SharedTurn[int](), 0

    async def work() -> int:
        nonlocal begun
        begun += 1
        number = begun
        await asyncio.sleep(0.02)
        return number

    first = asyncio.create_task(turn.result(work))
    await asyncio.sleep(0.01)
    assert begun == 1
    others = [asyncio.create_task(turn.result(work)) for _ in range(50)]
    assert await first == 1
    assert set(await asyncio.gather(*others)) == {2}
    assert await turn.result(work) == 3


async def test_turns_take_a_part_of_the_time() -> None:
    turn, spent = SharedTurn[None](), 0.0

    async def work() -> None:
        nonlocal spent
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        spent += time.perf_counter() - began

    began = time.perf_counter()
    for _ in range(10):
        await turn.result(work)
    assert spent < 1.2 * (time.perf_counter() - began) / (1 + RESTS) + 0.02


async def test_a_failure_is_of_those_who_asked_and_one_who_gives_up_ends_nothing() -> None:
    turn = SharedTurn[int]()

    async def fail() -> int:
        raise ValueError("broken")

    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    with pytest.raises(ValueError, match="broken"):
        await turn.result(fail)
    waiting = asyncio.create_task(turn.result(work))
    other = asyncio.create_task(turn.result(work))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await other == 7
