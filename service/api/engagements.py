"""POST /v1/engagements and DELETE /v1/users/{id}/engagements."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import msgspec

from bundle.errors import QueryError
from bundle.ids import MAX_STRING_ID_BYTES, is_int_id
from bundle.space import Bundle, Space
from service.call import Call, Reply
from service.problems import invalid
from service.state.events import Event, Outcome
from service.wire.common import FUTURE_SECONDS, WRONG_TIME, ItemError
from service.wire.engagements import (
    ACTIONS,
    MAX_EVENT_ID_CHARACTERS,
    Action,
    EngagementEvent,
    EngagementsAnswer,
    EngagementsBody,
    EventItem,
    ForgottenAnswer,
)

_body = msgspec.json.Decoder(EngagementsBody)
_encode = msgspec.json.Encoder().encode
ACTION_OF: dict[str, Action] = {action: action for action in ACTIONS}
ID_BYTES = 16
EVENTS_AT_ONCE = 100
# Seconds between the events of one body: more than what two times of this century need to differ.
ONE_AFTER = 1e-6
NO_ID = "is no id of that type: a decimal number without leading zeros, or up to 256 bytes"
FULL = ItemError("engagements_full", "this user has as many stored events as the settings allow")


async def engagements(call: Call) -> Reply:
    """Store what users did. Answered once it is durable; it counts at the next request."""
    body = call.json(_body)
    limit = call.runtime.settings.limits.engagements_max
    if len(body.events) > limit:
        raise invalid("/events", f"at most {limit} events")
    loaded = call.runtime.versions.serving()
    large = call.runtime.low_priority.request() if len(body.events) > EVENTS_AT_ONCE else nullcontext()
    with large:
        entries = await _entries(call, loaded.bundle, body.events)
        outcomes = iter(await call.runtime.state.append([entry for entry in entries if isinstance(entry, Event)]))
    items = [_item(entry, next(outcomes)) if isinstance(entry, Event) else entry for entry in entries]
    return Reply(_encode(_answer(items, loaded.version, call.request_id)))


async def _entries(call: Call, bundle: Bundle, given: Sequence[EngagementEvent]) -> list[Event | EventItem]:
    """The events to store. Large batches are looked at one after the other, and others have their turns meanwhile."""
    # One after the other, so that of two about one edge without a time, or of the same, the last in the body counts.
    now = time.time()
    if len(given) <= EVENTS_AT_ONCE:
        return _events_of(bundle, given, now)
    entries: list[Event | EventItem] = []
    async with call.runtime.low_priority.turn:
        for start in range(0, len(given), EVENTS_AT_ONCE):
            entries += _events_of(bundle, given[start : start + EVENTS_AT_ONCE], now + start * ONE_AFTER)
            await call.runtime.low_priority.give_way()
    return entries


def _answer(items: Sequence[EventItem], version: str, request_id: str) -> EngagementsAnswer:
    counts = Counter([item.status for item in items])
    return EngagementsAnswer(
        version=version,
        request_id=request_id,
        results=list(items),
        stored=counts["stored"],
        duplicates=counts["duplicate"],
        invalid=counts["invalid"],
    )


def _item(event: Event, outcome: Outcome) -> EventItem:
    if outcome == "full":
        return EventItem(event.id, "invalid", FULL)
    return EventItem(event.id, outcome)


@dataclass(frozen=True, slots=True)
class _Ends:
    """What a relation is between, and how the ids of both ends look: the same for most events of a body."""

    relation: str
    source: str
    target: str
    names_source: Callable[[str], bool]
    names_target: Callable[[str], bool]


class _EndsOf(dict[tuple[str | None, str | None], _Ends]):
    """By the names of a space and a relation, None for those that count without one. Raises QueryError."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def __missing__(self, named: tuple[str | None, str | None]) -> _Ends:
        space = self._bundle.space(named[0])
        entry = space.relation(space.entry.default.relation if named[1] is None else named[1]).entry
        names = [_names_of(space, entity_type) for entity_type in (entry.source, entry.target)]
        self[named] = ends = _Ends(entry.name, entry.source, entry.target, *names)
        return ends


def _names_of(space: Space, entity_type: str) -> Callable[[str], bool]:
    return is_int_id if space.entities[entity_type].ids.kind == "int64" else _is_string_id


def _is_string_id(external: str) -> bool:
    size = len(external) if external.isascii() else len(external.encode("utf-8"))
    return 1 <= size <= MAX_STRING_ID_BYTES


def _events_of(bundle: Bundle, given: Sequence[EngagementEvent], now: float) -> list[Event | EventItem]:
    drawn = secrets.token_hex(ID_BYTES * sum(event.id is None for event in given))  # each draw is a system call
    new = (drawn[start : start + 2 * ID_BYTES] for start in range(0, len(drawn), 2 * ID_BYTES))
    ends_of = _EndsOf(bundle)
    return [
        _event_of(ends_of, event, next(new) if event.id is None else event.id, now + position * ONE_AFTER)
        for position, event in enumerate(given)
    ]


def _event_of(ends_of: _EndsOf, given: EngagementEvent, event_id: str, now: float) -> Event | EventItem:
    """The event to store, or why it cannot be. An entity that this version does not know is no error."""
    try:
        return _event(ends_of, given, event_id, now)
    except QueryError as error:
        return EventItem(event_id, "invalid", ItemError(error.code, str(error)))


def _event(ends_of: _EndsOf, given: EngagementEvent, event_id: str, now: float) -> Event:
    ends = ends_of[given.space, given.relation]
    if not 1 <= len(event_id) <= MAX_EVENT_ID_CHARACTERS:
        raise QueryError(f"id has 1 to {MAX_EVENT_ID_CHARACTERS} characters")
    action = ACTION_OF.get(given.action)
    if action is None:
        raise QueryError(f"action is none of {', '.join(ACTIONS)}")
    at = now if given.at is None else given.at
    if not 0 <= at <= now + FUTURE_SECONDS:
        raise QueryError(f"at {WRONG_TIME}")
    user, target = given.user, given.target
    user = user if isinstance(user, str) else str(user)
    target = target if isinstance(target, str) else str(target)
    if not ends.names_source(user):
        raise QueryError(f"user {NO_ID}")
    if not ends.names_target(target):
        raise QueryError(f"target {NO_ID}")
    return Event(event_id, ends.source, user, action, ends.relation, ends.target, target, at, now)


async def forget(call: Call) -> Reply:
    """Remove everything stored about a user."""
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(call.query().get("space"))
    user_type = call.query().get("user_type", space.entry.default.user_type)
    space.table(user_type)
    removed = await call.runtime.state.forget(user_type, call.user())
    return Reply(_encode(ForgottenAnswer(version=loaded.version, request_id=call.request_id, removed=removed)))
