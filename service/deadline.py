"""Work within a deadline, without a timer where it waits for nothing: most answers are made in one turn of the loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.first_step import PutOff, in_a_task, rest

Result = TypeVar("Result")


async def by(deadline: float | None, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled at `deadline`, a time of the event loop. Raises TimeoutError.

    Nothing cancels what holds the loop: until `work` first waits, a timer would be made and cancelled for nothing.
    """
    try:
        waits_for = work.send(None)
        while type(waits_for) is PutOff:  # a turn later
            await waits_for
            waits_for = work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    try:
        await in_a_task()  # which the timer cancels
    except BaseException as error:
        return await rest(work, waits_for, error)
    async with asyncio.timeout_at(deadline):
        return await rest(work, waits_for)
