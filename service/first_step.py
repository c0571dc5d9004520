"""Work that begins at once: most answers are made without waiting for anything, and need no task of the event loop."""

import asyncio
from collections.abc import Coroutine, Generator
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
    going_on = _going_on(work, waits_for)
    going_on.send(None)  # so that what befalls its task, even before that begins, befalls the work
    return loop.create_task(going_on, context=context)


async def in_a_task() -> None:
    """Wait, where there is no current task, until there is one."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


async def _going_on(work: Coroutine[Any, Any, Result], waits_for: Any) -> Result:
    try:
        await asyncio.sleep(0)
    except BaseException as error:
        return await rest(work, waits_for, error)
    return await rest(work, waits_for)


@coroutine
def rest(
    work: Coroutine[Any, Any, Result], waits_for: Any, error: BaseException | None = None
) -> Generator[Any, Any, Result]:
    """What is left of `work`, which has begun and waits: as `yield from` goes on with a generator (PEP 380).

    An `error` that came meanwhile is raised where it waits.
    """
    try:
        if error is not None:
            if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(waits_for):
                waits_for.cancel()  # as a task that is cancelled does
            waits_for = work.throw(error)
        while True:
            try:
                told = yield waits_for
            except BaseException as raised:  # a cancellation above all
                waits_for = work.throw(raised)
            else:
                waits_for = work.send(told)
    except StopIteration as done:
        result: Result = done.value
        return result
