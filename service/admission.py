"""Who is let in: as many requests at once as are answered soon. The others hear at once that there is no room.

How many that is depends on what they ask for, so it is not counted but measured: every answer says how long it was in
the making here. Is that too long, fewer are let in; is it short, more. What a request waits for others (Redis, a
client that sends slowly) is not waited here, and changes nothing.
"""

import time
from collections.abc import Callable

# Answers are to be made within this time, an eighth of the usual deadline.
TARGET_SECONDS = 0.25
# How often the limit follows what was seen.
PERIOD_SECONDS = 0.1
# So many are always let in: enough for the search thread and the event loop to have something to do.
FEWEST = 8
# An event loop that comes so late to its timers may have come as late to its sockets.
LATE_SECONDS = 0.01


class Admission:
    """Counts the requests between their arrival and their answer. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._seconds, self._answers = 0.0, 0
        self._until = 0.0
        self._elsewhere = 0.0
        self.lag = 0.0  # how late the event loop comes to what has arrived, in seconds
        self.behind = False  # whether some of what has arrived is left unread on purpose
        self.arrived = 0  # whole, let in, and not begun
        self.inflight = 0  # begun, and whole: one whose body is still arriving is neither

    def arrival(self, waited: Callable[[], float]) -> float:
        """When what is read now has arrived, by the monotonic clock. How long it has `waited` in its socket the system
        is asked only where there is company or delay, since that costs microseconds.
        """
        now = time.monotonic()
        late = self.behind or self.lag > LATE_SECONDS or self.in_work >= FEWEST
        return now - waited() if late else now

    @property
    def in_work(self) -> int:
        """How many are let in and not answered."""
        return self.arrived + self.inflight

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return self.in_work >= self._limit

    @property
    def idle(self) -> int:
        """How many more could begin before anybody would wait long."""
        return int(min(FEWEST, self._limit)) - self.in_work

    def waited_elsewhere(self, seconds: float) -> None:
        """Note that a request has waited so long for others."""
        self._elsewhere += seconds

    def answered(self, seconds: float) -> None:
        """Note that an answer was in the making for so long."""
        self._seconds += seconds
        self._answers += 1
        now = time.monotonic()
        if now < self._until:
            return
        mean = (self._seconds - self._elsewhere) / self._answers
        if mean > TARGET_SECONDS:
            self._limit = min(self._most, max(FEWEST, min(self._limit, self.in_work) * 0.8))
        elif mean < TARGET_SECONDS / 2:
            self._limit = min(self._most, self._limit * 1.05 + 1)
        self._seconds, self._elsewhere, self._answers, self._until = 0.0, 0.0, 0, now + PERIOD_SECONDS
