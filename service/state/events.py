"""Events as they are stored, and what they add up to for one user."""

from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

import msgspec

from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.wire.engagements import ACTIONS, Action

Result = TypeVar("Result")
Outcome = Literal["stored", "duplicate", "full"]
# Work that may pause wherever it yields, so that others' comes in between: a fraction of a millisecond at once.
Steps = Generator[None, None, Result]
AT_ONCE = 512
WITHDRAWALS_MIN = 1000
# Of those who have done something to one user, so many are looked at.
FOLLOWERS_MAX = 512


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing a user did, in external ids, so that every version can read it. Times are seconds since 1970."""

    id: str
    user_type: str
    user: str
    action: Action
    relation: str
    target_type: str
    target: str
    at: float
    received: float

    @property
    def followed(self) -> bool:
        """Whether it is an edge between entities of one type, or its end: what the target is told of."""
        return self.user_type == self.target_type and self.action in ("add", "remove")

    @property
    def owner(self) -> tuple[str, str]:
        """The user the event belongs to: what a stored event is keyed by."""
        return self.user_type, self.user

    def room(self, events_per_user_max: int) -> int:
        """How many stored events of the user leave no place for this one.

        What takes something back (remove, block, unblock) has as much room again as what adds, and never less than
        1,000: whoever can add nothing any more can still block.
        """
        return rooms(events_per_user_max)[self.action]


@lru_cache
def rooms(events_per_user_max: int) -> Mapping[Action, int]:
    """`Event.room` by action."""
    more = events_per_user_max + max(events_per_user_max, WITHDRAWALS_MIN)
    return {action: events_per_user_max if action == "add" else more for action in ACTIONS}


class Followers(NamedTuple):
    """Those whose latest action under one relation gave them an edge to a user, and those whose latest took it away."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


NO_FOLLOWERS = Followers()


def followers(actions: Iterable[tuple[str, str, float, float, str]]) -> Followers:
    """What (user, action, at, received, id) of several users towards one add up to."""
    latest: dict[str, tuple[float, float, str, str]] = {}
    for user, action, *age, event_id in actions:
        mark = (age[0], age[1], event_id, action)
        if user not in latest or latest[user] < mark:
            latest[user] = mark
    if not latest:
        return NO_FOLLOWERS
    added, removed = (
        tuple(sorted(user for user, (*_, action) in latest.items() if action == wanted)) for wanted in ("add", "remove")
    )
    return Followers(added, removed)


class NetEffect:
    """What events add up to: of several about the same edge or block the latest counts.

    The same events in any order and in any portions give the same edges, which is what lets every version re-derive.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[bool, str, str], Event] = {}

    def count(self, events: Iterable[Event]) -> None:
        """Let `events` count too."""
        latest = self._latest
        for event in events:
            is_edge = event.action in ("add", "remove")
            key = (is_edge, event.relation if is_edge else event.target_type, event.target)
            before = latest.get(key)
            if before is None or _age(before) < _age(event):
                latest[key] = event

    def edges(self) -> Steps[LiveEdges]:
        """The edges that are added, removed and blocked in the end."""
        groups: dict[Action, dict[str, dict[str, float]]] = {}
        for number, ((_, name, target), event) in enumerate(self._latest.items(), 1):
            groups.setdefault(event.action, {}).setdefault(name, {})[target] = event.at
            if number % AT_ONCE == 0:
                yield
        return (yield from edges_of_groups(groups))


def _age(event: Event) -> tuple[float, float, str]:
    return event.at, event.received, event.id


def live_edges(events: Iterable[Event]) -> LiveEdges:
    """What `events` add up to."""
    effect = NetEffect()
    effect.count(events)
    return at_once(effect.edges())


def edges_of_groups(groups: Mapping[Action, Mapping[str, Mapping[str, float]]]) -> Steps[LiveEdges]:
    """The edges whose latest action is each of `groups`: targets, and since when, by relation, or by entity type where
    it is a block.
    """
    if not groups:
        return NO_LIVE_EDGES
    found: dict[str, dict[str, tuple[str, ...]]] = {"add": {}, "remove": {}, "block": {}}
    since: dict[str, tuple[float, ...]] = {}
    for action, names in groups.items():
        for name, times in sorted(names.items()):
            targets = yield from _sorted(list(times))
            if action in found:
                found[action][name] = tuple(targets)
            if action == "add":
                since[name] = tuple(map(times.__getitem__, targets))
                yield
    return LiveEdges(found["add"], found["remove"], found["block"], since)


def _sorted(names: list[str]) -> Steps[list[str]]:
    parts: list[str] = []
    for start in range(0, len(names), AT_ONCE):
        parts += sorted(names[start : start + AT_ONCE])
        yield
    parts.sort()  # which finds the parts in order, and has little left to compare
    return parts


def at_once(steps: Steps[Result]) -> Result:
    """What work in steps gives, done without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
