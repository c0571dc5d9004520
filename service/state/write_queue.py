"""The writes that wait for a store: users take turns, what waits is bounded, and what nobody waits for is dropped."""

import asyncio
from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from service.state.events import Event, Outcome

# What may wait is stored in a fraction of a second; what is taken at once, in a few milliseconds.
EVENTS_WAITING_MAX = 20_000
EVENTS_OF_ONE_OWNER_MAX = EVENTS_WAITING_MAX // 4


@runtime_checkable
class Waiting(Protocol):
    """A write that waits: for whom, how many events it has (at least 1), whether anybody still wants it, and whether
    the owner's next one is of the same turn.
    """

    @property
    def owner(self) -> Hashable: ...

    @property
    def size(self) -> int: ...

    @property
    def wanted(self) -> bool: ...

    @property
    def goes_on(self) -> bool: ...


Write = TypeVar("Write", bound=Waiting)
Kept = TypeVar("Kept")


@dataclass(slots=True)
class Append:
    """Events of one request, or a portion of them; the answer says of each what became of it.

    `owner` is whose turn it takes, by default the user of the first event. All portions of a request take the same, and
    so stay in their order; one of which the request `goes_on` is followed by the next.
    """

    events: Sequence[Event]
    future: "asyncio.Future[list[Outcome]]"
    owner: tuple[str, str] = "", ""
    goes_on: bool = False

    def __post_init__(self) -> None:
        if self.owner == ("", ""):
            self.owner = self.events[0].owner

    @property
    def size(self) -> int:
        return len(self.events)

    @property
    def wanted(self) -> bool:
        return not self.future.cancelled()


class QueueFull(Exception):
    """More waits already than the queue, or one owner's part of it, may hold."""


class WriteQueue(Generic[Write]):
    """Nobody's writes wait behind all of somebody else's. Not for several threads at once."""

    def __init__(self, events_at_once: int, alone: int | None = None) -> None:
        """So many events are taken in one go, or one write that has `alone` or more: large ones, by turns with all the
        small ones that wait then.
        """
        self._events_at_once = events_at_once
        self._alone = alone
        self._took_small = False
        # A dict keeps the order in which its keys came: the first key is the owner whose turn is next.
        self._by_owner: dict[Hashable, deque[Write]] = {}
        # Those who have had their turn and have more: behind all who have come by the time of the next one.
        self._served: dict[Hashable, deque[Write]] = {}
        # Those whose next write rests, which hold up nobody.
        self._resting: dict[Hashable, deque[Write]] = {}
        self._size_of: dict[Hashable, int] = {}
        self._size = 0

    def __len__(self) -> int:
        """How many owners have a write that waits."""
        return len(self._by_owner) + len(self._served) + len(self._resting)

    def put(self, *writes: Write) -> None:
        """Let `writes`, all of one request, wait for their turns. Raises QueueFull, and then none of them waits."""
        sizes: dict[Hashable, int] = {}
        for write in writes:
            sizes[write.owner] = sizes.get(write.owner, 0) + write.size
        for owner, size in sizes.items():
            own = self._size_of.get(owner, 0)
            # What is larger than its part goes in when none of the owner's waits: it never could otherwise.
            if self._size >= EVENTS_WAITING_MAX or (own and own + size > EVENTS_OF_ONE_OWNER_MAX):
                raise QueueFull
        for write in writes:
            lines = (self._resting, self._served)
            line = next((one for one in lines if write.owner in one), self._by_owner)
            line.setdefault(write.owner, deque()).append(write)
            self._size_of[write.owner] = self._size_of.get(write.owner, 0) + write.size
            self._size += write.size

    def take(self, rests: type | None = None, busy: Collection[Hashable] = ()) -> list[Write]:
        """The next writes that are still wanted, the oldest of each owner in turn. A large one is taken alone, so that
        small ones do not wait for it. One of the type that `rests` is left, and what its owner has put after it; and
        all of the owners that are `busy`: they have had their turn, and come after all who wait now.
        """
        self._line_up()
        passed = {owner: self._by_owner.pop(owner) for owner in busy if owner in self._by_owner}
        try:
            return self._take(rests)
        finally:
            self._by_owner |= passed

    def _take(self, rests: type | None) -> list[Write]:
        if rests is None and self._resting:
            self._by_owner, self._resting = self._resting | self._by_owner, {}
        if not self._took_small:
            small = {owner: waiting for owner, waiting in self._by_owner.items() if not self._is_large(waiting[0])}
            self._by_owner = small | self._by_owner
        writes: list[Write] = []
        room = self._events_at_once
        while (self._by_owner or self._served) and (not writes or self._first().size <= room):
            if writes and self._is_large(self._first()):
                break
            if not self._by_owner:
                self._line_up()
            if rests is not None and isinstance(self._first(), rests):
                owner = next(iter(self._by_owner))
                self._resting[owner] = self._by_owner.pop(owner)
                continue
            write = self._next()
            if write.wanted:
                writes.append(write)
                room = 0 if self._is_large(write) else room - write.size
        self._took_small = bool(writes) and self._alone is not None and not self._is_large(writes[0])
        return writes

    def next_large(self, kind: type[Kept]) -> Kept | None:
        """The next large write that is still wanted, where it is of that `kind` and only large ones wait."""
        while True:
            self._line_up()
            if not self._by_owner or not all(self._is_large(waiting[0]) for waiting in self._by_owner.values()):
                return None
            if not isinstance(self._first(), kind):
                return None
            write = self._next()
            if write.wanted:
                return cast(Kept, write)

    def _is_large(self, write: Write) -> bool:
        return self._alone is not None and write.size >= self._alone

    def _line_up(self) -> None:
        """Let those who have had their turn wait for the next one."""
        self._by_owner |= self._served
        self._served = {}

    def _first(self) -> Write:
        return next(iter((self._by_owner or self._served).values()))[0]

    def _next(self) -> Write:
        owner, waiting = next(iter(self._by_owner.items()))
        write = waiting.popleft()
        self._size -= write.size
        self._size_of[owner] -= write.size
        del self._by_owner[owner]
        if waiting and write.goes_on:
            self._by_owner = {owner: waiting} | self._by_owner
        elif waiting:
            self._served[owner] = waiting
        else:
            del self._size_of[owner]
        return write
