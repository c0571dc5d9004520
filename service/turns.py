"""How long requests are begun in one turn of the event loop: shortly, so that it soon looks at what has arrived. And
what they do in its next one, alike one after the other.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

# A few answers' worth of work. All that a busy loop has read in one turn, begun at once, would keep it from its
# sockets for as long as all those answers take: whoever asks meanwhile hears a quick no that late.
TURN_SECONDS = 0.001


class Turns:
    """Begins requests in the order in which they came. Belongs to one event loop."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        # Since the loop is known to have looked at its sockets: asking it at every turn would cost one more turn.
        self._spent = 0.0
        self._waiting: deque[Callable[[], None]] = deque()
        self._put_off: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()
        self._catching_up = False

    def begin(self, work: Callable[[], None]) -> bool:
        """Do `work` now, or in a later turn, after what waits already. Whether it was done."""
        if self._spent >= TURN_SECONDS:
            self._waiting.append(work)
            return False
        try:
            self._do(work)
        finally:
            if self._spent >= TURN_SECONDS:
                asyncio.get_running_loop().call_soon(self._next)
        return True

    def put_off(self, does: Callable[[], None], go_on: Callable[[], None]) -> None:
        """Do what `does`, which raises nothing, in the next turn, and then `go_on`.

        A search leaves the processor's caches to vectors: the interpreter finds little of its code and objects there.
        So all that this turn reads comes as far as its search first, then all is searched, then all is answered.
        """
        self._put_off.append((does, go_on))
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        if self._put_off and not self._catching_up:
            self._catching_up = True
            asyncio.get_running_loop().call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = False
        done: deque[Callable[[], None]] = deque()
        began = self._now()
        while self._put_off and (not done or self._now() - began < TURN_SECONDS):
            does, go_on = self._put_off.popleft()
            does()
            done.append(go_on)
        self._catch_up_soon()
        self._go_on(done)

    def _go_on(self, done: deque[Callable[[], None]]) -> None:
        try:
            while done:
                done.popleft()()
        finally:
            if done:  # what one raises keeps the others from nothing
                asyncio.get_running_loop().call_soon(self._go_on, done)

    def _do(self, work: Callable[[], None]) -> None:
        began = self._now()
        try:
            work()
        finally:
            self._spent += self._now() - began

    def _next(self) -> None:
        self._spent = 0.0
        try:
            while self._waiting and self._spent < TURN_SECONDS:
                self._do(self._waiting.popleft())
        finally:
            if self._waiting or self._spent >= TURN_SECONDS:
                self._spent = TURN_SECONDS
                asyncio.get_running_loop().call_soon(self._next)
