"""What a message says, and what is said of one that says nothing."""

import json
from pathlib import Path

import pytest

from bundle.errors import UsageError
from ingest.lines import LineSource
from ingest.message import EMPTY, NO_EVENT, NO_JSON, UNNAMED, Message, Reader, Refused
from twhin_client.types import EngagementEvent


def read(document: object, id: str | None = "t-0-7", at: float | None = 5.0, **words: object) -> EngagementEvent | str:
    value = document if isinstance(document, bytes | None) else json.dumps(document).encode()
    found = Reader(**words).event(Message(value, "t/0/7", id, at))  # type: ignore[arg-type]
    return found.code if isinstance(found, Refused) else found


def test_a_message_is_an_event_in_the_words_of_the_api_and_what_else_it_says_is_passed_over() -> None:
    document = {"user": 1, "target": "b", "action": "remove", "relation": "likes", "space": "s", "shard": 9}
    assert read({**document, "id": "mine", "at": 17}) == EngagementEvent(
        user=1, target="b", action="remove", relation="likes", space="s", id="mine", at=17.0
    )
    assert read({"user": 1, "target": 2, "id": 33}) == EngagementEvent(user=1, target=2, id="33", at=5.0)


def test_a_message_without_an_id_is_named_by_its_place() -> None:
    found = read({"user": "a", "target": "b"})
    assert isinstance(found, EngagementEvent)
    assert (found.id, found.at) == ("t-0-7", 5.0)


def test_a_line_without_an_id_is_named_by_what_it_says_if_it_says_when() -> None:
    timed = {"user": "a", "target": "b", "at": 9}
    first, again = read(timed, None, None), read(timed, None, None)
    other = read({**timed, "at": 10}, None, None)
    assert isinstance(first, EngagementEvent)
    assert isinstance(other, EngagementEvent)
    assert first == again
    assert first.id != other.id
    assert read({"user": "a", "target": "b"}, None, None) == UNNAMED


def test_fields_are_taken_from_where_a_message_has_them() -> None:
    document = {"actor": {"id": 4}, "object": {"id": "x"}, "verb": "add", "user": "somebody else"}
    fields = {"user": "actor.id", "target": "object.id", "action": "verb"}
    found = read(document, fields=fields, relation="likes")
    assert found == EngagementEvent(user=4, target="x", action="add", relation="likes", id="t-0-7", at=5.0)
    assert read({"actor": 4, "object": {"id": "x"}}, fields=fields) == NO_EVENT
    with pytest.raises(UsageError, match="verb is none of user, target"):
        Reader({"verb": "a"})


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *[(None, EMPTY), (b"", EMPTY), (b"{", NO_JSON), (b"\xff", NO_JSON), (b'{"user": "\xff"}', NO_JSON)],
        *[(b'{"a":' * 100_000, NO_JSON), (b"[]", NO_EVENT), (b"17", NO_EVENT), (b'{"user": 1}', NO_EVENT)],
        # What is wrong with a word stands before what is no JSON.
        *[(b'{"user": null, no', NO_JSON), (b'{"user": null, "code": "\xff"}', NO_JSON)],
        *[(b'{"user": null, "value": "\\ud800"}', NO_JSON), (b'{"user": 1.5, "a": ' + b"[" * 100_000, NO_JSON)],
        *[(b'{"user": 1.5, "target": 2}', NO_EVENT), (b'{"user": 1, "target": 2, "at": "today"}', NO_EVENT)],
    ],
)
def test_what_is_no_event_is_refused_by_a_code(value: bytes | None, code: str) -> None:
    assert read(value) == code
    if value is not None:
        assert read(value, fields={"user": "user"}) == code


def test_a_dead_letter_is_the_event_that_it_was() -> None:
    inner = {"user": 1, "target": 2}
    letter = {"place": "t/0/3", "code": "query_invalid", "value": json.dumps(inner), "id": "t-0-3", "at": 4.5}
    assert read(letter, None, None) == EngagementEvent(user=1, target=2, id="t-0-3", at=4.5)
    nested = {"place": "letters, line 1", "code": "query_invalid", "value": json.dumps(letter)}
    assert read(nested, None, None) == EngagementEvent(user=1, target=2, id="t-0-3", at=4.5)
    assert read({**letter, "value": "{"}, None, None) == NO_JSON


def test_the_byte_order_mark_of_a_file_is_no_part_of_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes("{}\n\ufeff{}\n".encode("utf-8-sig"))
    lines = LineSource(tmp_path / "events.jsonl")
    assert [message.value for message in lines.read(9, 1.0)] == [b"{}", "\ufeff{}".encode()]
    lines.close()
