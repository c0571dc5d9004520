"""One connection to a Redis: commands go out in one piece, and the replies to them come back as they are.

A client of our own because each turn of the event loop between a command and its reply is one in which others' work
comes first: here there is one, and no task.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import cast

import hiredis

from service.state.redis_address import RedisAddress
from service.state.redis_scripts import Command

NOT_YET = object()
LOOKS_AGAIN_SECONDS = 0.001
REQUIRED = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Unfit(Exception):
    """What came is no reply, or one that nobody had asked for."""


class PasswordRefused(Exception):
    """Redis does not let the user in, in the words that this has."""


class RedisConnection(asyncio.Protocol):
    """Has one exchange at a time. Belongs to one event loop."""

    def __init__(self, seconds: float, idle: "Callable[[RedisConnection], None]") -> None:
        """No reply may take longer than `seconds` after what came before it. `idle` is told when an exchange is over,
        whoever has given up waiting for it; the connection may be `closed` then.
        """
        self.closed = False
        self._seconds = seconds
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=NOT_YET)
        self._replies: list[object] = []
        self._expected = 0
        self._waits: asyncio.Future[list[object]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = self._last = 0.0

    def ask(self, commands: Sequence[Command], seconds: float) -> "asyncio.Future[list[object]]":
        """The replies to `commands`, all of them within `seconds`; a hiredis.ReplyError in the place of each that is
        refused. Raises OSError, TimeoutError or Unfit, and the connection is closed then. Who cancels it gives up
        waiting, and the exchange goes on by itself.
        """
        waits = self._loop.create_future()
        self._waits, self._expected = waits, len(commands)
        if self._transport is None or self.closed:
            self._end(ConnectionError())
            return waits
        now = self._loop.time()
        self._until, self._last = now + self._seconds, now + seconds
        self._timer = self._loop.call_at(min(self._until, self._last), self._look_at_the_clock)
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        self._transport.write(b"".join(packed))
        return waits

    def close(self, why: Exception | None = None) -> None:
        """Whoever waits is told `why`."""
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()
            self._end(ConnectionError() if why is None else why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(exc)

    def data_received(self, data: bytes) -> None:
        if self._waits is None:
            self.close()
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not NOT_YET:
                self._replies.append(reply)
        except hiredis.HiredisError:
            self.close(Unfit())
            return
        self._until = self._loop.time() + self._seconds
        if len(self._replies) == self._expected and not self._reader.has_data():
            self._end(None)
        elif len(self._replies) >= self._expected:  # one too many is somebody's, and nobody knows whose
            self.close(Unfit())

    def _end(self, error: Exception | None) -> None:
        waits, replies = self._waits, self._replies
        if self._timer is not None:
            self._timer.cancel()
        self._waits, self._timer, self._replies = None, None, []
        if waits is None:
            return
        if not waits.done():
            if error is None:
                waits.set_result(replies)
            else:
                waits.set_exception(error)
        self._idle(self)

    def _look_at_the_clock(self) -> None:
        until = min(self._until, self._last)
        if self._loop.time() < until:
            self._timer = self._loop.call_at(until, self._look_at_the_clock)
        else:  # what has come meanwhile is read before it is a verdict: the loop may be late, and not Redis
            self._timer = self._loop.call_later(LOOKS_AGAIN_SECONDS, self._verdict)

    def _verdict(self) -> None:
        if self._loop.time() < min(self._until, self._last):
            self._look_at_the_clock()
        else:
            self.close(TimeoutError())


async def connect(
    address: RedisAddress, seconds: float, tls: ssl.SSLContext | None, idle: Callable[[RedisConnection], None]
) -> RedisConnection:
    """A connection that is ready to be asked. Raises OSError, TimeoutError, Unfit or PasswordRefused, and
    hiredis.ReplyError where the database is refused. Each step may take `seconds`.
    """
    loop = asyncio.get_running_loop()
    ready = False

    def over(connection: RedisConnection) -> None:
        if ready:
            idle(connection)

    def made() -> RedisConnection:
        return RedisConnection(seconds, over)

    async with asyncio.timeout(seconds):
        if address.path is not None:
            _, connection = await loop.create_unix_connection(made, address.path)
        else:
            _, connection = await loop.create_connection(made, address.host, address.port, ssl=tls)
    try:
        for command in _greeting(address):
            (reply,) = await connection.ask([command], seconds)
            if isinstance(reply, hiredis.ReplyError):
                raise PasswordRefused(str(reply)) if command[0] == "AUTH" else reply
            if reply != b"OK":
                raise Unfit
    except BaseException:
        connection.close()
        raise
    ready = True
    return connection


def _greeting(address: RedisAddress) -> list[Command]:
    commands: list[Command] = []
    if address.password is not None or address.user is not None:
        user = () if address.user is None else (address.user,)
        commands.append(("AUTH", *user, address.password or ""))
    if address.database:
        commands.append(("SELECT", address.database))
    return commands


def tls_context(address: RedisAddress) -> ssl.SSLContext | None:
    """What is asked of the other side's certificate; None without TLS. Raises OSError. Takes milliseconds."""
    if not address.tls:
        return None
    asked = address.tls_options
    context = ssl.create_default_context()
    required = REQUIRED[str(asked.get("ssl_cert_reqs", "required"))]
    context.check_hostname = required != ssl.CERT_NONE and bool(asked.get("ssl_check_hostname", True))
    context.verify_mode = required
    if "ssl_certfile" in asked or "ssl_keyfile" in asked:
        context.load_cert_chain(str(asked.get("ssl_certfile", "")), cast("str | None", asked.get("ssl_keyfile")))
    if "ssl_ca_certs" in asked:
        context.load_verify_locations(str(asked["ssl_ca_certs"]))
    return context
