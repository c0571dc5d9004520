"""A server that answers as it is told, for what a service never does on demand: 503s, slow and foreign answers."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """A request as it arrived; `at` on the monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Said:
    """An answer: `body` as JSON unless it is bytes; sent after `wait` seconds; `cut`: the connection ends instead."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: bool = False


Script = Callable[[Seen, int], Said]


@dataclass
class Scripted:
    """The server: its URL and what it was asked."""

    url: str
    seen: list[Seen]


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """A server on a free port that answers the n-th request, from 0 on, with `script(request, n)`."""
    seen: list[Seen] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Seen(self.command, self.path, headers, body, time.monotonic())
            with lock:
                number = len(seen)
                seen.append(request)
            said = script(request, number)
            time.sleep(said.wait)
            with contextlib.suppress(OSError):
                self.say(said)

        def say(self, said: Said) -> None:
            if said.cut:
                self.close_connection = True
                return
            content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in {"content-type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that gives up is what some of these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Scripted(f"http://127.0.0.1:{server.server_address[1]}", seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(code: str, status: int, **headers: str) -> Said:
    """A problem document."""
    document = {"type": f"urn:twhin:problem:{code}", "title": "t", "status": status, "code": code, "detail": "why"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said({**document, "request_id": "r-1"}, status, named)
