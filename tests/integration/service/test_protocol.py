"""Heads and bodies as clients really send them, byte for byte: no request is ever made of another's body, offers of
other protocols are ignored, what is complete is answered first, and what is no HTTP is refused.
"""

import contextlib
import http.client
import io
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import httpx
import pytest
import requests

from service.settings import Settings
from tests.support.servers import running
from tests.support.service_bundle import user_ids

USERS = user_ids()
BODY = json.dumps({"user": USERS[5], "k": 3}).encode()
# A whole request that stores an event: as a body it is no JSON, and must never be run.
PLANTED_EVENT = json.dumps({"events": [{"id": "planted", "user": USERS[8], "target": USERS[9]}]}).encode()
PLANTED = (
    b"POST /v1/engagements HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(PLANTED_EVENT), PLANTED_EVENT)
)
SETTINGS = b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
OFFERS = {
    "java": b"Connection: Upgrade, HTTP2-Settings\r\n" + SETTINGS + b"Upgrade: h2c\r\n",
    "curl": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + SETTINGS,
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==\r\n",
    "several": b"Connection: keep-alive, upgrade\r\nUpgrade: TLS/1.0, HTTP/2.0\r\n",
    "twice": b"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "none": b"",
}


@pytest.fixture(scope="module")
def url(made_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of this module's own: what is stored by mistake is seen here."""
    state, hosts = tmp_path_factory.mktemp("state") / "events.db", ("localhost", "127.0.0.1")
    with running(Settings(bundles=made_bundles, state=state, hosts=hosts)) as address:
        yield address


class _Connection:
    """A raw connection whose answers are read one after the other."""

    def __init__(self, url: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 80), timeout=20)
        self._reader = self._socket.makefile("rb")

    def send(self, *parts: bytes) -> "_Connection":
        for part in parts:
            self._socket.sendall(part)
            if len(parts) > 1:
                time.sleep(0.005)
        return self

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; (0, b"") when the connection is closed."""
        status, _, body = self.whole()
        return status, body

    def whole(self) -> tuple[int, Message, bytes]:
        """The same with the headers."""
        head = b""
        with contextlib.suppress(ConnectionError):
            while not head.endswith(b"\r\n\r\n") and (line := self._reader.readline()):
                head += line
        if not head:
            return 0, Message(), b""
        headers = http.client.parse_headers(io.BytesIO(head.partition(b"\r\n")[2]))
        return int(head.split()[1]), headers, self._reader.read(int(headers["content-length"] or 0))

    def stop_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self._reader.close()
        self._socket.close()


@pytest.fixture
def connection(url: str) -> Iterator[_Connection]:
    made = _Connection(url)
    yield made
    made.end()


@pytest.fixture
def keyed(made_bundles: Path, tmp_path: Path) -> Iterator[_Connection]:
    """A connection to a service that needs keys."""
    keys = {"read_keys": "reads", "write_keys": "writes"}
    with running(Settings(bundles=made_bundles, state=tmp_path / "events.db", **keys)) as address:  # type: ignore[arg-type]
        made = _Connection(address)
        yield made
        made.end()


def _post(extra: bytes, body: bytes, path: bytes = b"/recommend") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b" % (path, extra)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _chunked(extra: bytes, body: bytes, trailers: bytes = b"") -> bytes:
    chunks = b"".join(
        b"%x;name=value\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
    )
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b" % extra
    return head + b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (chunks, trailers)


def _nothing_was_stored(url: str) -> bool:
    return bool(httpx.delete(f"{url}/v1/users/{USERS[8]}/engagements").json()["removed"] == 0)


NEXT = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("packets", ["one", "head and body", "bytes"])
def test_an_offer_of_another_protocol_is_ignored(
    connection: _Connection, offer: str, framing: str, packets: str
) -> None:
    request = _post(OFFERS[offer], BODY) if framing == "length" else _chunked(OFFERS[offer], BODY)
    if packets == "one":
        connection.send(request + NEXT)
    elif packets == "head and body":
        head, _, body = request.partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n", body, NEXT)
    else:
        for at in range(len(request)):
            connection.send(request[at : at + 1])
        connection.send(NEXT)
    status, body = connection.answer()
    assert (status, len(json.loads(body)["candidates"])) == (200, 3)
    assert connection.answer() == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_without_a_body_is_an_ordinary_request(connection: _Connection, offer: str) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % OFFERS[offer]
    connection.send(request + request + NEXT)
    for _ in range(3):
        assert connection.answer() == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("path", [b"/recommend", b"/v1/users/1/interests", b"/nowhere"])
@pytest.mark.parametrize("packets", [1, 2])
def test_a_declared_body_is_never_run(url: str, connection: _Connection, offer: str, path: bytes, packets: int) -> None:
    for method in (b"POST", b"GET", b"DELETE", b"OPTIONS"):
        request = _post(OFFERS[offer], PLANTED, path).replace(b"POST", method, 1)
        head, _, body = request.partition(b"\r\n\r\n")
        connection.send(*([request] if packets == 1 else [head + b"\r\n\r\n", body]))
        assert connection.answer()[0] in (200, 204, 400, 404, 405)
    connection.send(NEXT)
    assert connection.answer() == (200, b'{"status":"ok"}')
    assert _nothing_was_stored(url)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 7\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b" folded: yes\r\n",
        b"Host: elsewhere\r\n",
    ],
)
@pytest.mark.parametrize("offer", ["none", "java"])
def test_framing_that_two_readers_could_read_in_two_ways_is_refused(url: str, framing: bytes, offer: str) -> None:
    made = _Connection(url)
    head = (
        b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + OFFERS[offer] + framing
    )
    made.send(head + b"\r\n" + PLANTED)
    assert made.answer()[0] == 400
    assert made.answer()[0] == 0, "closed: nobody knows where the next request begins"
    made.end()
    assert _nothing_was_stored(url)


def test_a_refusal_is_a_problem_and_waits_for_the_answers_before_it(connection: _Connection) -> None:
    connection.send(_post(b"", BODY) + NEXT + b"NONSENSE\r\n\r\n" + PLANTED)
    assert connection.answer()[0] == 200
    assert connection.answer() == (200, b'{"status":"ok"}')
    status, body = connection.answer()
    assert (status, json.loads(body)["code"]) == (400, "malformed")
    assert connection.answer()[0] == 0


NO_PATHS = {
    "of another machine": (b"CONNECT localhost:1", 400),
    "without a slash": (b"GET livez", 400),
    "no UTF-8": (b"GET /recommend/%ff", 400),
    "half a surrogate": (b"GET /recommend/%ed%a0%80", 400),
    "a slash written long": (b"GET /recommend/%c0%af", 400),
    "no UTF-8 in a whole address": (b"GET http://localhost/recommend/%fe", 400),
    "by another protocol": (b"GET ftp://localhost/v1/info", 400),
    "by none": (b"GET localhost://v1/info", 400),
    "too long": (b"GET /" + b"1" * 65_536, 431),
}


@pytest.mark.parametrize("name", NO_PATHS)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_what_asks_for_no_path_is_refused_after_the_answers_before_it(
    connection: _Connection, name: str, before: int
) -> None:
    head, status = NO_PATHS[name]
    connection.send(_post(b"", BODY) * before + head + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert [connection.answer()[0] for _ in range(before + 2)] == [200] * before + [status, 0]


@pytest.mark.parametrize(
    "sent", ["GET /recommend/zoë HTTP/1.1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 5 6\r\n", "\x16\x03\x01"]
)
def test_what_is_no_http_is_told_what_is(connection: _Connection, sent: str) -> None:
    connection.send(sent.encode() + b"host: localhost\r\n\r\n")
    status, body = connection.answer()
    detail = json.loads(body)["detail"]
    assert (status, "TLS" in detail, "percent-encoded" in detail) == (400, True, True)


def test_options_of_no_path_are_answered(connection: _Connection) -> None:
    """As HAProxy's checks may ask."""
    connection.send(b"OPTIONS * HTTP/1.1\r\nhost: www\r\n\r\nGET * HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert connection.answer() == (204, b"")
    assert connection.answer()[0] == 404


ADDRESSES = {
    "http://localhost": 200,
    "http://localhost?x=1": 200,
    "http://localhost/v1/info": 200,
    "HTTPS://127.0.0.1:99/v1/search?q=1": 200,
    f"http://localhost/recommend/{USERS[5]}?filter=%7B%22ids%22:%5B%22http://x/y?z%22%5D%7D": 200,
    "http://localhost/recommend/http://x": 200,
    "http://evil.example/v1/info": 421,
    "http://evil.example": 421,
}
NO_ADDRESSES = [
    "http:///v1/info",
    "http://:8000/v1/info",
    "http://?x=1",
    "http://",
    "https:////v1/info",
    "http://user@localhost/v1/info",
    "http://localhost:x@evil.example/v1/info",
    "http://[::1/v1/info",
    "http://local\\host/v1/info",
    "http://localhost:port/v1/info",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("header", [b"Host: localhost\r\n", b"Host:\r\n", b"Host: evil.example\r\n"])
def test_of_a_whole_address_the_host_counts_and_not_the_headers(
    connection: _Connection, address: str, header: bytes
) -> None:
    connection.send(NEXT + b"GET %b HTTP/1.1\r\n%b\r\n" % (address.encode(), header) + NEXT)
    assert [connection.answer()[0] for _ in range(3)] == [200, ADDRESSES[address], 200]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_address_of_no_host_is_refused(connection: _Connection, address: str) -> None:
    connection.send(NEXT + b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % address.encode())
    assert [connection.answer()[0] for _ in range(3)] == [200, 400, 0]


HEADS = {
    b"GET /livez HTTP/1.1\r\n": 400,
    b"GET /livez HTTP/1.0\r\n": 200,
    b"GET /livez HTTP/1.1\r\nHost:\r\n": 200,
    b"GET /livez HTTP/1.1\r\nHost: ::1\r\n": 200,
    b"GET /livez HTTP/1.1\r\nHost: localhost:x@evil.example\r\n": 400,
    b"GET /livez HTTP/1.1\r\nHost: localhost, evil.example\r\n": 400,
    b"GET /livez HTTP/1.1\r\nHost: localhost/evil\r\n": 400,
    b"GET /livez HTTP/1.1\r\nHost: [::1\r\n": 400,
    b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n": 400,
    b"GET /livez HTTP/1.0\r\nHost: a\r\nHost: a\r\n": 400,
}


@pytest.mark.parametrize("head", HEADS)
def test_a_request_is_addressed_to_one_host(connection: _Connection, head: bytes) -> None:
    connection.send(NEXT + head + b"\r\n")
    assert [connection.answer()[0] for _ in range(2)] == [200, HEADS[head]]


JSON_LINE, OCTETS_LINE = b"Accept: application/json;q=0.5\r\n", b"Accept: application/octet-stream\r\n"
LISTS = {
    OCTETS_LINE: b"application/octet-stream",
    OCTETS_LINE + JSON_LINE: b"application/octet-stream",
    JSON_LINE + OCTETS_LINE: b"application/octet-stream",
    JSON_LINE + b"Accept: */*;q=0.1\r\n": b"application/json",
    b"Accept:\r\n" + OCTETS_LINE: b"application/octet-stream",
    b"Accept: text/html\r\nAccept: image/png\r\n": b"application/problem+json",
}
ONLY_ONCE = {
    "Content-Type": (b"application/json", b"text/plain"),
    "Authorization": (b"Bearer writes", b"Bearer reads"),
    "X-Api-Key": (b"writes", b"reads"),
    "Origin": (b"http://localhost", b"http://evil.example"),
    "Sec-Fetch-Site": (b"same-origin", b"cross-site"),
    "X-Request-Timeout-Ms": (b"9000", b"9001"),
}


@pytest.mark.parametrize("lines", LISTS)
def test_the_lines_of_a_list_are_one(connection: _Connection, lines: bytes) -> None:
    body = b'{"type": "user", "ids": ["1"]}'
    request = (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)
    )
    for _ in range(3):  # the head is known by then
        assert connection.send(request).whole()[1]["content-type"].encode() == LISTS[lines]


def test_a_document_is_had_already_whichever_line_names_it(connection: _Connection) -> None:
    request = b"GET /v1/map HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    etag = connection.send(request % b"").whole()[1]["etag"].encode()
    for tags in ((etag, b'"other"'), (b'"other"', etag)):
        lines = b"".join(b"If-None-Match: %b\r\n" % tag for tag in tags)
        assert connection.send(request % lines).answer()[0] == 304, tags


@pytest.mark.parametrize("name", ONLY_ONCE)
@pytest.mark.parametrize("same", [True, False])
def test_what_may_stand_once_is_refused_twice(keyed: _Connection, name: str, *, same: bool) -> None:
    first, second = ONLY_ONCE[name]
    given = {b"Content-Type": b"application/json"} | ({} if name == "Authorization" else {b"X-Api-Key": b"writes"})
    given.pop(name.encode(), None)
    lines = [*given.items(), (name.encode(), first), (name.encode(), first if same else second)]
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    event = json.dumps({"events": [{"id": "once", "user": USERS[7], "target": USERS[9]}]}).encode()
    for _ in range(3):
        keyed.send(
            b"POST /v1/engagements HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
            % (head, len(event), event)
        )
        status, body = keyed.answer()
        assert (status, json.loads(body)["code"]) == (400, "malformed")
        assert json.loads(body)["detail"] == f"{name} is given more than once"


def test_a_key_is_given_once_also_beside_another(keyed: _Connection) -> None:
    keyed.send(
        b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer reads\r\n"
        b"X-Api-Key: reads\r\nX-Api-Key: writes\r\n\r\n"
    )
    status, body = keyed.answer()
    assert (status, json.loads(body)["detail"]) == (400, "X-Api-Key is given more than once")


UNFIT = {
    b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n": "Host is given more than once",
    b"GET /livez HTTP/1.1\r\nAccept: */*\r\n": "Host is missing",
    b"GET /livez HTTP/1.1\r\nHost: a/b\r\n": "Host is no name or address",
    b"GET ftp://x/livez HTTP/1.1\r\nHost: a\r\n": "another scheme",
    b"GET http:///livez HTTP/1.1\r\nHost: a\r\n": "an address of no host",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n": "Duplicate Content-Length",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nSecret-Word: \x01\r\n": "HTTP/1.1 does not allow",
    b"GET /%ff HTTP/1.1\r\nHost: a\r\n": "must be percent-encoded UTF-8",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": "neither TLS",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n": "neither TLS",
}


@pytest.mark.parametrize("head", UNFIT)
def test_what_is_wrong_with_a_request_is_said_and_no_other_thing(connection: _Connection, head: bytes) -> None:
    connection.send(head + b"\r\n")
    status, body = connection.answer()
    assert (status, json.loads(body)["code"]) == (400, "malformed")
    assert UNFIT[head] in json.loads(body)["detail"]
    assert b"ecret" not in body


def test_a_body_that_is_declared_too_large_is_not_asked_for(connection: _Connection) -> None:
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.send(head + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
    assert [connection.answer()[0] for _ in range(2)] == [413, 0]


def test_http_1_0_is_not_told_to_go_on(connection: _Connection) -> None:
    connection.send(_post(b"Expect: 100-continue\r\n", BODY).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert [connection.answer()[0] for _ in range(2)] == [200, 0]


def test_a_fault_in_a_body_whose_turn_has_not_come_waits_too(connection: _Connection) -> None:
    broken = _chunked(b"", BODY).replace(b"\r\n0\r\n", b"\r\nzz\r\n")
    connection.send(_post(b"", BODY) + broken)
    assert connection.answer()[0] == 200
    assert connection.answer()[0] == 400
    assert connection.answer()[0] == 0


def test_complete_requests_are_answered_before_a_head_that_is_too_long(connection: _Connection) -> None:
    connection.send(NEXT * 20 + b"GET /livez HTTP/1.1\r\nx-long: " + b"a" * 400_000)
    for _ in range(20):
        assert connection.answer() == (200, b'{"status":"ok"}')
    status, body = connection.answer()
    assert (status, json.loads(body)["code"]) == (431, "head_too_large")


def test_a_head_is_counted_from_where_it_begins(connection: _Connection) -> None:
    long = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx-long: " + b"a" * 60_000
    connection.send(_post(b"", BODY + b" " * 60_000) + NEXT + long, b"\r\n\r\n" + long + b"\r\n\r\n")
    assert connection.answer()[0] == 200
    for _ in range(3):
        assert connection.answer() == (200, b'{"status":"ok"}')


def test_trailers_are_no_headers_and_have_an_end(url: str, connection: _Connection) -> None:
    connection.send(_chunked(b"", BODY, b"content-type: text/plain\r\nx-request-timeout-ms: soon\r\n") + NEXT)
    assert connection.answer()[0] == 200
    assert connection.answer() == (200, b'{"status":"ok"}')
    endless = _Connection(url)
    with contextlib.suppress(ConnectionError):
        endless.send(_chunked(b"", BODY, b"x-a: b\r\n" * 60_000))
    assert endless.answer()[0] == 431
    endless.end()


def test_a_client_that_waits_for_100_continue(url: str) -> None:
    head, _, body = _post(b"Expect: 100-continue\r\n", BODY).partition(b"\r\n\r\n")
    made = _Connection(url).send(head + b"\r\n\r\n")
    assert made.answer()[0] == 100
    made.send(body)
    assert made.answer()[0] == 200
    assert made.answer()[0] == 0
    made.end()
    refused = _Connection(url).send(head.replace(b"json", b"xml") + b"\r\n\r\n")
    assert refused.answer()[0] == 415, "at once, without the body"
    assert refused.answer()[0] == 0
    refused.end()


def test_a_client_that_stops_sending_gets_its_answers(url: str) -> None:
    made = _Connection(url).send(_post(b"", BODY) + _chunked(b"", BODY) + NEXT)
    made.stop_sending()
    assert [made.answer()[0] for _ in range(4)] == [200, 200, 200, 0]
    made.end()
    cut = _Connection(url).send(_post(b"", BODY)[:-5])
    cut.stop_sending()
    assert cut.answer()[0] == 0
    cut.end()


def test_a_body_in_a_coding_that_nobody_asked_for_is_refused(connection: _Connection) -> None:
    connection.send(_chunked(b"", BODY).replace(b": chunked", b": gzip, chunked"))
    assert connection.answer()[0] == 415


def test_an_answer_before_the_body_has_arrived_is_read_by_clients_that_go_on_sending(url: str) -> None:
    """Closing at once would reset the connection, and the answer with it."""
    for _ in range(5):
        response = httpx.post(
            f"{url}/recommend", content=b" " * (6 << 20), headers={"content-type": "application/json"}, timeout=20
        )
        assert (response.status_code, response.headers["connection"]) == (413, "close")


# What Java's HttpClient sends by default, byte for byte, but for the length and the framing's name.
JAVA = (
    b"POST /recommend HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n%bHost: 127.0.0.1:8000\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n%bUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15\r\ncontent-type: application/json\r\n\r\n"
)


def test_java(connection: _Connection) -> None:
    length = JAVA % (b"Content-Length: %d\r\n" % len(BODY), b"")
    chunked = JAVA % (b"", b"Transfer-encoding: chunked\r\n")
    for _ in range(2):
        connection.send(length, BODY)
        assert len(json.loads(connection.answer()[1])["candidates"]) == 3
        connection.send(chunked, b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n")
        assert len(json.loads(connection.answer()[1])["candidates"]) == 3


def test_clients_of_python(url: str) -> None:
    for offer in ({}, {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQ"}):
        question = {"user": USERS[5], "k": 3}
        for answer in (
            requests.post(f"{url}/recommend", json=question, headers=offer, timeout=20),
            httpx.post(f"{url}/recommend", json=question, headers=offer, timeout=20),
        ):
            assert len(answer.json()["candidates"]) == 3


@pytest.mark.parametrize(
    "options", [["--http2"], ["--http1.1"], ["--http1.0"], ["--http2", "-H", "Expect: 100-continue"]]
)
def test_curl(url: str, options: list[str]) -> None:
    command = ["curl", "-sS", *options, "-H", "content-type: application/json", "-d", BODY.decode(), f"{url}/recommend"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert len(json.loads(done.stdout)["candidates"]) == 3
