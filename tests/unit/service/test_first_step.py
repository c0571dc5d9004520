"""Work that begins at once: what waits for nothing, what waits, in whose context and as whose task it goes on."""

import asyncio
from contextvars import ContextVar

import pytest

from service.first_step import all_of, begin, in_a_task

NUMBER: ContextVar[int] = ContextVar("NUMBER", default=0)


async def test_work_that_waits_for_nothing_is_done_without_a_task() -> None:
    done: list[object] = []

    async def work() -> None:
        done.append(asyncio.current_task())

    async def asked() -> None:  # as a callback of the loop, which is no task
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.call_soon(lambda: ended.set_result(begin(work(), loop)))
        assert await ended is None

    await asked()
    assert done == [None]


async def test_work_that_waits_goes_on_as_a_task_in_its_own_context() -> None:
    seen: list[object] = []

    async def work() -> str:
        token = NUMBER.set(5)
        await in_a_task()
        seen.append(asyncio.current_task())
        assert NUMBER.get() == 5
        NUMBER.reset(token)  # raises ValueError in another context
        await asyncio.sleep(0)
        return "done"

    loop = asyncio.get_running_loop()
    begun: asyncio.Future[asyncio.Task[str] | None] = loop.create_future()
    loop.call_soon(lambda: begun.set_result(begin(work(), loop)))
    task = await begun
    assert task is not None
    assert await task == "done"
    assert seen == [task]
    assert NUMBER.get() == 0


async def test_a_timer_is_of_the_task_that_goes_on() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        async with asyncio.timeout(0.01):
            await asyncio.get_running_loop().create_future()

    task = begin(work(), asyncio.get_running_loop())
    assert task is not None
    with pytest.raises(TimeoutError):
        await task


async def test_what_is_raised_before_it_waits_is_raised_at_once() -> None:
    async def work() -> None:
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        begin(work(), asyncio.get_running_loop())


async def test_all_are_done_in_order_and_wait_together() -> None:
    met = asyncio.Barrier(6)

    async def work(number: int) -> int:
        if number % 3:
            await met.wait()  # ends only if all six wait at the same time
        return number

    async with asyncio.timeout(20):
        assert await all_of(work(number) for number in range(9)) == list(range(9))
    assert await all_of(work(number) for number in ()) == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_error_of_one_is_raised(at_once: bool) -> None:
    async def work(number: int) -> int:
        if number != 2 or not at_once:
            await asyncio.sleep(0)
        if number == 2:
            raise KeyError("its own")
        return number

    with pytest.raises(KeyError, match="its own"):
        await all_of(work(number) for number in range(4))
