"""Batches of events on their way into the service, which may be away, slow or restarted meanwhile."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from bundle.errors import IngestError
from twhin_client import (
    AnswerUnreadable,
    Client,
    RequestRefused,
    ServiceFailed,
    TwhinError,
    Unreachable,
)
from twhin_client.types import EngagementEvent

REQUEST_SECONDS = 10.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 15.0
SAID_AFTER_SECONDS = 2.0
Answer = TypeVar("Answer")
# The statuses of a request by which its events are to blame: no JSON, too large, not as the API has it.
OF_THE_EVENTS = (400, 413, 422)
# The status of an event that counts: the store has it, now or from before.
STORED, DUPLICATE = "stored", "duplicate"


class Stopped(Exception):
    """It was asked to end before the batch was acknowledged: what was not comes again."""


class Sender:
    """Sends a batch until the service has answered it, and tells of each event what became of it."""

    def __init__(self, client: Client, patience: float, say: Callable[[str], None]) -> None:
        """`patience`: seconds for which a service that does not answer, or says 503, is waited for."""
        self._client = client
        self._patience = patience
        self._say = say
        self.stopping = threading.Event()

    def batch_max(self) -> int:
        """How many events the service takes at once. Raises IngestError, Stopped."""
        try:
            info = self._patiently(lambda: self._client.info(timeout=REQUEST_SECONDS))
        except RequestRefused as error:
            raise _refusal(error) from None
        try:
            return int(info["limits"]["engagements_max"])
        except (KeyError, TypeError, ValueError):
            raise IngestError("What answers there is no twhin service. Correct --to.") from None

    def send(self, events: Sequence[EngagementEvent]) -> list[str]:
        """Of each event `stored`, `duplicate`, or the code of why it is not. Raises IngestError, Stopped.

        A batch that is refused as a whole is sent in halves, so that one event that cannot pass holds up no other.
        """
        if not events:
            return []
        try:
            answer = self._patiently(lambda: self._client.engagements(events, timeout=REQUEST_SECONDS))
        except RequestRefused as error:
            if error.status not in OF_THE_EVENTS:
                raise _refusal(error) from None
            if len(events) == 1:
                return [error.code]
            half = len(events) // 2
            return [*self.send(events[:half]), *self.send(events[half:])]
        return [item.status if item.error is None else item.error.code for item in answer.results]

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        wait, began, said = FIRST_WAIT_SECONDS, time.monotonic(), False
        while True:
            try:
                answer = ask()
                if said:
                    self._say("The service answers again.")
                return answer
            except AnswerUnreadable as error:
                raise _refusal(error) from None
            except (ServiceFailed, Unreachable) as error:
                if self.stopping.is_set():
                    raise Stopped from None
                waited = time.monotonic() - began
                if waited > self._patience:
                    raise IngestError(
                        f"The service has not taken engagements for {waited:.0f} s: {_words(error)}. "
                        "Run it again later, it goes on where it is now; --patience waits longer."
                    ) from None
                if waited > SAID_AFTER_SECONDS and not said:
                    said = True
                    self._say(f"The service does not take engagements: {_words(error)}. It is tried again.")
                after = (error.retry_after or 0.0) if isinstance(error, ServiceFailed) else 0.0
                self.stopping.wait(after + random.uniform(0.0, wait))
                wait = min(2.0 * wait, LONGEST_WAIT_SECONDS)


def _refusal(error: TwhinError) -> IngestError:
    return IngestError(f"The service does not take engagements: {error}. Correct --to or --key-file.")


def _words(error: TwhinError) -> str:
    return error.code if isinstance(error, ServiceFailed) else "nobody answers"
