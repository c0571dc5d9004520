"""The JSON of /v1/engagements."""

from typing import Annotated, Literal, get_args

import msgspec

from service.wire.common import Answer, AnyId, ItemError, Request

Action = Literal["add", "remove", "block", "unblock"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MAX_EVENT_ID_CHARACTERS = 64


class EngagementEvent(Request):
    """One thing a user did. `add` makes an edge (follow, like, …), `remove` undoes it (unfollow); `block` hides
    the target from the user's candidates. The same `id` of the same user counts once, so retries are safe. What cannot
    be stored is told of each event by itself.
    """

    user: AnyId
    target: AnyId
    action: Annotated[str, msgspec.Meta(description=", ".join(ACTIONS))] = "add"
    relation: str | None = None
    id: Annotated[str, msgspec.Meta(description="1 to 64 characters")] | None = None
    at: Annotated[float, msgspec.Meta(description="seconds since 1970; when it is received, by default")] | None = None
    space: str | None = None


class EngagementsBody(Request):
    """Events, stored together."""

    events: Annotated[list[EngagementEvent], msgspec.Meta(min_length=1)]


class EventItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`stored`: durable now. `duplicate`: it was already. `invalid`: not stored, and why."""

    id: str
    status: Literal["stored", "duplicate", "invalid"]
    error: ItemError | None = None


class EngagementsAnswer(Answer):
    """One item for each event, in the order sent. Whatever is `stored` survives a crash."""

    results: list[EventItem]
    stored: int
    duplicates: int
    invalid: int


class ForgottenAnswer(Answer):
    """How many stored events of the user were removed."""

    removed: int
