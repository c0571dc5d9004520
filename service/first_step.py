"""Work that begins at once: most answers are made without waiting for anything but their turn, and need no task of the
event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from service.turns import Turns

Result = TypeVar("Result")
Task = asyncio.Task[Any]


class PutOff:
    """What work by hand waits for: something that is done with the like of others. See `put_off`."""

    __slots__ = ("_does", "_error", "_result")

    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does
        self._error: Exception | None = None

    def __await__(self) -> Generator["PutOff", None, None]:
        yield self

    def do(self) -> None:
        """Do it. Whatever it raises is told with the outcome."""
        try:
            self._result = self._does()
        except Exception as error:
            self._error = error

    def outcome(self) -> Any:
        """What it returned, or raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result


def begin(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, turns: Turns, tasks: set[Task]) -> None:
    """Run `work` until it first waits for something else than its turn; `tasks` has the task that goes on with it from
    there, until that is done.

    Till then it is nobody's task: what needs one (a timer, the framework) waits for `in_a_task` first. What `work`
    raises before it waits is raised here.
    """
    _go_on(work, copy_context(), loop, turns, tasks)


def _go_on(
    work: Coroutine[Any, Any, Any],
    context: Context,
    loop: asyncio.AbstractEventLoop,
    turns: Turns,
    tasks: set[Task],
) -> None:
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return
    if type(waits_for) is PutOff:
        turns.put_off(waits_for.do, partial(_go_on, work, context, loop, turns, tasks))
        return
    task = loop.create_task(_begun(work, waits_for), context=context)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def all_of(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of `works`, in order. What waits for nothing is done here and now, one after the other, without a
    task; all that wait do so at the same time. None puts anything off.
    """
    loop = asyncio.get_running_loop()
    done: list[Result | asyncio.Task[Result]] = []
    for work in works:
        try:
            waits_for = work.send(None)
        except StopIteration as ended:
            done.append(ended.value)
        else:
            done.append(loop.create_task(_begun(work, waits_for)))
    waiting = [one for one in done if isinstance(one, asyncio.Task)]
    if waiting:
        await asyncio.gather(*waiting)
    return [one.result() if isinstance(one, asyncio.Task) else one for one in done]


async def in_a_task() -> None:
    """Wait, where there is no current task, until there is one."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


async def put_off(does: Callable[[], Result]) -> Result:
    """What `does` returns or raises. By hand it is done later, together with that of others who wait for theirs: see
    `Turns.put_off`. In a task it is done at once.
    """
    if asyncio.current_task() is not None:
        return does()
    later = PutOff(does)
    await later
    result: Result = later.outcome()
    return result


def _begun(work: Coroutine[Any, Any, Result], waits_for: Any) -> Coroutine[Any, Any, Result]:
    """What a task goes on with `work` by: what befalls that, even before it begins, befalls the work."""
    going_on = _going_on(work, waits_for)
    going_on.send(None)
    return going_on


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
