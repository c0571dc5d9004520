"""The work itself: read, send, set aside, and only then let the source forget.

One batch is under way while the next one is made.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from bundle.errors import IngestError
from bundle.progress import Stage
from ingest.dead_letters import DeadLetters
from ingest.message import Message, Reader, Refused
from ingest.sender import DUPLICATE, STORED, Sender, Stopped
from ingest.source import Source
from twhin_client.types import EngagementEvent

LINGER_SECONDS = 0.1
# A source that is not read for so long has to say that it lives.
HELD_AFTER_SECONDS, HOLD_SECONDS = 5.0, 0.5
# Of messages that are set aside, so many are told one by one.
TOLD_MAX = 20


@dataclass
class Counts:
    """What became of the messages that were dealt with; `set_aside` by code."""

    stored: int = 0
    duplicates: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)


@dataclass
class _Batch:
    """Messages that are sent together: those that are events, and those that are none."""

    messages: list[Message] = field(default_factory=list)
    events: list[EngagementEvent] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.events) + len(self.refused)

    def add(self, messages: Sequence[Message], reader: Reader) -> None:
        for message in messages:
            event = reader.event(message)
            if isinstance(event, Refused):
                self.refused.append(event)
            else:
                self.messages.append(message)
                self.events.append(event)


class Ingest:
    """Moves messages from a source into the service. One request is under way at a time, so that what one user did
    arrives in its order; several processes of one group share the partitions of a topic.
    """

    def __init__(
        self,
        source: Source,
        reader: Reader,
        sender: Sender,
        letters: DeadLetters,
        batch: int,
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._reader = reader
        self._sender = sender
        self._letters = letters
        self._batch = batch
        self._say = say
        self.counts = Counts()

    def run(self, stage: Stage) -> Counts:
        """Until the source has ended or `sender.stopping` is set. Raises IngestError; what is dealt with stays so."""
        stopping = self._sender.stopping
        batch = _Batch()
        under_way: tuple[_Batch, Future[list[str]]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="twhin-ingest") as pool:
            try:
                while not stopping.is_set() and (batch or under_way or not self._source.at_end):
                    if len(batch) < self._batch and not self._source.at_end:
                        batch.add(self._source.read(self._batch - len(batch), LINGER_SECONDS), self._reader)
                    elif under_way:
                        self._wait_for(under_way[1])
                    if under_way and under_way[1].done():
                        self._settle(*under_way, stage)
                        under_way = None
                    if batch and not under_way:
                        self._source.mark()
                        under_way = batch, pool.submit(self._sender.send, batch.events)
                        batch = _Batch()
                if under_way:
                    self._wait_for(under_way[1])
                    self._settle(*under_way, stage)
            except Stopped:
                pass
            finally:
                stopping.set()  # where an error ends this, nobody waits for what is under way
        return self.counts

    def _wait_for(self, under_way: "Future[list[str]]") -> None:
        wait((under_way,), HELD_AFTER_SECONDS)
        while not under_way.done():
            self._source.hold(HOLD_SECONDS)

    def _settle(self, batch: _Batch, under_way: "Future[list[str]]", stage: Stage) -> None:
        """Count what became of a batch, set aside what was refused, and have the source forget it, in this order."""
        outcomes = under_way.result()
        refused = batch.refused
        if len(outcomes) != len(batch.events):
            raise IngestError("The service did not tell of each event what became of it. Is --to a twhin service?")
        for message, outcome in zip(batch.messages, outcomes, strict=True):
            if outcome == STORED:
                self.counts.stored += 1
            elif outcome == DUPLICATE:
                self.counts.duplicates += 1
            else:
                refused.append(Refused(message, outcome))
        if refused:
            self._set_aside(refused)
        self._source.done()
        stage.advance(len(batch))
        self._note(stage)

    def _set_aside(self, refused: Sequence[Refused]) -> None:
        self._letters.put(refused)
        told = self.counts.set_aside.total()
        for message, code in refused[: max(0, TOLD_MAX - told)]:
            self._say(f"{message.place}: {code}, set aside")
        if told < TOLD_MAX <= told + len(refused):
            self._say("More are set aside without a line each.")
        self.counts.set_aside.update(code for _, code in refused)

    def _note(self, stage: Stage) -> None:
        words = [f"{self.counts.duplicates:,} known already"] if self.counts.duplicates else []
        if self.counts.set_aside:
            words.append(f"{self.counts.set_aside.total():,} set aside")
        if behind := self._source.behind:
            words.append(f"{behind:,} behind")
        stage.note(", ".join(words))
