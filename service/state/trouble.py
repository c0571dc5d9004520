"""What is wrong with a store: in the log when it begins, has a new reason or ends, and for whoever asks /readyz."""

import logging
import time

log = logging.getLogger("twhin.state")
# How long trouble with some users is told after it was last met: others are asked with success all the time.
SOME_USERS_SECONDS = 60.0


class Trouble:
    """By operation ("read", "write"): a store may still do one of them. Without any, `reason` is None."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._lasts_until: dict[str, float] = {}
        # Reasons that come by turns (refused, late) are each logged once, not at each try.
        self._logged: dict[str, set[str]] = {}

    @property
    def reason(self) -> str | None:
        """Why the store does not do all that it should, in our words: no address, no id, no secret."""
        return next(iter([*self._reasons.values()]), None)  # a copy: another thread may add one meanwhile

    def has(self, operation: str) -> bool:
        """Whether the `operation` failed when it was last tried."""
        return operation in self._reasons

    def begin(self, operation: str, reason: str, words: str | None = None, *, lasts: float = 0.0) -> None:
        """The `operation` failed for `reason`; `words` are the store's own, for the log.

        It `lasts` at least so many seconds, although the operation may succeed for others.
        """
        self._lasts_until[operation] = time.monotonic() + lasts
        self._reasons[operation] = reason
        logged = self._logged.setdefault(operation, set())
        if reason not in logged:
            logged.add(reason)
            log.error("engagements: %s fails: %s", operation, reason, extra={"reason": words or reason})

    def end(self, operation: str) -> None:
        """The `operation` succeeded."""
        if operation in self._reasons and time.monotonic() >= self._lasts_until[operation]:
            del self._reasons[operation]
            self._logged.pop(operation, None)
            log.info("engagements: %s works again", operation)
