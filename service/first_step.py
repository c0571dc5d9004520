"""Work that begins at once: most answers are made without waiting for anything, and need no task of the event loop."""

import asyncio
from collections.abc import Coroutine, Generator, Iterable
from contextvars import copy_context
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def begin(work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> "asyncio.Task[Result] | None":
    """Run `work` until it first waits. Returns the task that goes on with it; None where it is done already.

    Till then it is nobody's task: what needs one (a timer, the framework) waits for `in_a_task` first. What `work`
    raises before it waits is raised here.
    """
    context = copy_context()
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return None
    return loop.create_task(_going_on(work, waits_for), context=context)


async def in_a_task() -> None:
    """Wait, where there is no current task, until there is one."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


async def all_of(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of `works`, in their order. They wait at the same time; till then none is a task of its own."""
    results: list[Result] = []
    tasks: dict[int, asyncio.Task[Result]] = {}
    try:
        for position, work in enumerate(works):
            try:
                waits_for = work.send(None)
            except StopIteration as done:
                results.append(done.value)
            else:
                tasks[position] = asyncio.create_task(_going_on(work, waits_for))
    except BaseException:
        for task in tasks.values():
            task.cancel()
        raise
    for position, late in zip(tasks, await asyncio.gather(*tasks.values()) if tasks else (), strict=True):
        results.insert(position, late)
    return results


async def _going_on(work: Coroutine[Any, Any, Result], waits_for: Any) -> Result:
    return await rest(work, waits_for)


@coroutine
def rest(work: Coroutine[Any, Any, Result], waits_for: Any) -> Generator[Any, Any, Result]:
    """What is left of `work`, which has begun and waits: as `yield from` goes on with a generator (PEP 380)."""
    while True:
        try:
            try:
                told = yield waits_for
            except BaseException as error:  # a cancellation above all
                waits_for = work.throw(error)
            else:
                waits_for = work.send(told)
        except StopIteration as done:
            result: Result = done.value
            return result
