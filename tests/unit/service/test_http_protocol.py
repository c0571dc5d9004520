"""What one connection is to the whole worker: each place is given back, and a request waits for nobody but the server.

On both event loops: they differ in what comes first, a callback or what a socket has.
"""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.call import WHOLE_ANSWER, Call, Reply, Scope
from service.gateway import Gateway, Waited
from service.held_back import LONGEST_SECONDS
from service.http_protocol import Connection, HttpProtocol
from service.route import Route
from service.runtime import Runtime
from service.settings import Settings
from service.turns import TURN_SECONDS
from service.wire.recommend import BatchBody

FIRST = b"GET /first HTTP/1.1\r\nhost: localhost\r\n\r\n"
HEAD = b"POST /second HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
UNREAD = HEAD.replace(b"application/json", b"text/plain")
KEEP_ALIVE = 1
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Transport:
    """uvloop's transport as what it is used for: it is no subclass, and the checks of types under pytest ask."""

    __class__ = asyncio.Transport  # type: ignore[assignment]

    def __init__(self, of: asyncio.Transport) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


class Checked(HttpProtocol):
    """The protocol over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.lost = asyncio.Event()
        super().connection_made(Transport(transport))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


class Service(Gateway):
    """A gateway of two routes, of which the first answers when it is let, and remembers how long each had waited."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.asked = runtime, list[tuple[str, float]]()
        self.bodies, self.scopes = list[bytes](), list[Scope]()
        self.came, self.begun, self.let = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.answer = b"{}"
        self.for_pages = False  # which need headers that only the framework's layer adds: see main
        super().__init__(
            FastAPI(),
            runtime,
            [
                Route("GET", "/first", self._first, "", "", scope="open"),
                Route("POST", "/second", self._second, "", "", scope="open", request=BatchBody),
            ],
        )

    async def _first(self, _: Call) -> Reply:
        self.begun.set()
        await self.let.wait()
        return Reply(self.answer)

    async def _second(self, call: Call) -> Reply:
        self.bodies.append(call.body)
        return Reply(b"{}")

    def turned_away(self, scope: Scope, last: bool, waited: Waited, *, refuse: bool = True) -> bytes | None:
        self.asked.append((scope["path"], waited()))
        self.scopes.append(scope)
        self.came.set()
        return super().turned_away(scope, last, waited, refuse=refuse and not self.for_pages)

    def refused(self, read: bytes, waited: Waited) -> bytes | None:
        return None if self.for_pages else super().refused(read, waited)


Ask = Callable[[Service, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[Service, int]]:
    """A service with its port, over no version."""
    runtime = Runtime(Settings(bundles=directory, state=directory / "events.db"))
    await runtime.start()
    service = Service(runtime)
    config = Config(service, http=Checked, log_config=None, timeout_keep_alive=KEEP_ALIVE)
    config.load()
    config.loaded_app = service
    server = await asyncio.get_running_loop().create_server(
        lambda: Checked(config, ServerState(), app_state={}), "127.0.0.1", 0
    )
    try:
        yield service, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runtime.stop()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Ask], None]:
    """Run what one client of a service does."""

    async def whole(ask: Ask) -> None:
        async with serving(tmp_path) as (service, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                async with asyncio.timeout(30):
                    await ask(service, reader, writer)
            finally:
                writer.close()
                await asyncio.sleep(0.1)  # uvloop does not end before its connections

    def started(ask: Ask) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(whole(ask))

    return started


async def answers(reader: asyncio.StreamReader, n: int) -> bytes:
    """What came until there are `n` answers of two bytes."""
    return b"".join([await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2) for _ in range(n)])


def test_a_place_is_taken_once_and_given_back(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        admission, turns = service.runtime.admission, service.turns
        for _ in range(5):
            service.let.clear()
            service.begun.clear()
            writer.write(FIRST + HEAD)
            await service.begun.wait()
            writer.write(b"{}")  # lies in the socket: behind an answer nothing is read
            await asyncio.sleep(0.02)
            service.let.set()
            turns._spent = TURN_SECONDS  # by somebody else
            asyncio.get_running_loop().call_later(0.05, turns._next)
            assert (await answers(reader, 2)).count(b"200 OK") == 2
            assert (admission.arrived, admission.inflight) == (0, 0)

    run(ask)


def test_a_request_in_the_pipeline_waits_for_its_own_client(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FIRST + HEAD + b"{}")
        await asyncio.sleep(0.5)
        service.let.set()
        await answers(reader, 2)
        assert service.asked[1] == ("/second", 0.0)

    run(ask)


def test_a_connection_is_idle_after_a_body_that_nobody_read(run: Callable[[Ask], None]) -> None:
    async def ask(_: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UNREAD)
        assert b" 415 " in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.5 * KEEP_ALIVE)
        writer.write(b"{}")
        await reader.read()  # to its end

    run(ask)


def test_a_connection_at_rest_keeps_nothing_of_a_body(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (b"{}", b"[]", b"{}"):  # by a head that is new, that comes again, and that is known
            writer.write(HEAD + body)
            await answers(reader, 1)
        assert service.bodies == [b"{}", b"[]", b"{}"]
        assert [("twhin.head" in scope, bytes(scope["twhin.body"])) for scope in service.scopes] == [
            (False, b""),
            (False, b""),
            (True, b""),
        ]

    run(ask)


def test_nobody_is_answered_who_has_gone_before_it_began(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        admission, turns = service.runtime.admission, service.turns
        writer.write(HEAD + b"{}")
        await answers(reader, 1)
        turns._spent = TURN_SECONDS  # by somebody else
        service.came.clear()
        writer.write(HEAD + b"{}")
        await service.came.wait()
        reset = struct.pack("ii", 1, 0)  # who merely ends its side may still wait for the answer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        assert (admission.arrived, admission.inflight) == (1, 0)
        turns._next()
        await asyncio.sleep(0.1)
        assert (admission.arrived, admission.inflight) == (0, 0)
        assert service.bodies == [b"{}"]

    run(ask)


class Full:
    """While it is entered, `service` is full, and refusals have used up what time they may take."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __enter__(self) -> None:
        self._service.runtime.admission.inflight += 1 << 20
        self._service.held_back._allowance._paid = time.monotonic() + 60

    def __exit__(self, *_: object) -> None:
        self._service.runtime.admission.inflight -= 1 << 20


async def refused(reader: asyncio.StreamReader) -> bytes:
    """The head of a refusal."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 503 " in head
    await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return head


async def nothing(reader: asyncio.StreamReader, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), seconds)


def test_who_was_refused_and_asks_at_once_is_heard_when_there_is_room(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            for part in (HEAD, b"{}"):  # in pieces, of which the first is refused
                writer.write(part)
                await asyncio.sleep(0.02)
            await refused(reader)
            writer.write(HEAD + b"{}")
            await nothing(reader, 0.2)
            others, their_writer = await asyncio.open_connection(*writer.get_extra_info("peername"))
            their_writer.write(HEAD + b"{}")
            await asyncio.wait_for(refused(others), 0.5)
        assert service.bodies == []
        await asyncio.wait_for(answers(reader, 1), 0.5)
        assert service.bodies == [b"{}"]
        their_writer.close()

    run(ask)


def test_who_was_refused_hears_no_again_though_the_service_stays_full(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(HEAD + b"{}")
            await refused(reader)
            writer.write(HEAD + b"{}")
            started = time.monotonic()
            await refused(reader)  # a connection that rests for as long is closed: see KEEP_ALIVE
            assert 0.9 * LONGEST_SECONDS < time.monotonic() - started < LONGEST_SECONDS + 0.5

    run(ask)


def test_a_service_that_ends_answers_who_is_held_back(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(HEAD + b"{}")
            await refused(reader)
            writer.write(HEAD + b"{}")
            await nothing(reader, 0.05)
            service.runtime.draining = True
            assert b"connection: close" in await asyncio.wait_for(refused(reader), 0.5)

    run(ask)


def test_what_has_waited_past_its_deadline_is_not_worked_on(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(HEAD + b"{}")
            await refused(reader)
            writer.write(HEAD.replace(b"\r\nhost", b"\r\nx-request-timeout-ms: 100\r\nhost") + b"{}")
            await asyncio.sleep(0.3)
        assert b" 504 " in await reader.readuntil(b"\r\n\r\n")
        assert service.bodies == []

    run(ask)


def test_who_is_held_back_and_goes_is_let_go(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(HEAD + b"{}")
            await refused(reader)
            (connection,) = service.held_back._until
            writer.close()
            await asyncio.sleep(LONGEST_SECONDS + 0.2)
        assert isinstance(connection, HttpProtocol)
        assert connection.transport.is_closing()
        assert not service.held_back._until

    run(ask)


def test_each_refusal_of_one_read_is_heeded(run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told, refuse = list[int](), service.held_back.refused

        def noted(connection: HttpProtocol, began: float, number: int) -> bool:
            told.append(number)
            return refuse(connection, began, number)

        monkeypatch.setattr(service.held_back, "refused", noted)
        with Full(service):
            writer.write(5 * (HEAD + b"{}"))
            for _ in range(5):
                await refused(reader)
        assert told == [5]

    run(ask)


@pytest.mark.parametrize("parts", [[HEAD + b"{}"], [HEAD, b"{}"]])
def test_who_was_refused_after_being_let_in_is_held_back(run: Callable[[Ask], None], parts: list[bytes]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service.for_pages = True
        with Full(service):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.02)
            await refused(reader)
            writer.write(HEAD + b"{}")
            await nothing(reader, 0.2)
        await asyncio.wait_for(answers(reader, 1), 0.5)
        assert service.bodies == [b"{}"]

    run(ask)


def test_each_refusal_of_one_that_was_let_in_is_heeded(
    run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http_protocol.LONGEST_REFUSAL_SECONDS", 1e-9)

    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told, spent = list[float](), service.held_back.spent

        def noted(connection: HttpProtocol, seconds: float) -> bool:
            told.append(seconds)
            return spent(connection, seconds)

        monkeypatch.setattr(service.held_back, "spent", noted)
        service.for_pages = True
        with Full(service):
            writer.write(5 * (HEAD + b"{}"))
            for _ in range(5):
                await refused(reader)
        assert told == [pytest.approx(5e-9)]

    run(ask)


@pytest.mark.parametrize("last", [b"GET /nothing", b"OPTIONS /first"])  # which wait for something, and for nothing
def test_who_was_refused_is_held_back_whatever_else_is_answered_in_between(
    run: Callable[[Ask], None], last: bytes
) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(3 * (HEAD + b"{}") + last + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
            for _ in range(3):
                await refused(reader)
            assert b" 503 " not in await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            assert connection_of(service)._is_held

    run(ask)


def test_who_is_closed_while_held_back_stays_closed(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with Full(service):
            writer.write(HEAD + b"{}")
            await refused(reader)
            (connection,) = service.held_back._until
            assert isinstance(connection, HttpProtocol)
            connection.shutdown()
            connection.read_again()
            assert connection.flow.read_paused  # what comes yet is thrown away
            assert await asyncio.wait_for(reader.read(), 0.5) == b""
            writer.close()
            await asyncio.sleep(0.1)
            assert not service.held_back._until

    run(ask)


def test_a_request_that_is_cancelled_is_counted_as_what_its_client_gets(run: Callable[[Ask], None]) -> None:
    async def ask(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FIRST)
        await service.begun.wait()
        (task,) = connection_of(service).tasks
        task.cancel()
        assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
        counted = service.runtime.metrics.exposition().decode()
        start = 'twhin_http_requests_total{method="GET",route="/first",status_class='
        assert [line for line in counted.splitlines() if line.startswith(start) and not line.endswith(" 0.0")] == [
            f'{start}"5xx"}} 1.0'
        ]

    run(ask)


def connection_of(service: Service) -> Checked:
    """The connection on which the last request came."""
    connection = service.scopes[-1]["extensions"][WHOLE_ANSWER].__self__
    assert isinstance(connection, Checked)
    return connection


@asynccontextmanager
async def taking_nothing(
    service: Service, writer: asyncio.StreamWriter, sent: bytes, answer: int
) -> AsyncIterator[tuple[socket.socket, Checked]]:
    """The socket of another client that has `sent` something, and its connection, on which little fits: of an answer
    of so many bytes it has not taken a part.
    """
    service.answer = b" " * answer
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, writer.get_extra_info("peername"))
        await loop.sock_sendall(client, sent)
        await service.begun.wait()
        connection = connection_of(service)
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        service.let.set()
        yield client, connection


LAST = FIRST.replace(b"\r\nhost", b"\r\nconnection: close\r\nhost")


@pytest.mark.parametrize(
    ("sent", "answer", "then"),
    [
        (LAST, 1 << 15, b""),
        (LAST, 1 << 20, b""),
        (FIRST, 1 << 15, b""),  # and rests
        (FIRST, 1 << 20, b""),
        (FIRST, 1 << 15, b"GET /"),
        (FIRST, 1 << 20, b"GET /"),
        (FIRST, 1 << 15, b"no HTTP\r\n\r\n"),
        (FIRST, 1 << 15, b"shutdown"),
        (FIRST, 1 << 20, b"shutdown"),
    ],
)
def test_who_takes_nothing_is_let_go_however_the_connection_ends(
    run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch, sent: bytes, answer: int, then: bytes
) -> None:
    monkeypatch.setattr(HttpProtocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(Connection, "LINGER_SECONDS", 0.3)

    async def ask(service: Service, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with taking_nothing(service, writer, sent, answer) as (client, connection):
            await asyncio.sleep(0.1)
            assert connection.transport.unsent()
            if then == b"shutdown":
                connection.shutdown()
            else:
                await asyncio.get_running_loop().sock_sendall(client, then)
            await asyncio.wait_for(connection.lost.wait(), KEEP_ALIVE + 2)

    run(ask)


def test_who_takes_the_last_answer_slowly_gets_all_of_it(
    run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpProtocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(HttpProtocol, "TAKEN_BYTES", 1 << 10)

    async def ask(service: Service, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with taking_nothing(service, writer, LAST, 1 << 15) as (client, _connection):
            got = b""
            while part := await asyncio.get_running_loop().sock_recv(client, 1 << 10):
                got += part
                await asyncio.sleep(0.04)
            assert len(got.partition(b"\r\n\r\n")[2]) == 1 << 15

    run(ask)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_written_to_a_client_who_goes_in_the_same_turn_is_thrown_away(loop: str) -> None:
    faults: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *listener.getsockname())
            connection = Connection(Transport(transport), asyncio.get_running_loop())  # type: ignore[arg-type]
            transport.abort()
            connection.write(b"an answer")
            await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())
    assert faults == []
