"""How many requests begin in one turn of the event loop: few, so that it soon looks again at what has arrived."""

import asyncio
from collections import deque
from collections.abc import Callable

# An answer's worth of work or two. All that a busy loop has read in one turn, begun at once, would keep it from its
# sockets for as long as all those answers take: whoever asks meanwhile hears a quick no that late.
BEGUN_A_TURN = 2


class Turns:
    """Begins requests in the order in which they came. Belongs to one event loop."""

    def __init__(self) -> None:
        self._left = BEGUN_A_TURN
        self._waiting: deque[Callable[[], None]] = deque()

    def begin(self, work: Callable[[], None]) -> None:
        """Do `work` now, or in a later turn, after what waits already."""
        if self._left == BEGUN_A_TURN:
            asyncio.get_running_loop().call_soon(self._next)
        if self._left > 0:
            self._left -= 1
            work()
        else:
            self._waiting.append(work)

    def _next(self) -> None:
        self._left = BEGUN_A_TURN
        for _ in range(min(BEGUN_A_TURN, len(self._waiting))):
            self.begin(self._waiting.popleft())
