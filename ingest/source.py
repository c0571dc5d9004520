"""What every source of messages promises."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ingest.message import Message


@runtime_checkable
class Source(Protocol):
    """Messages in their order. Used by one thread."""

    @property
    def at_end(self) -> bool:
        """Whether no more will come."""
        ...

    @property
    def behind(self) -> int | None:
        """How many messages wait to be read; None where nobody knows."""
        ...

    def read(self, most: int, seconds: float) -> Sequence[Message]:
        """The next messages, as soon as there are `most`, else those that have come after `seconds`."""
        ...

    def done(self) -> None:
        """All messages that `read` gave before `mark` was last called are dealt with: never give them again."""
        ...

    def mark(self) -> None:
        """What `done` speaks of next: all that was read until now."""
        ...

    def hold(self, seconds: float) -> None:
        """Stay what this is to others, and read nothing, for `seconds`."""
        ...

    def close(self) -> None:
        """Let go of everything; what is done stays done."""
        ...
