"""Backpressure: a connection that was refused is not read for a while, where refusing takes more than its share of the
CPU time. What it sends next waits in its socket, at no cost here, and in the end its sender waits too.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from service.admission import Admission
from service.metrics import Metrics

# Of the CPU time of the process.
SHARE = 1 / 32
# For so much CPU time a share that was not used is kept, for refusals that come all at once.
KEPT_SECONDS = 0.1
# Half a second more than a refusal asks to wait (Retry-After), less than the usual deadline: so everybody is heard, and
# a client's end is noticed.
LONGEST_SECONDS = 1.5
# How often it is looked whether hardly anything is in work: answers that are due take longer than this.
LOOK_SECONDS = 0.01
# How often those are read again whose time is over. Of many at once each finds in the processor's caches what the one
# before needed; refused singly, among searches, they would take more, and the searches too.
TOGETHER_SECONDS = 0.05
# For how long the CPU time of the process is taken as known: to ask the system takes some too, the more threads there
# are, and refusals come many at once.
KNOWN_SECONDS = 0.001
# What is seen of a refusal here, from reading to writing, is half of it: the rest is the system's, and the loop's.
UNSEEN = 2.5
# One that took longer was interrupted.
LONGEST_REFUSAL_SECONDS = 0.0002
# One in so many is told to the metrics.
SAMPLED = 16


class Allowance:
    """The CPU time that refusals may take."""

    def __init__(self) -> None:
        self._paid = -math.inf

    def spend(self, used: float, seconds: float) -> float:
        """Note a refusal that took so many `seconds`, when the process had `used` so many. Returns at how many the
        share has made up for it and for those before it: no more than `used` where there was some left.
        """
        paid = max(self._paid, used - KEPT_SECONDS) + seconds / SHARE
        self._paid = min(paid, used + LONGEST_SECONDS)
        return self._paid


@runtime_checkable
class Connection(Protocol):
    """What is held back."""

    def read_again(self) -> None:
        """Read what comes from now on, and what has come."""


class HeldBack:
    """The connections that are not read for a while. Belongs to one event loop.

    `searches_full` tells whether there is no room for another search, whatever else there is room for.
    """

    def __init__(
        self, admission: Admission, metrics: Metrics, draining: Callable[[], bool], searches_full: Callable[[], bool]
    ) -> None:
        self._admission = admission
        self._metrics = metrics
        self._draining = draining
        self._searches_full = searches_full
        self._allowance = Allowance()
        # Each with the CPU time and the time at which it is read again, in the order of both.
        self._until: dict[Connection, tuple[float, float]] = {}
        self._number = 0
        self._used, self._known_until = 0.0, -math.inf
        self._next_together = -math.inf

    def refused(self, connection: Connection, began: float, number: int = 1) -> bool:
        """Note that what was read from `connection` when it `began`, by the monotonic clock, is refused now: so many
        requests. Whether it is held back: not read until it is told to `read_again`.
        """
        now = time.monotonic()
        if self._number % SAMPLED == 0:
            self._metrics.refused_in.observe(now - began)
        self._number += 1
        return self.spent(connection, min(now - began, number * LONGEST_REFUSAL_SECONDS))

    def spent(self, connection: Connection, seconds: float) -> bool:
        """Note that it took so many `seconds`, without what is not seen here, to refuse what `connection` asked for.
        Whether it is held back.
        """
        now = time.monotonic()
        used = self._cpu_seconds(now)
        paid = self._allowance.spend(used, UNSEEN * seconds)
        if paid <= used or self._draining():
            return False
        self._until[connection] = paid, now + LONGEST_SECONDS
        self._metrics.held_back.inc()
        if not self._admission.behind:
            self._admission.behind = True
            self._look_later()
        return True

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._until.pop(connection, None)

    def _cpu_seconds(self, now: float) -> float:
        """Of the process so far, or KNOWN_SECONDS ago at most."""
        if now >= self._known_until:
            self._used, self._known_until = time.process_time(), now + KNOWN_SECONDS
        return self._used

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Have those read again whose time is over, and the first of the others where hardly anything is in work."""
        now = time.monotonic()
        used = self._cpu_seconds(now)
        together = now >= self._next_together
        if together:
            self._next_together = now + TOGETHER_SECONDS
        idle = 0 if self._searches_full() else self._admission.idle
        held_any = bool(self._until)  # what those sent who are let go now is read before the next look
        while self._until:
            connection, (paid, latest) = next(iter(self._until.items()))
            over = together and (used >= paid or now >= latest)
            if not (over or idle > 0 or self._draining()):
                break
            del self._until[connection]
            connection.read_again()
            idle -= 1
        self._metrics.held_back_now.set(len(self._until))
        self._admission.behind = held_any
        if held_any:
            self._look_later()
