"""The page of streams: its message is an event, its options have its defaults, its codes are those there are."""

from typing import Any

import typer

from cli.main import app
from ingest import message
from ingest.message import Message, Reader
from tests.docs.pages import ROOT, blocks, table
from twhin_client.types import EngagementEvent

PAGE = ROOT / "docs" / "streams.md"
COMMAND: Any = typer.main.get_command(app)


def test_the_message_of_the_page_is_an_event() -> None:
    [block] = blocks("json", pages=[PAGE])
    event = Reader().event(Message(block.text.encode(), "engagements/0/0", None, None))
    assert event == EngagementEvent(user="42", target="43", relation="follows", action="add", id="e-1", at=1764374400.0)


def test_the_options_have_the_defaults_of_the_page() -> None:
    options = {option: one for one in COMMAND.commands["ingest"].params for option in one.opts}
    rows = {cells[0].strip("`"): cells[1] for cells in table(PAGE, "option")}
    written = {name: options[name].default for name in rows}
    shown = {
        name: {None: "", False: "off"}.get(value, f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in written.items()
    }
    assert rows == shown


def test_the_codes_of_messages_are_those_of_the_page() -> None:
    codes = "".join(cells[0] for cells in table(PAGE, "code"))
    for code in (message.EMPTY, message.NO_JSON, message.NO_EVENT, message.UNNAMED):
        assert f"`{code}`" in codes
