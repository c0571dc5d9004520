"""What every request and answer shares: ids are strings, requests are closed."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

MAX_ID_CHARACTERS = 256
# What somebody did may be so far ahead of our clock.
FUTURE_SECONDS = 300.0
WRONG_TIME = "is seconds since 1970 and not in the future"

# A string on the way out, always; on the way in an exact JSON integer is understood as well.
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARACTERS, description="external id")] | int
# One of many: whether it can be an id at all is told where it stands, and stops none of the others.
AnyId = Annotated[str, msgspec.Meta(description="external id")] | int
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Encoding = Literal["json", "base64"]


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body: an unknown field is an error, not a surprise."""


class Answer(msgspec.Struct, kw_only=True):
    """Every answer says which version it is from, and which request it answers."""

    version: str
    request_id: str


class ItemError(msgspec.Struct, frozen=True):
    """Why one item of a batch has no answer."""

    code: str
    detail: str


def text_of(external: str | int) -> str:
    """An id as the string it is inside."""
    return external if isinstance(external, str) else str(external)


def is_id(external: str) -> bool:
    """Whether any entity could be called so."""
    return 1 <= len(external) <= MAX_ID_CHARACTERS


def texts_of(externals: Sequence[str | int]) -> list[str]:
    """Ids as strings."""
    return [text_of(external) for external in externals]
