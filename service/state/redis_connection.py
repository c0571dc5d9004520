"""One connection to a Redis: commands go out in one piece, and the replies to them come back as they are.

It is the client's connection without its pool and pipeline, since each turn of the event loop between a command and its
reply is one in which others' work comes first: here an exchange is one task, which sends at once and reads.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import RedisError, ResponseError

from service.shared_work import outliving
from service.state.redis_address import RedisAddress
from service.state.redis_scripts import Command

LOOKS_AGAIN_SECONDS = 0.001


class Unfit(Exception):
    """What came is no reply, or one that nobody had asked for."""


class RedisConnection:
    """Has one exchange at a time. Belongs to one event loop."""

    def __init__(
        self, connection: AbstractConnection, seconds: float, idle: "Callable[[RedisConnection], None]"
    ) -> None:
        """Of an open `connection`. No reply may take longer than `seconds` after what came before it. `idle` is told
        when an exchange is over, whoever has given up waiting for it; the connection may be `closed` then.
        """
        self.closed = False
        self._connection = connection
        self._seconds = seconds
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False
        self._until = self._last = 0.0

    def ask(self, commands: Sequence[Command], seconds: float) -> "asyncio.Future[list[object]]":
        """The replies to `commands`, all of them within `seconds`; a ResponseError in the place of each that is
        refused. Raises OSError, TimeoutError, redis.RedisError or Unfit, and the connection is closed then. Who cancels
        it gives up waiting, and the exchange goes on by itself.
        """
        self._work = outliving(self._loop.create_task(self._exchange(commands, seconds)))
        return asyncio.shield(self._work)

    async def is_fit(self) -> bool:
        """Whether another exchange may begin: it is open, and nothing has come that nobody had asked for."""
        try:
            if not self.closed and not await self._connection.can_read():
                return True
        except RedisError:
            pass  # the other side has gone
        self.close()
        return False

    def close(self) -> None:
        """Whoever waits is told that it is lost."""
        if not self.closed:
            self.closed = True
            if self._work is not None and not self._work.done():
                self._loop.call_soon(self._work.cancel)  # once it has begun; it closes what it asks
            else:
                self._work = self._loop.create_task(self._connection.disconnect(nowait=True))

    async def _exchange(self, commands: Sequence[Command], seconds: float) -> list[object]:
        try:
            if self.closed:
                raise ConnectionError
            self._until, self._last = self._loop.time() + self._seconds, self._loop.time() + seconds
            self._timer = self._loop.call_at(min(self._until, self._last), self._look_at_the_clock)
            return await self._asked(commands)
        except BaseException as error:
            self.closed = True
            await self._connection.disconnect(nowait=True)
            if isinstance(error, asyncio.CancelledError):
                raise TimeoutError if self._is_late else ConnectionError from None
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._idle(self)

    async def _asked(self, commands: Sequence[Command]) -> list[object]:
        connection, replies = self._connection, list[object]()
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        await connection.send_packed_command(b"".join(packed), check_health=False)
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as refusal:
                replies.append(refusal)
            self._until = self._loop.time() + self._seconds
        if await connection.can_read():
            with contextlib.suppress(ResponseError):
                await connection.read_response(timeout=LOOKS_AGAIN_SECONDS)  # raises where the other side has gone
            raise Unfit  # one reply too many is somebody's, and nobody knows whose
        return replies

    def _look_at_the_clock(self) -> None:
        until = min(self._until, self._last)
        if self._loop.time() < until:
            self._timer = self._loop.call_at(until, self._look_at_the_clock)
        else:  # what has come meanwhile is read before it is a verdict: the loop may be late, and not Redis
            self._timer = self._loop.call_later(LOOKS_AGAIN_SECONDS, self._verdict)

    def _verdict(self) -> None:
        if self._loop.time() < min(self._until, self._last):
            self._look_at_the_clock()
        elif self._work is not None:
            self._is_late = True
            self._work.cancel()


async def connect(address: RedisAddress, seconds: float, idle: Callable[[RedisConnection], None]) -> RedisConnection:
    """A connection that is ready to be asked, and of which no reply takes longer than `seconds`. How long it may take
    to get it is up to the caller. Raises redis.RedisError or OSError; its words name no password.
    """
    kind: type[Any] = SSLConnection if address.tls else Connection
    place: dict[str, Any] = {"host": address.host, "port": address.port, **address.tls_options}
    if address.path is not None:
        kind, place = UnixDomainSocketConnection, {"path": address.path}
    credentials = None
    if address.password is not None or address.user is not None:
        credentials = UsernamePasswordCredentialProvider(address.user, address.password)
    connection: AbstractConnection = kind(
        db=address.database,
        credential_provider=credentials,
        socket_timeout=None,  # the exchange has one
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        # No CLIENT SETINFO and no maintenance handshake: a new connection costs no extra round trip.
        driver_info=None,
        protocol=2,
        **place,
    )
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return RedisConnection(connection, seconds, idle)
