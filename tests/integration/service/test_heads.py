"""The head of a request is bounded in size and in time, whatever the server beneath would take."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from service.http_protocol import HttpProtocol
from service.main import create_app
from service.settings import Settings

ASK = b"GET /livez HTTP/1.1\r\nhost: x\r\n"


class Hasty(HttpProtocol):
    """The same with less patience."""

    HEAD_SECONDS = 0.3


@pytest.fixture(scope="module")
def port(made_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service whose clients have 0.3 seconds for a head."""
    settings = Settings(bundles=made_bundles, state=tmp_path_factory.mktemp("state") / "events.db")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), http=Hasty, loop="asyncio", ws="none", log_config=None)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()
    listener.close()


def _answer(connection: socket.socket) -> bytes:
    """What comes back until the other side closes, or a whole head."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in received and (part := connection.recv(1 << 16)):
            received += part
    return received


@pytest.mark.parametrize("sent", [b"", b"GET /liv", ASK, ASK + b"x-a: b"])
def test_a_head_that_never_ends_is_cut_off(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        assert _answer(connection) == b""


@pytest.mark.parametrize("pause", [0.05, 0.2, 0.28])
def test_a_head_has_its_time_from_its_first_byte(port: int, pause: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(ASK + b"\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        time.sleep(pause)
        began = time.monotonic()
        connection.sendall(b"\r\n")  # an empty line before a request belongs to it
        assert _answer(connection) == b""
        assert 0.28 < time.monotonic() - began < 2, "0.3 s, and what a busy machine adds"


@pytest.mark.parametrize("path", [b"/livez", b"/nowhere", b"/docs"])
def test_the_rest_of_a_body_that_nobody_reads_has_as_long(port: int, path: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx" % path)
        assert _answer(connection).startswith(b"HTTP/1.1 ")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 5, "a moment for the answer to be read, then it is closed"


def test_a_head_that_never_ends_is_cut_off_after_a_good_request_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(ASK + b"\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(ASK)
        assert _answer(connection) == b""


@pytest.mark.parametrize("header", [b"x-a: " + b"a" * 400_000, b"x-a: b\r\n" * 60_000])
def test_a_head_that_is_too_long_is_refused(port: int, header: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(ASK + header)
        assert _answer(connection).startswith(b"HTTP/1.1 431")


def test_a_client_that_takes_no_answer_is_left(port: int) -> None:
    body = b'{"type": "user", "ids": [%b"0"]}' % (b'"0", ' * 999)
    request = ASK.replace(b"GET /livez", b"POST /v1/embeddings") + b"content-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request * 100)  # answers of some 20 MB, which no buffer between the two holds
        time.sleep(5)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                taken += len(part)
        assert taken < 15_000_000


def test_a_client_that_takes_its_answers_slowly_gets_them_all(port: int) -> None:
    body = b'{"type": "user", "ids": [%b"0"]}' % (b'"0", ' * 999)
    request = ASK.replace(b"GET /livez", b"POST /v1/embeddings") + b"content-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request * 60)
        received = b""
        while received.count(b"HTTP/1.1 200") < 60 or not received.endswith(b"}"):
            part = connection.recv(1 << 20)
            assert part, "it was cut off"
            received += part
            time.sleep(0.02)


def test_an_ordinary_client_notices_nothing(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(ASK + b"x-a: " + b"a" * 8000 + b"\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # between requests the connection may rest for as long as keep-alive says
