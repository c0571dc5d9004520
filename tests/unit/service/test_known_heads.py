"""A head that was seen before is not parsed again, and nobody can tell by the answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.call import WHOLE_ANSWER
from service.heads import KEPT, LONGEST, Heads
from service.http_protocol import HttpProtocol
from service.turns import Turns

POST = b"POST /a%20b?c=d HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\ncontent-length: 4\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n"
# Of which the parser has to make something each time, or which have no like.
OTHERS = {
    "two": GET + GET,
    "half of a body": POST + b"tr",
    "a body in chunks": POST.replace(b"content-length: 4", b"transfer-encoding: chunked") + b"4\r\ntrue\r\n0\r\n\r\n",
    "the last of its connection": GET.replace(b"keep-alive", b"close"),
    "an old client": GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a client of the future": GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "an offer": GET.replace(b"keep-alive", b"upgrade\r\nupgrade: h2c"),
    "a question before the body": POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n") + b"true",
    "a name": GET.replace(b"keep-alive", b"keep-alive\r\nx-request-id: one"),
    "very long": GET.replace(b"keep-alive", b"keep-alive\r\na: " + b"b" * LONGEST),
    "no HTTP": GET.replace(b"HTTP/1.1", b"HTTP"),
}


# What is kept of a scope.
EMPTY = {"http_version": "1.1", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b""}


class App:
    """Notes what it is asked, and answers."""

    def __init__(self) -> None:
        self.heads, self.turns = Heads(), Turns()
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        self.known: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.known.append(scope.pop("twhin.head", None) is not None)
        self.asked.append((dict(scope), body))
        scope["extensions"][WHOLE_ANSWER](send, b"content-length: 0\r\n\r\n", b"")


class Client(asyncio.Transport):
    """The other end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.answered += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        """Nobody waits for it."""


class Connected:
    """An application and a connection to it."""

    def __init__(self) -> None:
        self.app, self.client = App(), Client()
        config = Config(self.app, log_config=None, server_header=False)  # type: ignore[arg-type]
        config.load()
        config.loaded_app = self.app  # type: ignore[assignment]
        state = ServerState()
        state.default_headers = [(b"date", b"now")]
        self.protocol = HttpProtocol(config, state, app_state={})
        self.protocol.connection_made(self.client)

    async def send(self, data: bytes) -> None:
        """Send, and wait until what there is to do is done."""
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def connected() -> AsyncIterator[Connected]:
    made = Connected()
    yield made
    made.protocol.connection_lost(None)


async def test_it_is_asked_and_answered_as_if_it_was_parsed(connected: Connected) -> None:
    for data in (POST + b"true", GET, POST + b"true", GET, POST + b"null", GET, POST + b"1234"):
        await connected.send(data)
    app = connected.app
    assert app.known == [False] * 4 + [True] * 3
    assert [body for _, body in app.asked] == [b"true", b"", b"true", b"", b"null", b"", b"1234"]
    posts, gets = [scope for scope, _ in app.asked[::2]], [scope for scope, _ in app.asked[1::2]]
    for first, *others in (posts, gets):
        for scope in others:
            assert {**scope, "twhin.body": b""} == {**first, "twhin.body": b""}
            assert scope["headers"] is not first["headers"]
    assert posts[0]["path"] == "/a b"
    assert posts[3]["twhin.body"] == b"1234"
    assert connected.client.answered == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 0\r\n\r\n" * 7


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_no_whole_request_of_a_lasting_kind_is_always_parsed(connected: Connected, name: str) -> None:
    await connected.send(OTHERS[name])
    if not connected.client.closed:
        await connected.send(OTHERS[name])
    assert connected.app.heads.find(OTHERS[name]) is None
    assert not any(connected.app.known)


@pytest.mark.parametrize("rest", [b"", b"tru", b"true ", b"trueGET / HTTP/1.1\r\n\r\n"])
async def test_a_known_head_with_another_body_is_parsed(connected: Connected, rest: bytes) -> None:
    await connected.send(POST + b"true")
    await connected.send(POST + b"true")
    assert connected.app.heads.find(POST + b"null") is not None
    assert connected.app.heads.find(POST + rest) is None
    await connected.send(POST + rest)
    assert not any(connected.app.known)
    if len(rest) < 4:
        await connected.send(b"true"[len(rest) :])
        assert [body for _, body in connected.app.asked] == [b"true"] * 3


async def test_what_begins_with_the_rest_of_another_request_is_no_head(connected: Connected) -> None:
    app, rest = connected.app, b"GET /b HTTP/1.1\r\nhost: localhost\r\nreferer: "

    async def early(scope: Any, _: Any, send: Any) -> None:  # does not wait for the body
        app.asked.append((dict(scope), b""))
        scope["extensions"][WHOLE_ANSWER](send, b"content-length: 0\r\n\r\n", b"")

    connected.protocol.app = early
    await connected.send(POST.replace(b"length: 4", b"length: %d" % len(rest)))
    await connected.send(rest + GET)
    assert [scope["path"] for scope, _ in app.asked] == ["/a b", "/a"]
    assert app.heads.find(rest + GET) is None
    await connected.send(GET)
    assert app.heads.find(GET) is None
    await connected.send(GET)
    assert app.heads.find(GET) is not None


async def test_while_an_answer_is_due_it_is_parsed(connected: Connected) -> None:
    held = asyncio.Event()
    answers = connected.app.__class__.__call__

    async def slow(self: App, scope: Any, receive: Any, send: Any) -> None:
        await held.wait()
        await answers(self, scope, receive, send)

    await connected.send(GET)
    await connected.send(GET)
    connected.protocol.app = slow.__get__(connected.app)
    await connected.send(GET)
    await connected.send(GET)
    held.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert connected.app.known == [False, False, True, False]
    assert connected.client.answered.count(b"200 OK") == 4


async def test_who_listens_whether_the_client_goes_takes_nothing_from_the_next_request(connected: Connected) -> None:
    app, let, listeners = connected.app, asyncio.Event(), list[asyncio.Task[Any]]()

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        listeners.append(asyncio.get_running_loop().create_task(receive()))
        await let.wait()
        app.asked.append((dict(scope), message["body"]))
        scope["extensions"][WHOLE_ANSWER](send, b"content-length: 0\r\n\r\n", b"")
        if len(app.asked) == 1:  # the next one waits for its turn
            app.turns._spent = 1.0
            connected.protocol.data_received(GET)

    await connected.send(GET)
    await connected.send(GET)
    app.asked.clear()
    connected.protocol.app = listening
    await connected.send(GET)
    let.set()
    for _ in range(5):
        await asyncio.sleep(0)
    app.turns._next()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(app.asked) == 2
    for listener in listeners:
        listener.cancel()


def keep(heads: Heads, head: bytes) -> None:
    """As the protocol does when the parser has seen a request."""
    if heads.find(head) is None:
        heads.keep(head, {**EMPTY, "headers": []}, 0)


def test_no_more_than_so_many_are_kept_and_those_in_use_stay() -> None:
    heads = Heads()
    for number in range(4 * KEPT):
        other = GET.replace(b"/a", b"/%d" % number)
        keep(heads, other)
        keep(heads, other)
        if number % 8 == 0:
            keep(heads, GET)
            assert number < 8 or heads.find(GET) is not None
    assert len(heads._newer) + len(heads._older) <= KEPT
    assert heads.find(GET.replace(b"/a", b"/%d" % (4 * KEPT - 1))) is not None
    assert heads.find(GET.replace(b"/a", b"/%d" % KEPT)) is None


@pytest.mark.parametrize("header", ["traceparent", "x-amzn-trace-id", "x-b3-spanid", "sentry-trace", "anything"])
def test_a_head_with_something_new_in_each_takes_no_room_from_others(header: str) -> None:
    heads = Heads()
    keep(heads, GET)
    keep(heads, GET)
    for number in range(3 * KEPT):
        keep(heads, GET.replace(b"keep-alive", b"keep-alive\r\n%b: %d" % (header.encode(), number)))
    assert len(heads._newer) + len(heads._older) == 1
    assert heads.find(GET) is not None


def test_the_parser_is_asked_what_ends_a_head() -> None:
    heads = Heads()
    for _ in range(2):
        heads.keep(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", {"http_version": "1.1", "headers": []}, 0)
    assert not heads._newer
