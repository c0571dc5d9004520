"""Work that begins at once: what waits for nothing, what waits, in whose context and as whose task it goes on."""

import asyncio
from contextvars import ContextVar

import pytest

from service.deadline import by
from service.first_step import begin, in_a_task

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


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("turns", [0, 1])
async def test_what_is_cancelled_even_before_its_task_begins_puts_its_things_away(turns: int, timed: bool) -> None:
    seen: list[object] = []
    loop = asyncio.get_running_loop()
    waited_for = loop.create_future()

    async def work() -> None:
        try:
            await waited_for
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("put away")

    begun: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()

    def begin_it() -> None:  # as a callback of the loop, which is no task
        task = begin(by(loop.time() + 60, work()) if timed else work(), loop)
        begun.set_result(task)
        assert task is not None
        if turns == 0:
            task.cancel()

    loop.call_soon(begin_it)
    task = await begun
    assert task is not None
    if turns:
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [asyncio.CancelledError, "put away"]
    assert waited_for.cancelled()
