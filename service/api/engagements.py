"""POST /v1/engagements and DELETE /v1/users/{id}/engagements."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from bundle.errors import QueryError
from bundle.ids import MAX_STRING_ID_BYTES, parse_int_id
from bundle.space import Bundle, Space
from service.call import Call, Reply
from service.problems import invalid
from service.state.events import Event, Outcome
from service.wire.common import FUTURE_SECONDS, WRONG_TIME, ItemError, text_of
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
FULL = ItemError("engagements_full", "this user has as many stored events as the settings allow")


async def engagements(call: Call) -> Reply:
    """Store what users did. Answered once it is durable; it counts at the next request."""
    body = call.json(_body)
    limit = call.runtime.settings.limits.engagements_max
    if len(body.events) > limit:
        raise invalid("/events", f"at most {limit} events")
    loaded = call.runtime.versions.serving()
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
    async with call.runtime.large_batch:
        for start in range(0, len(given), EVENTS_AT_ONCE):
            entries += _events_of(bundle, given[start : start + EVENTS_AT_ONCE], now + start * ONE_AFTER)
            await asyncio.sleep(0)
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


def _events_of(bundle: Bundle, given: Sequence[EngagementEvent], now: float) -> list[Event | EventItem]:
    drawn = secrets.token_hex(ID_BYTES * sum(event.id is None for event in given))  # each draw is a system call
    new = (drawn[start : start + 2 * ID_BYTES] for start in range(0, len(drawn), 2 * ID_BYTES))
    return [
        _event_of(bundle, event, next(new) if event.id is None else event.id, now + position * ONE_AFTER)
        for position, event in enumerate(given)
    ]


def _event_of(bundle: Bundle, given: EngagementEvent, event_id: str, now: float) -> Event | EventItem:
    """The event to store, or why it cannot be. An entity that this version does not know is no error."""
    try:
        return _event(bundle.space(given.space), given, event_id, now)
    except QueryError as error:
        return EventItem(event_id, "invalid", ItemError(error.code, str(error)))


def _event(space: Space, given: EngagementEvent, event_id: str, now: float) -> Event:
    if not 1 <= len(event_id) <= MAX_EVENT_ID_CHARACTERS:
        raise QueryError(f"id has 1 to {MAX_EVENT_ID_CHARACTERS} characters")
    action = ACTION_OF.get(given.action)
    if action is None:
        raise QueryError(f"action is none of {', '.join(ACTIONS)}")
    at = now if given.at is None else given.at
    if not 0 <= at <= now + FUTURE_SECONDS:
        raise QueryError(f"at {WRONG_TIME}")
    entry = space.relation(space.entry.default.relation if given.relation is None else given.relation).entry
    return Event(
        id=event_id,
        user_type=entry.source,
        user=_id(space, entry.source, text_of(given.user), "user"),
        action=action,
        relation=entry.name,
        target_type=entry.target,
        target=_id(space, entry.target, text_of(given.target), "target"),
        at=at,
        received=now,
    )


def _id(space: Space, entity_type: str, external: str, field: str) -> str:
    """The id, if one of its type could look like this. Raises QueryError."""
    if space.entities[entity_type].ids.kind == "int64":
        legal = parse_int_id(external) is not None
    else:
        legal = 1 <= len(external.encode("utf-8")) <= MAX_STRING_ID_BYTES
    if not legal:
        raise QueryError(f"{field} is no id of that type: a decimal number without leading zeros, or up to 256 bytes")
    return external


async def forget(call: Call) -> Reply:
    """Remove everything stored about a user."""
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(call.query().get("space"))
    user_type = call.query().get("user_type", space.entry.default.user_type)
    space.table(user_type)
    removed = await call.runtime.state.forget(user_type, call.user())
    return Reply(_encode(ForgottenAnswer(version=loaded.version, request_id=call.request_id, removed=removed)))
