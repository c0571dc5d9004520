"""uvicorn's protocol, amended where strangers reach it: offers of another protocol are ignored, what is received is
bounded in size and time, refusals wait for the answers before them, and an answer's head and body leave in one write.

An application may hand over a whole answer (ASGI's `extensions`, under WHOLE_ANSWER) instead of sending its parts. It
begins when what was read is parsed, without a task of its own until it first waits: see `first_step`.
"""

import asyncio
import contextlib
import re
import socket
import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.call import WHOLE_ANSWER, Send, new_request_id
from service.first_step import begin
from service.heads import Head, Heads
from service.held_back import LONGEST_REFUSAL_SECONDS, HeldBack
from service.problems import CONTENT_TYPE, Problem
from service.turns import Turns

FRAMING = (b"content-length", b"transfer-encoding")
# A name or an address, and a port or none: what a request may be addressed to. It names no user.
AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")
# Of a header besides: an address of IPv6 without its brackets, as some clients write it.
HOST = re.compile(rb"%b|[0-9A-Fa-f:.]+" % AUTHORITY.pattern)
# A read is parsed in pieces of this size, so that what belongs to a head is known to within one of them.
PIECE_BYTES = 16 << 10
# In Linux's `struct tcp_info`: `tcpi_last_data_recv`.
LAST_DATA_RECEIVED = slice(52, 56)
HEAD_BYTES = 64 << 10
HEAD_TOO_LARGE = Problem("head_too_large", f"a head may have {HEAD_BYTES} bytes at most")
NO_HTTP = Problem(
    "malformed",
    "this is no HTTP/1.1 request: neither TLS nor another protocol is understood here, and what is not ASCII in a "
    "target must be percent-encoded UTF-8",
)
# The longest target that the parser takes apart.
PARSED_BYTES = (64 << 10) - 1
# Bytes of chunk sizes and the like for one byte of body: a client that sends single bytes as chunks needs 5.
OVERHEAD = 8


def _nothing(*_: Any) -> None:
    """What an application does that knows no admission."""


def _no_seconds() -> float:
    """How long a request waited in its socket that stood in the pipeline since: behind its own client's requests."""
    return 0.0


async def _unless_cancelled(app: Any, cycle: RequestResponseCycle, scope: Any, receive: Any, send: Any) -> None:
    """Run `app`. What is cancelled nonetheless at the server's end, as what waits for a client to take its answer, is
    no fault: the client hears it from the closed connection.
    """
    try:
        await app(scope, receive, send)
    except asyncio.CancelledError:
        cycle.disconnected = True
        cycle.transport.close()


class Connection:
    """A transport whose writes of one turn of the event loop leave together: each is a system call and wakes the
    client. When it is closed while the client is still sending, what comes is thrown away for a moment first: to
    close at once would reset the connection, and the answer with it.
    """

    LINGER_SECONDS: ClassVar[float] = 2.0

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._closing = False
        self.client_is_sending = False

    def write(self, data: bytes) -> None:
        """Send `data`, together with what else is written before the loop turns."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def write_now(self, data: bytes) -> None:
        """Send `data` after what is written already, without waiting for more."""
        if self._parts:
            self._parts.append(data)
            self._flush()
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():  # the client may have gone meanwhile
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what is left, then close."""
        if self._closing:
            return
        self._closing = True
        self._flush()
        if self.client_is_sending and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the client has gone
                self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(self.LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; whatever is not sent yet is thrown away."""
        self._closing = True
        self._transport.abort()

    def unsent(self) -> int:
        """How many bytes the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def waited(self) -> float:
        """For how many seconds the last bytes that came have been there, by the system's clock of milliseconds: in the
        socket, where nothing else sees them. 0 where the system does not tell.
        """
        try:
            known = self._borrowed()
            try:
                told = known.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECEIVED.stop)
            finally:
                known.detach()
        except (OSError, AttributeError):  # no TCP, or not on Linux
            return 0.0
        return int.from_bytes(told[LAST_DATA_RECEIVED], sys.byteorder) / 1000

    def has_unread(self) -> bool:
        """Whether something has come that the loop has not read yet."""
        known = self._borrowed()
        try:
            return bool(known.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:  # nothing has
            return False
        finally:
            known.detach()

    def _borrowed(self) -> socket.socket:
        """An object for a moment over the loop's own descriptor, which the loop closes: to be detached from it."""
        sock = self._transport.get_extra_info("socket")
        return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class _WholeCycle(RequestResponseCycle):
    """uvicorn's, of a request that is whole when it begins: what these start with is nearly always the same."""

    disconnected = False
    keep_alive = True
    waiting_for_100_continue = False
    more_body = False
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0

    def __init__(self, protocol: "HttpProtocol", scope: Any, body: bytes) -> None:
        self.scope = scope
        self.body = bytearray(body)
        self.transport = protocol.transport  # type: ignore[assignment]
        self.flow = protocol.flow
        self.logger, self.access_logger, self.access_log = protocol.logger, protocol.access_logger, protocol.access_log
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """That something has come, as at first all has: made when somebody waits, as few do."""
        event = asyncio.Event()
        event.set()
        return event


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a `Connection`.

    A head that is too long gets 431, a request that is no HTTP 400, each after the answers to the requests before it.
    A head that is too slow gets no answer, nor does the rest of a body that nobody reads: the connection is closed. So
    it is when a client takes its answer too slowly.
    """

    HEAD_BYTES: ClassVar[int] = HEAD_BYTES
    HEAD_SECONDS: ClassVar[float] = 10.0
    # The least that a client has to take of its answers in HEAD_SECONDS while more wait than the connection holds.
    TAKEN_BYTES: ClassVar[int] = 64 << 10

    transport: Connection  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = Connection(transport, self.loop)
        self._running: RequestResponseCycle | None = None
        self._refused: Callable[[bytes, Callable[[], float]], bytes | None] = getattr(self.app, "refused", _nothing)
        # Of every request of the connection the same. It leads back to this object, until the connection is lost.
        self._extensions: dict[str, Any] = {WHOLE_ANSWER: self._answer_whole}
        self._shared_scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "extensions": self._extensions,
        }
        self._turned_away: Callable[[Any, bool, Callable[[], float]], bytes | None] = getattr(
            self.app, "turned_away", _nothing
        )
        self._whole: Callable[[Any], None] = getattr(self.app, "whole", _nothing)
        self._turns: Turns = getattr(self.app, "turns", None) or Turns()
        self._heads: Heads = getattr(self.app, "heads", None) or Heads()
        self._held_back: HeldBack | None = getattr(self.app, "held_back", None)
        self._read_at = 0.0  # by the monotonic clock
        self._refused_at_once = 0  # requests, not heeded here yet
        self._refused_late = 0.0  # seconds that it took to refuse those that had been let in, not heeded yet
        self._is_held = False
        self._refusal: Problem | None = None
        self._hosts: list[bytes] | None = None
        self._replaying = False
        self._in_body = False
        self._between = True  # the parser has nothing of a request that it has not seen the end of
        self._parsing = False
        self._ready: tuple[RequestResponseCycle, Any] | None = None  # let in, to begin when what was read is parsed
        self._idle_since = self.loop.time()
        self._every: tuple[list[tuple[bytes, bytes]], bytes] = [], b""  # headers that every answer has, and their lines
        self._begun = 0  # requests, by the piece that was parsed last
        self._completed = 0
        self._overhead = self._body_bytes = 0
        self._stalled: tuple[float, int] | None = None  # since when, and how many bytes waited then
        # When a head, or the rest of a body that nobody reads, must have arrived.
        self._due: float | None = self.loop.time() + self.HEAD_SECONDS
        self._watch = self.loop.call_later(self.HEAD_SECONDS, self._close_if_due)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._held_back is not None:
            self._held_back.lost(self)
        self._watch.cancel()
        self._unset_keepalive_if_required()
        self._extensions.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection after the answers that are due, as the server does at its end."""
        if self._answers_are_due():
            super().shutdown()
        else:
            self.transport.client_is_sending = True  # it may be, just now
            self.transport.close()

    def _close_if_due(self) -> None:
        now = self.loop.time()
        if self._due is not None and now >= self._due:
            self._due = None
            self.transport.close()
        if self._takes_too_little(now):
            self.transport.abort()
            return
        # A head that begins just now is due one period later: nothing is overlooked for longer than it may take.
        self._watch = self.loop.call_at(self._due or now + self.HEAD_SECONDS, self._close_if_due)

    def _takes_too_little(self, now: float) -> bool:
        """Of a connection that is being closed every byte counts: it ends when the last one is taken."""
        unsent = self.transport.unsent()
        if not (self.flow.write_paused or (unsent and self.transport.is_closing())):
            return False
        if self._stalled is None:
            self._stalled = now, unsent
        since, before = self._stalled
        if now - since < self.HEAD_SECONDS:
            return False
        self._stalled = now, unsent
        return before - unsent < self.TAKEN_BYTES

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may stop sending when it has asked: it gets the answers to what is complete."""
        if self._in_body or not self._answers_are_due():
            return False
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        self._read_at = time.monotonic()
        between = self._between and self._nothing_is_due()
        if not (between and (self._refused_at_a_glance(data) or self._known(data))):
            self._read(data)
        if (self._refused_at_once or self._refused_late) and self._between and self._nothing_is_due():
            self._hold_back()

    def _read(self, data: bytes) -> None:
        if self._due is None and not self._in_body:
            self._due = self.loop.time() + self.HEAD_SECONDS
        between, self._parsing = self._between, True
        if len(data) <= PIECE_BYTES:
            if self._refusal is None and not self.transport.is_closing():
                self._parse(data)
        else:
            for start in range(0, len(data), PIECE_BYTES):
                if self._refusal is not None or self.transport.is_closing():
                    break
                self._parse(data[start : start + PIECE_BYTES])
        self._parsing = False
        if self._ready is not None:
            if between:  # or it begins with what is another request's
                self._remember(data)
            self._begin(*self._ready)

    def _nothing_is_due(self) -> bool:
        return self._refusal is None and not self._answers_are_due() and not self.transport.is_closing()

    def _known(self, data: bytes) -> bool:
        """Begin the request that `data` is, where its head is known. Whether it was."""
        found = self._heads.find(data)
        if found is None:
            return False
        head, body = found
        scope = self._scope_of(head)
        self.scope, self.headers, self.expect_100_continue = scope, scope["headers"], False
        self.cycle = cycle = _WholeCycle(self, scope, body)
        self._due, self._parsing = None, True
        self._start_asgi_task(cycle, self.app)
        self._parsing = False
        if self._ready is not None:
            self._begin(*self._ready)
        return True

    def _scope_of(self, head: Head) -> Any:
        """As the parser's callbacks make it; and the head."""
        return {
            **self._shared_scope,
            **head.scope,
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "state": self.app_state.copy(),
            "headers": list(head.scope["headers"]),
            "twhin.head": head,
        }

    def _remember(self, data: bytes) -> None:
        """Keep the head of `data`, where that was one whole request and nothing else."""
        cycle = self.cycle
        if self._begun == 1 and self._between and cycle.keep_alive and not self.pipeline and self._refusal is None:
            self._heads.keep(data, self.scope, len(cycle.body))

    def _refused_at_a_glance(self, data: bytes) -> bool:
        """Answer `data` where it is a whole request for which there is no room. Whether it was."""
        if len(data) > PIECE_BYTES or self.flow.write_paused:
            return False
        answer = self._refused(data, self.transport.waited)
        if answer is None:
            return False
        self.transport.write_now(answer)
        self._due = None
        self._rest_from_now()
        self._refused_at_once += 1
        return True

    def _hold_back(self) -> None:
        """Read no more for a while, where refusals take too long: those of what was read last are others."""
        refusals, self._refused_at_once = self._refused_at_once, 0
        late, self._refused_late = self._refused_late, 0.0
        if self._held_back is None:
            return
        held = bool(refusals) and self._held_back.refused(self, self._read_at, refusals)
        if late:
            held |= self._held_back.spent(self, late)
        if held:
            self._is_held = True
            self.flow.pause_reading()

    def read_again(self) -> None:
        """Read what has come since."""
        self._is_held = False
        if not self.transport.is_closing():
            self._rest_from_now()
            self.flow.resume_reading()

    def idle_seconds(self) -> float:
        """For how long nobody has waited for anything here: 0 in the middle of a request, and while the client has not
        taken all of its answers.
        """
        between = self._between and not self._is_held and self._nothing_is_due() and not self.transport.unsent()
        return self.loop.time() - self._idle_since if between else 0.0

    def close_if_silent(self) -> None:
        """Close the connection, unless something has come that is still to be read."""
        if not self.transport.has_unread():
            self.transport.close()

    def _rest_from_now(self) -> None:
        """Nothing is to be answered from now on. A timer for each answer would cost more than looking who has one."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle since long ago; look again when it may be."""
        self.timeout_keep_alive_task = None
        if self._due is not None or self._in_body or self._is_held or self._answers_are_due():
            return  # the last answer that is due sets the next timer, and so does being read again
        rest = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if rest > 0:
            self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _parse(self, data: bytes) -> None:
        self._begun = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._ignore_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(self._why_unread(error))
        else:
            if not self._begun:
                self._overhead += len(data)
            if self._overhead > self.HEAD_BYTES + OVERHEAD * self._body_bytes:
                self._refuse(HEAD_TOO_LARGE)

    def _why_unread(self, error: httptools.HttpParserError) -> Problem:
        """In words: the parser's own are of its making, and have nothing of what was sent."""
        ours = error.__context__  # what was raised where the parser calls back
        if isinstance(ours, Problem):
            return ours
        if len(self.url or b"") > PARSED_BYTES:
            return HEAD_TOO_LARGE
        if isinstance(ours, UnicodeDecodeError) or not self.headers:
            return NO_HTTP
        return Problem("malformed", f"a head or a body that HTTP/1.1 does not allow: {error}")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on with the request as if no other protocol had been offered, as HTTP lets a server do.

        The parser takes an offer for the end of HTTP: it would give the body to nobody, and run what follows as the
        next request. A new parser is shown where the body ends, by the headers that say so, and takes over.
        """
        framing = [b"%b: %b\r\n" % header for header in self.headers if header[0] in FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._replaying = True
        self._parse(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
        if rest and self._refusal is None:
            self._parse(rest)

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        super().on_message_begin()
        self._begun += 1
        self._between = False
        self.scope["extensions"] = self._extensions
        self._overhead = self._body_bytes = 0
        if self._due is None:
            self._due = self.loop.time() + self.HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not (self._replaying or self._in_body):  # a trailer after the body is no header of the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._replaying:
            self._replaying = False
            return
        hosts = [value for name, value in self.headers if name == b"host"]
        if hosts != self._hosts:
            self._check_hosts(hosts)
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # such a client would take "100 Continue" for the answer
        if not self.url.startswith(b"/") or b"%" in self.url:
            self._understand_target()
        self._due = None
        self._in_body = self.transport.client_is_sending = True
        try:
            super().on_headers_complete()
        except (httptools.HttpParserError, ValueError):  # what is asked for is no path: no request has begun
            self._in_body = False
            raise
        if self.expect_100_continue:
            # Who gets an answer instead of "100 Continue" may send the body or not: its next bytes could be anything.
            self.cycle.keep_alive = False

    def _check_hosts(self, hosts: list[bytes]) -> None:
        """Raises Problem for a head that is addressed to two, to what is no host, or since HTTP/1.1 to nobody."""
        if len(hosts) > 1:
            raise Problem("malformed", "Host is given more than once")
        if not hosts and self.parser.get_http_version() != "1.0":
            raise Problem("malformed", "Host is missing, which HTTP/1.1 asks for")
        if any(host and HOST.fullmatch(host) is None for host in hosts):
            raise Problem("malformed", "Host is no name or address, with a port or without")
        self._hosts = hosts  # most requests of a connection have the same

    def _understand_target(self) -> None:
        """Take what is asked for apart where it is more than a plain path. Raises UnicodeDecodeError where it is no
        UTF-8, Problem where it is an address of another scheme than HTTP's, or of no host.

        A whole address, as proxies are asked: it may end with the host, and its host counts, not the header's.
        """
        before, scheme, rest = self.url.partition(b"://")
        if scheme and not before.startswith(b"/"):
            if before.lower() not in (b"http", b"https"):
                raise Problem("malformed", "the target is an address of another scheme than http and https")
            host, slash, path = rest.partition(b"/")
            host, mark, query = host.partition(b"?")
            if AUTHORITY.fullmatch(host) is None:
                raise Problem("malformed", "the target is an address of no host")
            self.url = b"/" + path if slash and not mark else b"/" + mark + query + slash + path
            self.headers[:] = [(b"host", host), *(one for one in self.headers if one[0] != b"host")]
        unquote_to_bytes(self.url.partition(b"?")[0]).decode()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # only the head is over: see _ignore_upgrade
        self._in_body = self.transport.client_is_sending = False
        self._between, self._due = True, None
        if self._ready is None:
            self._whole(self.cycle.scope)
        super().on_message_complete()
        if not self._answers_are_due():  # it was answered before its body was over
            self._rest_from_now()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        last = not cycle.keep_alive or self.expect_100_continue
        waited = self.transport.waited if self._parsing else _no_seconds
        answer = self._turned_away(cycle.scope, last, waited)
        if answer is None:
            if self._parsing:
                self._ready = cycle, app
            else:  # within the end of the answer before it, which is to be over first
                self.loop.call_soon(self._begin, cycle, app)
            return
        self._refused_at_once += 1
        # Without a task, and without waiting for the body: under overload this is most of what there is to do.
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        if last:
            self.transport.close()
        self.on_response_complete()

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._ready = None
        if not self._turns.begin(partial(self._run, cycle, app)) and not cycle.more_body:
            self._whole(cycle.scope)

    def _run(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not (cycle.more_body or cycle.disconnected):
            # The very object: who takes the body empties it, so that no connection at rest keeps what it sent last.
            cycle.scope["twhin.body"] = cycle.body  # type: ignore[typeddict-unknown-key]
        begin(cycle.run_asgi(partial(_unless_cancelled, app, cycle)), self.loop, self._turns, self.tasks)

    def _answer_whole(self, send: Send, head: bytes, body: bytes) -> bool:
        """Answer with 200 the request whose answer `send` would send: `head` are the lines after those that every
        answer has, with the empty one. False where it takes more than this, and nothing is sent: for a `send` of
        somebody in between too, who has something to add.
        """
        cycle = self._running
        if cycle is None or send != cycle.send or not cycle.keep_alive or cycle.scope["method"] == "HEAD":
            return False
        if cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        every = cycle.default_headers
        if every is not self._every[0]:  # another list each second
            self._every = every, b"".join([b"%b: %b\r\n" % header for header in every])
        self.transport.write_now(b"HTTP/1.1 200 OK\r\n%b%b%b" % (self._every[1], head, body))
        cycle.response_started = cycle.response_complete = True
        if "message_event" in vars(cycle):
            cycle.message_event.set()
        self.on_response_complete()
        return True

    def on_response_complete(self) -> None:
        """Go on with what waits. Where that is refused on the spot this is called from within itself: thousands may be
        in the pipeline, so the outermost call goes on with them one by one.
        """
        self._completed += 1
        if self._completed > 1:
            return
        try:
            while self._completed:
                self._go_on()
                self._completed -= 1
        finally:
            self._completed = 0

    def _go_on(self) -> None:
        if self._in_body and self._running is self.cycle:
            self._due = self.loop.time() + self.HEAD_SECONDS
        began: Any = self._running.scope.get("twhin.refused") if self._running else None
        if began is not None:
            self._refused_late += min(time.perf_counter() - began, LONGEST_REFUSAL_SECONDS)
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._rest_from_now()
                if (self._refused_at_once or self._refused_late) and self._between and self._nothing_is_due():
                    self._hold_back()
        if self._refusal is not None and not self._answers_are_due():
            self._send_refusal(self._refusal)

    def _answers_are_due(self) -> bool:
        return bool(self.pipeline) or (self._running is not None and not self._running.response_complete)

    def _refuse(self, problem: Problem) -> None:
        """Answer with `problem` and close, once the requests that were complete before it are answered."""
        self._refusal = problem
        if self._in_body and self.cycle is not self._running:
            self.pipeline.popleft()  # the request whose body is at fault: its turn has not come
        elif self._in_body and self.cycle.response_started:
            self.cycle.keep_alive = False  # it is answered already, or just now: that is the last answer
            if self.cycle.response_complete:
                self.transport.close()
            return
        elif self._in_body:
            self.cycle.disconnected = True  # whoever waits for its body waits for nothing
            self.cycle.message_event.set()
            self._send_refusal(problem)
            return
        if not self._answers_are_due():
            self._send_refusal(problem)

    def _send_refusal(self, problem: Problem) -> None:
        body = problem.body(new_request_id())
        head = "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.format(problem.status, problem.code, CONTENT_TYPE, len(body)).encode() + body)
        self.transport.client_is_sending = True
        self.transport.close()
