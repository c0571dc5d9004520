"""Answers that leave whole are the answers that ASGI would send in parts, byte for byte, and only where that can be."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from service.call import WHOLE_ANSWER
from service.http_protocol import HttpProtocol
from service.settings import Settings
from tests.support.servers import running
from tests.support.service_bundle import user_ids

LENGTH, BODY = b"content-length: 4\r\n\r\n", b"body"


class _App:
    """Asks for a whole answer, notes whether that was done, and sends it in parts where it was not."""

    def __init__(self) -> None:
        self.whole: list[bool] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        answer_whole = scope["extensions"][WHOLE_ANSWER]

        async def another(message: dict[str, Any]) -> None:
            await send(message)

        how = scope["path"].removeprefix("/")
        if how == "begun":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        self.whole.append(answer_whole(another if how == "wrapped" else send, LENGTH, BODY))
        if not self.whole[-1]:
            if how != "begun":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": BODY})
        elif how == "twice":
            self.whole.append(answer_whole(send, LENGTH, BODY))


@contextlib.contextmanager
def _served(app: _App) -> Iterator[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        loop="asyncio",
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("request_line", "headers", "whole"),
    [
        ("GET /plain HTTP/1.1", "", [True]),
        ("GET /twice HTTP/1.1", "", [True, False]),
        ("GET /begun HTTP/1.1", "", [False]),
        ("GET /wrapped HTTP/1.1", "", [False]),
        ("GET /plain HTTP/1.1", "connection: close\r\n", [False]),
        ("GET /plain HTTP/1.0", "", [False]),
        ("HEAD /plain HTTP/1.1", "", [False]),
    ],
)
def test_an_answer_is_whole_where_nobody_has_to_add_anything(
    request_line: str, headers: str, whole: list[bool]
) -> None:
    app = _App()
    with _served(app) as client:
        client.sendall(f"{request_line}\r\nhost: localhost\r\n{headers}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n" if request_line.startswith("HEAD") else BODY):
            answer += client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        assert answer.count(b"content-length: 4\r\n") == 1
    assert app.whole == whole


def test_answers_that_are_due_one_after_the_other_stay_in_order() -> None:
    app = _App()
    with _served(app) as client:
        paths = ("plain", "wrapped", "plain", "plain", "wrapped")
        client.sendall(b"".join(b"GET /%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode() for path in paths))
        answer = b""
        while answer.count(BODY) < len(paths):
            answer += client.recv(4096)
        one = b"HTTP/1.1 200 OK\r\ndate\r\n" + LENGTH + BODY
        assert re.sub(rb"date: [^\r]*", b"date", answer) == one * len(paths)
    assert app.whole == [True, False, True, True, False]


def _exchange(url: str, request: bytes) -> bytes:
    """What the service answers to a request after which it closes the connection, or the first of its answers."""
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 80), timeout=20) as client:
        client.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += client.recv(1 << 16)
        return head + b"\r\n\r\n" + body


def test_the_service_s_answers_are_the_same_whole_and_in_parts(made_bundles: Path, tmp_path: Path) -> None:
    def asked(headers: bytes) -> bytes:
        body = b'{"user": "%b", "k": 5}' % user_ids()[3].encode()
        head = b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-request-id: one\r\n"
        answer = _exchange(url, head + headers + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        return re.sub(rb"date: [^\r]*", b"date", answer)

    settings = Settings(bundles=made_bundles, state=tmp_path / "e.db", cors_origins=("https://ranker.example",))
    with running(settings) as url:
        whole, parts = asked(b""), asked(b"connection: close\r\n")
        assert b'"request_id":"one"' in whole
        assert whole.startswith(b"HTTP/1.1 200 OK\r\ndate\r\nx-request-id: one\r\n")
        assert parts.replace(b"connection: close\r\n", b"") == whole
        # Somebody stands in between, who adds a header: it is not passed by.
        assert b"access-control-allow-origin: https://ranker.example" in asked(b"origin: https://ranker.example\r\n")
