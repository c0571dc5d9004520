"""Work that begins at once: what waits for nothing, for its turn, or for more; in whose context, and as whose task."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from service import first_step
from service.deadline import by
from service.first_step import all_of, in_a_task, put_off
from service.turns import Turns

NUMBER: ContextVar[int] = ContextVar("NUMBER", default=0)


def begin(
    work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, turns: Turns | None = None
) -> "asyncio.Task[Any] | None":
    """Begin, and give the task that goes on, where there is one."""
    tasks: set[asyncio.Task[Any]] = set()
    first_step.begin(work, loop, turns or Turns(), tasks)
    return next(iter(tasks), None)


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


async def _out_of_tasks(*works: Coroutine[Any, Any, Any]) -> None:
    """Begin them as callbacks of the loop do, which are no tasks, with the same turns; wait until they are over."""
    loop, turns = asyncio.get_running_loop(), Turns()
    over = [loop.create_future() for _ in works]

    async def to_its_end(work: Coroutine[Any, Any, Any], ended: "asyncio.Future[Any]") -> None:
        ended.set_result(await work)

    for work, ended in zip(works, over, strict=True):
        loop.call_soon(begin, to_its_end(work, ended), loop, turns)
    await asyncio.gather(*over)


@pytest.mark.parametrize("timed", [False, True])
async def test_what_is_put_off_is_done_together_before_anybody_goes_on(timed: bool) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        token = NUMBER.set(len(name))
        seen.append(f"{name} begins")
        assert await put_off(lambda: seen.append(f"{name} searches") or name) == name
        seen.append(f"{name} goes on")
        assert asyncio.current_task() is None
        NUMBER.reset(token)  # raises ValueError in another context

    loop = asyncio.get_running_loop()
    await _out_of_tasks(*(by(loop.time() + 60, work(name)) if timed else work(name) for name in ("one", "three")))
    assert seen == [
        "one begins",
        "three begins",
        "one searches",
        "three searches",
        "one goes on",
        "three goes on",
    ]


async def test_what_was_put_off_raises_where_it_is_waited_for_and_hurts_nobody_else() -> None:
    seen: list[object] = []

    def fail() -> None:
        raise KeyError("its own")

    async def fails() -> None:
        try:
            await put_off(fail)
        except KeyError as error:
            seen.append(error.args)
        seen.append(await put_off(lambda: "again"))

    async def works() -> None:
        seen.append(await put_off(lambda: "done"))

    await _out_of_tasks(by(None, fails()), works())
    assert seen == [("its own",), "done", "again"]


async def test_a_task_puts_nothing_off() -> None:
    assert await put_off(lambda: 5) == 5


async def test_what_waits_after_what_it_has_put_off_goes_on_as_a_task() -> None:
    seen: list[object] = []

    async def work() -> None:
        await put_off(lambda: None)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    await _out_of_tasks(by(asyncio.get_running_loop().time() + 60, work()))
    assert seen[0] is None
    assert isinstance(seen[1], asyncio.Task)


async def test_of_several_works_those_that_wait_do_so_at_the_same_time_and_the_others_not_at_all() -> None:
    seen: list[object] = []
    let = asyncio.Event()

    async def at_once(name: str) -> str:
        seen.append(name)
        return name

    async def waits(name: str) -> str:
        seen.append(name)
        if name == "e":
            let.set()
        await let.wait()
        await asyncio.sleep(0)
        return name

    asyncio.get_running_loop().call_soon(seen.append, "somebody else")
    assert await all_of([at_once("a"), at_once("b")]) == ["a", "b"]
    assert seen == ["a", "b"]
    assert await all_of([waits("c"), at_once("d"), waits("e")]) == ["c", "d", "e"]
    assert seen == ["a", "b", "c", "d", "e", "somebody else"]


async def test_a_work_that_fails_is_told_and_so_is_the_end_of_who_waits_for_all() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("its own")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(KeyError):
        await all_of([fails()])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(all_of([waits(), waits()]), 0.05)
    assert ended == ["cancelled"] * 2
