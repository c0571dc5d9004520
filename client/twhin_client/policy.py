"""When a call is tried again, when a second request is sent beside a slow one, and when all of it is over.

No clock and no network: `now` is given. Only a 503 is tried again, after `Retry-After`, and what was cut off on the way
where the operation may be sent twice: see docs/api.md, "Errors".
"""

import random
from collections import deque
from threading import Lock
from typing import Literal

from twhin_client.errors import TwhinError, Unavailable, Unreachable
from twhin_client.operation import Operation
from twhin_client.problems import DeadlineExceeded

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0
# Of the requests, how many may be second ones beside a slow first one.
HEDGED_SHARE = 0.1
KEPT_TIMES, ENOUGH_TIMES = 256, 50
Hedge = float | Literal["p95"] | None


def over(seconds: float) -> DeadlineExceeded:
    """The error of a call that took longer than it may."""
    return DeadlineExceeded(f"no answer within {seconds:g} s")


class Attempts:
    """The tries of one call, which has `seconds` from `now` on and may be tried again `retries` times."""

    def __init__(self, operation: Operation, seconds: float, retries: int, now: float) -> None:
        self._operation = operation
        self.seconds = seconds
        self._left = retries
        self._wait = FIRST_WAIT_S
        self.deadline = now + seconds

    def remaining(self, now: float) -> float:
        """The seconds left. Raises DeadlineExceeded when there are none."""
        left = self.deadline - now
        if left <= 0.0:
            raise over(self.seconds)
        return left

    def pause(self, error: TwhinError, now: float) -> float:
        """How long to wait before the next try: full jitter, on top of `Retry-After` where the service names one.

        Raises `error` when it is final: of another kind, the last one, or with a wait beyond the deadline.
        """
        again = isinstance(error, Unavailable) or (
            isinstance(error, Unreachable) and (self._operation.repeats or not error.sent)
        )
        if not again or self._left <= 0:
            raise error
        self._left -= 1
        after = (error.retry_after or 0.0) if isinstance(error, Unavailable) else 0.0
        pause = after + random.uniform(0.0, self._wait)
        self._wait = min(2.0 * self._wait, LONGEST_WAIT_S)
        if now + pause >= self.deadline:
            raise error
        return pause


class Hedging:
    """When to send a second request beside a first: after a fixed time, or after the p95 of this client's own."""

    def __init__(self, after: Hedge) -> None:
        self._after = after
        self._times: dict[str, deque[float]] = {}
        self._p95: dict[str, float] = {}
        self._allowed = 1.0
        self._lock = Lock()

    def delay(self, operation: Operation) -> float | None:
        """Seconds after which to send a second request; None for never. Counts the request."""
        if self._after is None or not operation.asks:
            return None
        with self._lock:
            self._allowed = min(10.0, self._allowed + HEDGED_SHARE)
        return self._p95.get(operation.name) if self._after == "p95" else self._after

    def take(self) -> bool:
        """Whether a second request may be sent now: a service that is slow for all must not get twice as many."""
        with self._lock:
            if self._allowed < 1.0:
                return False
            self._allowed -= 1.0
            return True

    def answered(self, operation: Operation, seconds: float) -> None:
        """Remember how long an answer took."""
        if self._after != "p95" or not operation.asks:
            return
        with self._lock:
            times = self._times.setdefault(operation.name, deque(maxlen=KEPT_TIMES))
            times.append(seconds)
            if len(times) >= ENOUGH_TIMES:
                self._p95[operation.name] = sorted(times)[int(0.95 * len(times))]
