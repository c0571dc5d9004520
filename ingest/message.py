"""What a message says: from its bytes to an event in the words of the API. Knows no disk, clock or network."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from bundle.errors import UsageError
from twhin_client.types import EngagementEvent

WORDS = ("user", "target", "action", "relation", "id", "at", "space")
NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Why a message is no event: what `twhin ingest` counts and dead letters are marked with.
EMPTY, NO_JSON, NO_EVENT, UNNAMED = "message_empty", "message_no_json", "message_no_event", "message_unnamed"


class Message(NamedTuple):
    """One message: its bytes (None: there are none), where it stands, and what its event is called and when it was
    where the message itself does not say. `id` is the same whenever the message is read, None where its place is not
    its alone; times are seconds since 1970.
    """

    value: bytes | None
    place: str
    id: str | None
    at: float | None


class Refused(NamedTuple):
    """A message that is not stored, and the code of the reason."""

    message: Message
    code: str


class _Words(msgspec.Struct):
    """A message's own words. Others that it has are passed over: topics grow fields."""

    user: str | int
    target: str | int
    action: str | None = None
    relation: str | None = None
    id: str | int | None = None
    at: float | None = None
    space: str | None = None


class _Letter(msgspec.Struct):
    """A line of a file of dead letters: what was refused, with the name and the time that it had."""

    code: str
    value: str
    id: str | None = None
    at: float | None = None


_as_words = msgspec.json.Decoder(_Words).decode
_as_letter = msgspec.json.Decoder(_Letter).decode
_as_object = msgspec.json.Decoder(dict[str, Any]).decode


class Reader:
    """Makes events of messages. `fields`: by word of the API, the place in a message that has it, `actor.id` being `id`
    within `actor`; `relation`: of messages that name none.
    """

    def __init__(self, fields: Mapping[str, str] | None = None, relation: str | None = None) -> None:
        """Raises UsageError for a word that the API does not have."""
        unknown = set(fields or {}) - set(WORDS)
        if unknown:
            raise UsageError(f"--field: {', '.join(sorted(unknown))} is none of {', '.join(WORDS)}.")
        self._paths = {word: place.split(".") for word, place in (fields or {}).items()}
        self._relation = relation

    def event(self, message: Message) -> EngagementEvent | Refused:
        """The event of a message, with an id."""
        if not message.value:
            return Refused(message, EMPTY)
        try:
            words = self._mapped(message.value) if self._paths else _as_words(message.value)
        except msgspec.ValidationError:
            return self._of_letter(message)
        except NOT_READ:
            return Refused(message, NO_JSON)
        at = message.at if words.at is None else words.at
        name = message.id if words.id is None else str(words.id)
        if name is None:
            if at is None:
                return Refused(message, UNNAMED)
            # What says the same of the same moment is the same event, wherever it stands.
            name = hashlib.blake2b(message.value, digest_size=16).hexdigest()
        return EngagementEvent(
            user=words.user,
            target=words.target,
            action=words.action,
            relation=self._relation if words.relation is None else words.relation,
            id=name,
            at=at,
            space=words.space,
        )

    def _mapped(self, value: bytes) -> _Words:
        document = _as_object(value)
        for word, path in self._paths.items():
            found: Any = document
            for step in path:
                found = found.get(step) if isinstance(found, dict) else None
            document[word] = found
        return msgspec.convert(document, _Words)

    def _of_letter(self, message: Message) -> EngagementEvent | Refused:
        """The event in a dead letter, which is sent again as it was."""
        try:
            letter = _as_letter(message.value or b"")
        except msgspec.ValidationError:
            return Refused(message, NO_EVENT)
        except NOT_READ:  # the first wrong word came before what is no JSON
            return Refused(message, NO_JSON)
        within = self.event(Message(letter.value.encode(), message.place, letter.id, letter.at))
        return within if isinstance(within, EngagementEvent) else Refused(message, within.code)
