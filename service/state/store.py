"""What every store of live engagements promises."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from service.state.events import Event, Outcome


@runtime_checkable
class StateStore(Protocol):
    """Raw events by user. All methods raise StateError when the store cannot keep its promise."""

    async def events(self, user_type: str, user: str) -> Sequence[Event]:
        """Everything stored about one user, in no order."""
        ...

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Store `events`; returns only once every `stored` one is durable. An id counts once per user."""
        ...

    async def forget(self, user_type: str, user: str) -> int:
        """Remove everything stored about one user. Returns how many events that was."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of files and connections."""
        ...

    def describe(self) -> dict[str, str | bool]:
        """Kind and health, for /v1/info."""
        ...
