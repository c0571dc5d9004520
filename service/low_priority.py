"""Work of low priority gives way: what takes long for one request (a batch of 1,000 events, a user who has 10,000)
is done in small steps, each when no other request is in work, or when it has waited long enough for that.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# How long a step waits at most, in milliseconds, where there are no more than FEW such requests; ten steps are a batch
# of 1,000 events. Of more of them each waits less: they would all come too late.
LONGEST_MS = 2
FEW = 4
# Of the request in work here, where it has several parts at once: how many of these are such work now.
_parts: ContextVar[list[int] | None] = ContextVar("parts", default=None)


class LowPriority:
    """Belongs to one event loop."""

    def __init__(self, in_work: Callable[[], int] = lambda: 0) -> None:
        """`in_work` counts the requests that have arrived and are not answered, these included."""
        self._in_work = in_work
        self._requests = 0
        # Of those who would take their steps by turns each takes all of its own, and the first is done sooner.
        self.turn = asyncio.Lock()

    @contextmanager
    def one_request(self) -> Iterator[None]:
        """What begins within, tasks too, is of one request: it counts once, however many parts of it are such work."""
        token = _parts.set([0])
        try:
            yield
        finally:
            _parts.reset(token)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Have a request in work that is nothing but such work, or waits for it."""
        parts = _parts.get() or [0]
        self._requests += not parts[0]
        parts[0] += 1
        try:
            yield
        finally:
            parts[0] -= 1
            self._requests -= not parts[0]

    async def give_way(self) -> None:
        """Let others go first, before the next step."""
        await asyncio.sleep(0)
        for _ in range(LONGEST_MS * FEW // max(FEW, self._requests)):
            if self._in_work() <= self._requests:
                return
            await asyncio.sleep(0.001)
