"""Events as they are stored, and what they add up to for one user."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.wire.engagements import Action

Outcome = Literal["stored", "duplicate", "full"]


class Event(msgspec.Struct, frozen=True):
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
    def owner(self) -> tuple[str, str]:
        """The user the event belongs to: what a stored event is keyed by."""
        return self.user_type, self.user


def live_edges(events: Sequence[Event]) -> LiveEdges:
    """What the events add up to: of several about the same edge or block the latest counts.

    Pure: the same events in any order give the same edges, which is what lets every version re-derive.
    """
    if not events:
        return NO_LIVE_EDGES
    edges: dict[tuple[str, str], Action] = {}
    blocks: dict[tuple[str, str], Action] = {}
    for event in sorted(events, key=lambda event: (event.at, event.received, event.id)):
        if event.action in ("add", "remove"):
            edges[event.relation, event.target] = event.action
        else:
            blocks[event.target_type, event.target] = event.action
    return LiveEdges(
        added=_grouped(key for key, action in edges.items() if action == "add"),
        removed=_grouped(key for key, action in edges.items() if action == "remove"),
        blocked=_grouped(key for key, action in blocks.items() if action == "block"),
    )


def _grouped(keys: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for name, target in sorted(keys):
        groups.setdefault(name, []).append(target)
    return {name: tuple(targets) for name, targets in groups.items()}
