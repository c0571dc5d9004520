"""Who sends slowly waits alone: bodies and heads that drip from many connections take nothing from others."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.held_back import LONGEST_SECONDS
from service.settings import Limits
from tests.support.service_bundle import user_ids

USERS = user_ids()
Start = Callable[..., httpx.Client]
HEAD = (
    b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
    b"x-request-timeout-ms: %d\r\n\r\n"
)
CONNECTIONS = 200


@contextlib.contextmanager
def _dripping(client: httpx.Client, sent: bytes) -> Iterator[list[socket.socket]]:
    """Many connections that have sent this much and no more."""
    address = (client.base_url.host, client.base_url.port or 80)
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(CONNECTIONS)]
        for connection in made:
            connection.sendall(sent)
        yield made


@pytest.mark.parametrize("sent", [HEAD % 10_000 + b"{", HEAD % 10_000, b"POST /recommend HT"])
def test_slow_senders_take_no_slot(start: Start, sent: bytes) -> None:
    client = start(limits=Limits(timeout_ms=10_000, concurrency_max=2))
    with _dripping(client, sent):
        for _ in range(20):
            assert client.post("/recommend", json={"user": USERS[5], "k": 3}).status_code == 200
        assert "twhin_http_inflight_requests 0.0" in client.get("/metrics").text


def test_a_body_that_is_too_slow_ends_its_connection(start: Start) -> None:
    client = start()
    with _dripping(client, HEAD % 300 + b"{") as connections:
        for connection in connections[:20]:
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(4096):  # to the end: the connection is closed
                    answer += part
            assert answer.startswith(b"HTTP/1.1 504 ")
            assert b"\r\nconnection: close\r\n" in answer


def test_bodies_that_are_arriving_have_a_bound_of_their_own(start: Start) -> None:
    client = start(limits=Limits(timeout_ms=10_000, concurrency_max=2, body_max_bytes=10_000))
    large = HEAD.replace(b"100", b"9000") % 10_000 + b" " * 5000
    with _dripping(client, large) as connections:
        time.sleep(0.5)
        connections[-1].sendall(b" ")
        assert connections[-1].recv(4096).startswith(b"HTTP/1.1 503 ")
        assert client.post("/recommend", json={"user": USERS[5], "k": 3}).status_code == 200


def test_a_request_without_room_is_refused_before_its_body_and_the_next_is_answered(start: Start) -> None:
    client = start(limits=Limits(timeout_ms=10_000, concurrency_max=1))
    address = (client.base_url.host, client.base_url.port or 80)
    heavy = {"users": USERS[:64], "k": 300, "strategy": "mixture"}
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            assert client.post("/recommend:batch", json=heavy).status_code in (200, 503)

    with ThreadPoolExecutor(2) as pool, socket.create_connection(address, timeout=20) as connection:
        busy = [pool.submit(keep_busy) for _ in range(2)]  # one is in work nearly always
        try:
            for _ in range(50):
                connection.sendall(HEAD % 10_000)
                connection.settimeout(LONGEST_SECONDS + 0.5)  # who was refused before is not read for a while
                answer = b""
                with contextlib.suppress(TimeoutError):
                    answer = connection.recv(65536)
                if answer:
                    break
                connection.settimeout(20)
                connection.sendall(b" " * 98 + b"{}")  # it was let in: nothing was in work just then
                assert connection.recv(65536).startswith((b"HTTP/1.1 422 ", b"HTTP/1.1 503 "))
        finally:
            done.set()
        for one in busy:
            one.result()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert answer.endswith(b"}")
        connection.settimeout(20)
        connection.sendall(b" " * 98 + b"{}" + b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(65536).endswith(b'{"status":"ok"}')
        assert 'twhin_shed_total{reason="concurrency"}' in client.get("/metrics").text
