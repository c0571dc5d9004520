"""What every store of live engagements promises."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from recommend.types import LiveEdges
from service.state.events import Event, Followers, Outcome
from service.state.feedback import Count, Seen


@runtime_checkable
class StateStore(Protocol):
    """Events by user. All methods raise StateError when the store cannot keep its promise, and Problem 503 when more
    waits already than it takes on.
    """

    # Whether reads are look-ups in a file of this machine, and wait for nothing: all but those of much that is new.
    local: ClassVar[bool]

    @property
    def ended(self) -> list[str]:
        """What works in its background and does no more: nothing, while all is well."""
        ...

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        """What the stored events of one user add up to: see `events.live_edges`."""
        ...

    async def followers_of(self, user_type: str, user: str, relation: str) -> Followers:
        """Who has come to have an edge of `relation` to the user, and who has ended to: the latest of each counts.

        For relations between entities of one type; of very many who did so, `events.FOLLOWERS_MAX` stand for all.
        """
        ...

    async def since(self, user_type: str, user: str, relation: str) -> tuple[LiveEdges, Followers | None]:
        """Both of these: what a request asks for. None where the edges could be read and the followers could not."""
        ...

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Store `events`; returns only once every `stored` one is durable. An id counts once per user."""
        ...

    async def forget(self, user_type: str, user: str) -> int:
        """Remove the events of one user, and those of others with the user as their target, so that no byte of them
        stays in the store's files. Returns how many of the user's own events that was.
        """
        ...

    async def count(self, experiment: str, seen: Sequence[Seen]) -> list[bool]:
        """Count what is new of `seen` for its arms, in order; says of each whether it was. Durable as events are.

        Something counts once for as long as it is among the last `feedback.MARKS_KEPT` of the experiment.
        """
        ...

    async def counted(self, experiment: str) -> dict[str, Count]:
        """What each arm of the experiment had, of all workers and replicas that share the store; none without any."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of files and connections."""
        ...

    def describe(self) -> dict[str, str | bool]:
        """Kind and health, for /v1/info; while it is not healthy, the `reason`."""
        ...
