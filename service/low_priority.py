"""Work of low priority gives way: what takes long for one request (a batch of 1,000 events, a user who has 10,000)
is done in small steps, each when no other request is in work, or when it has waited long enough for that.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How long a step waits at most, in milliseconds, where there are no more than FEW such requests; ten steps are a batch
# of 1,000 events. Of more of them each waits less: they would all come too late.
LONGEST_MS = 2
FEW = 4


class LowPriority:
    """Belongs to one event loop."""

    def __init__(self, in_work: Callable[[], int] = lambda: 0) -> None:
        """`in_work` counts the requests that have arrived and are not answered, these included."""
        self._in_work = in_work
        self._requests = 0
        # Of those who would take their steps by turns each takes all of its own, and the first is done sooner.
        self.turn = asyncio.Lock()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Have a request in work that is nothing but such work, or waits for it."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def give_way(self) -> None:
        """Let others go first, before the next step."""
        await asyncio.sleep(0)
        for _ in range(LONGEST_MS * FEW // max(FEW, self._requests)):
            if self._in_work() <= self._requests:
                return
            await asyncio.sleep(0.001)
