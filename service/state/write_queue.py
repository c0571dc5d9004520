"""The writes that wait for a store: users take turns, what waits is bounded, and what nobody waits for is dropped."""

import asyncio
from collections import OrderedDict, deque
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


class _Line(Generic[Write]):
    """Owners whose turns come one after the other, each with all writes of theirs that wait. All steps take the same
    time, however many wait.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, deque[Write]] = OrderedDict()
        # Those who have had their turn and have more: behind all who have come by the time of the next one.
        self._served: OrderedDict[Hashable, deque[Write]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._served)

    @property
    def first(self) -> Write:
        """The next write."""
        return next(iter((self._waiting or self._served).values()))[0]

    def come(self, owner: Hashable, writes: deque[Write], *, served: bool = False) -> None:
        """Let the `owner` be the last, or the last of those who have been `served`."""
        (self._served if served else self._waiting)[owner] = writes

    def come_back(self, owner: Hashable, writes: deque[Write]) -> None:
        """Let the `owner` be the first."""
        self._waiting[owner] = writes
        self._waiting.move_to_end(owner, last=False)

    def line_up(self) -> None:
        """Let those who have had their turn wait for the next one."""
        self._waiting |= self._served
        self._served.clear()

    def pop(self) -> tuple[Hashable, deque[Write]]:
        """Take the first owner out."""
        if not self._waiting:
            self.line_up()
        return self._waiting.popitem(last=False)

    def pass_over(self, owners: Collection[Hashable]) -> dict[Hashable, deque[Write]]:
        """Take those of the `owners` out that wait."""
        return {owner: self._waiting.pop(owner) for owner in owners if owner in self._waiting}


class WriteQueue(Generic[Write]):
    """Nobody's writes wait behind all of somebody else's. Not for several threads at once."""

    def __init__(self, events_at_once: int, alone: int | None = None) -> None:
        """So many events are taken in one go, or one write that has `alone` or more: lots of small ones and large ones
        take turns.
        """
        self._events_at_once = events_at_once
        self._alone = alone
        self._took_small = False
        # An owner is in the one that its oldest write belongs to.
        self._small = _Line[Write]()
        self._large = _Line[Write]()
        # Those whose next write rests, which hold up nobody.
        self._resting: dict[Hashable, deque[Write]] = {}
        self._of: dict[Hashable, deque[Write]] = {}
        self._size_of: dict[Hashable, int] = {}
        self._size = 0

    def __len__(self) -> int:
        """How many owners have a write that waits."""
        return len(self._of)

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
            if write.owner in self._of:
                self._of[write.owner].append(write)
            else:
                self._of[write.owner] = deque([write])
                self._line_of(write).come(write.owner, self._of[write.owner])
            self._size_of[write.owner] = self._size_of.get(write.owner, 0) + write.size
            self._size += write.size

    def take(self, rests: type | None = None, busy: Collection[Hashable] = ()) -> list[Write]:
        """The next writes that are still wanted, the oldest of each owner in turn. A large one is taken alone, so that
        small ones do not wait for it. One of the type that `rests` is left, and what its owner has put after it; and
        all of the owners that are `busy`: they have had their turn, and come after all who wait now.
        """
        if rests is None:
            while self._resting:
                owner, waiting = self._resting.popitem()
                self._line_of(waiting[0]).come_back(owner, waiting)
        for line in (self._large, self._small) if self._took_small else (self._small, self._large):
            line.line_up()
            passed = line.pass_over(busy)
            writes = self._taken_from(line, rests)
            for owner, waiting in passed.items():
                line.come(owner, waiting)
            if writes:
                self._took_small = line is self._small
                return writes
        return []

    def _taken_from(self, line: _Line[Write], rests: type | None) -> list[Write]:
        writes: list[Write] = []
        room = self._events_at_once
        while line and (not writes or line.first.size <= room):
            if rests is not None and isinstance(line.first, rests):
                owner, waiting = line.pop()
                self._resting[owner] = waiting
                continue
            write = self._next(line)
            if write.wanted:
                writes.append(write)
                room = 0 if line is self._large else room - write.size
        return writes

    def next_large(self, kind: type[Kept]) -> Kept | None:
        """The next large write that is still wanted, where it is of that `kind` and only large ones wait."""
        while self._large and not self._small:
            self._large.line_up()
            if not isinstance(self._large.first, kind):
                return None
            write = self._next(self._large)
            if write.wanted:
                return cast(Kept, write)
        return None

    def _line_of(self, write: Write) -> _Line[Write]:
        return self._small if self._alone is None or write.size < self._alone else self._large

    def _next(self, line: _Line[Write]) -> Write:
        owner, waiting = line.pop()
        write = waiting.popleft()
        self._size -= write.size
        self._size_of[owner] -= write.size
        if waiting and write.goes_on:
            self._line_of(waiting[0]).come_back(owner, waiting)
        elif waiting:
            self._line_of(waiting[0]).come(owner, waiting, served=True)
        else:
            del self._size_of[owner], self._of[owner]
        return write
