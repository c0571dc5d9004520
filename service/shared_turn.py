"""Work that anybody may ask for and that keeps the event loop for milliseconds: all who ask while it is being done
share the next turn, and turns have a rest in between, so that they take a part of the processor however many ask.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.shared_work import outliving

Result = TypeVar("Result")
# So many times as long as it took there is a rest.
RESTS = 3.0


class SharedTurn(Generic[Result]):
    """Does one piece of work for many. Belongs to one event loop."""

    def __init__(self) -> None:
        self._next: asyncio.Task[Result] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._rests_until = 0.0

    async def result(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """What `work` gives, begun after this was asked for and never earlier. Goes on though who asked gives up."""
        if self._next is None or self._next.done():
            self._next = outliving(asyncio.get_running_loop().create_task(self._take(work)))
        return await asyncio.shield(self._next)

    async def _take(self, work: Callable[[], Awaitable[Result]]) -> Result:
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            await asyncio.sleep(self._rests_until - loop.time())
            self._next, began = None, loop.time()  # who asks from now on shares the one after
            try:
                return await work()
            finally:
                ended = loop.time()
                self._rests_until = ended + RESTS * (ended - began)
