"""Work within a deadline, without a timer where it waits for nothing: most answers are made in one turn of the loop."""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def by(deadline: float | None, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled at `deadline`, a time of the event loop. Raises TimeoutError.

    Nothing cancels what holds the loop: until `work` first waits, a timer would be made and cancelled for nothing.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    async with asyncio.timeout_at(deadline):
        return await _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, Result], waits_for: Any) -> Generator[Any, Any, Result]:
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
