"""The connections to a Redis: asked with a time budget and a breaker, and what it says is told in our words."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from bundle.errors import StateError
from service.first_step import in_a_task
from service.metrics import RedisMetrics
from service.shared_work import outliving
from service.state.breaker import Breaker
from service.state.redis_address import RedisAddress
from service.state.redis_connection import RedisConnection, Unfit, connect
from service.state.redis_reasons import (
    LATE,
    NO_REDIS,
    REDIRECTED,
    SOME_COMMANDS,
    SOME_USERS,
    is_for_good,
    is_said,
    reason_for,
    refusal,
    words_of,
)
from service.state.redis_scripts import Command
from service.state.trouble import SOME_USERS_SECONDS, Trouble

Result = TypeVar("Result")
Operation = Literal["read", "write", "upkeep"]

# A new connection has up to two replies of its own (AUTH, SELECT) before the one that is asked for.
REPLIES_MAX = 3
# What it says after a failover, when the name in the URL leads elsewhere by now: open connections stay where they are.
DEMOTED = ("READONLY", "MASTERDOWN")
RENEWED_EVERY_SECONDS = 1.0


class Refused(StateError):
    """Redis is there and says no, in these `words`, of which `sort` is the first: now, or `for_good`."""

    def __init__(self, sort: str, words: str, for_good: bool) -> None:
        super().__init__("the store of live engagements refused the operation")
        self.sort = sort
        self.words = words
        self.for_good = for_good


class ConnectionLost(Exception):
    """The connection was closed before all replies had come."""


def _is_closed(error: Exception) -> bool:
    """Whether the other side has gone without a word. What Redis says of itself (it is loading, it wants a password)
    the client calls an error of the connection too.
    """
    if isinstance(error, LATE):
        return False
    return isinstance(error, OSError) or (type(error) is RedisConnectionError and not is_said(error))


class Lane:
    """Connections and a breaker of their own for one kind of work, and the time that it may take, in seconds."""

    breaker: Breaker

    def __init__(self, name: str, address: RedisAddress, reply_seconds: float, connections: int) -> None:
        self.name = name
        self.address = address
        self.seconds = REPLIES_MAX * reply_seconds
        self.free = asyncio.Semaphore(connections)
        self._reply_seconds = reply_seconds
        self._idle: list[RedisConnection] = []
        self._open = set[RedisConnection]()
        self._leaving = set[RedisConnection]()  # open ones, to be closed when what is under way on them is over

    async def idle(self) -> RedisConnection | None:
        """A connection that is open and has nothing to do."""
        while self._idle:
            connection = self._idle.pop()
            if await connection.is_fit():
                return connection
            self._open.discard(connection)
        return None

    async def new(self) -> RedisConnection:
        """One more. Raises as `connect` does."""
        connection = await self._connection(self._over)
        self._open.add(connection)
        return connection

    def disconnect(self) -> None:
        """Close all connections; who waits for one is told that it is lost."""
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._leaving.clear()
        self._idle.clear()

    async def ping(self) -> object:
        """What Redis answers to a PING. On a connection beside the others."""
        async with asyncio.timeout(self.seconds):
            connection = await self._connection(lambda _: None)
            try:
                (reply,) = await connection.ask([("PING",)], self.seconds)
            finally:
                connection.close()
        return reply

    async def _connection(self, over: Callable[[RedisConnection], None]) -> RedisConnection:
        return await connect(self.address, self._reply_seconds, over)

    def renew(self) -> None:
        """Let go of all connections: at once, or when what is under way on them is over."""
        for connection in self._idle:
            connection.close()
        self._open.difference_update(self._idle)
        self._idle.clear()
        self._leaving |= self._open

    def _over(self, connection: RedisConnection) -> None:
        if connection.closed or connection in self._leaving:
            self._open.discard(connection)
            self._leaving.discard(connection)
            connection.close()
        else:
            self._idle.append(connection)
        self.free.release()


class RedisLink:
    """Reads are asked in the `quick` lane, those of users with many events in the `bulk` one, and what nobody who looks
    at candidates waits for in the `patient` one: a reply that is late for one says nothing of the others.
    """

    def __init__(
        self,
        quick: Lane,
        bulk: Lane,
        patient: Lane,
        *,
        prefix: str,
        retry_seconds: float,
        metrics: RedisMetrics,
        shed: Callable[[str], None],
    ) -> None:
        """All keys begin with `prefix`: words of Redis that repeat one are not logged."""
        self.quick = quick
        self.bulk = bulk
        self.patient = patient
        self._lanes = quick, bulk, patient
        self.trouble = Trouble()
        self._prefix = prefix
        address = quick.address
        self._node = f"{address.host}:{address.port}" if address.clustered else ""
        self._metrics = metrics
        self._shed = shed
        for lane in self._lanes:
            lane.breaker = Breaker(partial(self._ping, lane), retry_seconds)
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._renewed_at = -RENEWED_EVERY_SECONDS

    def start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """A task of its own: a request that is cancelled leaves no half-read reply on a pooled connection."""
        task = outliving(asyncio.get_running_loop().create_task(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def ask(self, operation: Operation, lane: Lane, command: Command) -> object:
        """The reply to one command. Raises StateError: at once while the breaker is open. Dropped if it is cancelled
        before it has begun, and finished by itself if after.
        """
        (reply,) = await self.ask_all(operation, lane, [command])
        if isinstance(reply, StateError):
            raise reply
        return reply

    async def ask_all(self, operation: Operation, lane: Lane, commands: Sequence[Command]) -> list[object]:
        """The replies to several commands, asked together; a `Refused` in the place of each that Redis refuses.

        Raises StateError when there are no replies: at once while the breaker is open. Cancelled as `ask` is.

        A connection that was open may be lost without Redis being away (a proxy or a firewall has forgotten it), so
        what is lost with it is asked once more, on a new one: all commands are safe to repeat. Of events that were
        stored all the same the second answer says that they are duplicates.
        """
        await self._wait_for(lane)
        connection = await lane.idle()
        if connection is not None:
            try:
                return await self._exchange(operation, lane, connection, commands)
            except ConnectionLost:
                self._metrics.failed("connection")
                await self._wait_for(lane)
        return await asyncio.shield(self.start(self._first_exchange(operation, lane, commands)))

    async def _wait_for(self, lane: Lane) -> None:
        """Wait until there may be another exchange; the one that begins then gives that back."""
        if not lane.breaker.is_open:
            try:
                if lane.free.locked():
                    await in_a_task()  # which the timer cancels
                    async with asyncio.timeout(lane.seconds):
                        await lane.free.acquire()
                else:
                    await lane.free.acquire()
            except TimeoutError:  # all connections are busy: Redis is slow for so many, and not sick
                self._shed("state_connections")
                raise StateError("too many requests wait for the store of live engagements") from None
            if not lane.breaker.is_open:
                return
            lane.free.release()
        raise StateError("the store of live engagements is not answering")

    async def _first_exchange(self, operation: Operation, lane: Lane, commands: Sequence[Command]) -> list[object]:
        """That of a new connection. A task of its own: who gives up leaves no half-made one."""
        try:
            async with asyncio.timeout(lane.seconds):
                connection = await lane.new()
        except Exception as error:
            lane.free.release()
            raise self._unreachable(lane, error) from None
        except BaseException:
            lane.free.release()
            raise
        try:
            return await self._exchange(operation, lane, connection, commands)
        except ConnectionLost as lost:
            cause = lost.__cause__  # the other side may have gone for what it thinks of us only now, as with TLS
            raise self._unreachable(lane, cause if isinstance(cause, Exception) else ConnectionError()) from lost

    async def _exchange(
        self, operation: Operation, lane: Lane, connection: RedisConnection, commands: Sequence[Command]
    ) -> list[object]:
        """Raises ConnectionLost where the other side has gone, StateError for another reason to ask no more."""
        try:
            with self._metrics.timed(operation):
                replies = await connection.ask(commands, lane.seconds)
        except Exception as error:
            if _is_closed(error) and not self._closed:
                lane.renew()  # what has forgotten one connection has forgotten others
                raise ConnectionLost from error
            raise self._unreachable(lane, error) from None
        if not any(isinstance(reply, ResponseError) for reply in replies):
            self.trouble.end(operation)
            return replies
        return [self._refused(operation, reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    def no_redis(self, lane: Lane) -> StateError:
        """A reply of a type that no Redis sends: nothing that comes from there counts as stored or erased."""
        self._metrics.failed("garbage")
        return self._trip(lane, NO_REDIS, NO_REDIS)

    def disconnect(self) -> None:
        """Whatever is on the connections now may be anybody's."""
        for lane in self._lanes:
            lane.disconnect()

    async def close(self) -> None:
        """Give up what is under way."""
        self._closed = True
        for lane in self._lanes:
            await lane.breaker.close()
        self._metrics.opened(False, self._node)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self.disconnect()
        await asyncio.sleep(0)  # sockets are closed at the loop's next turn

    async def _ping(self, lane: Lane) -> None:
        try:
            reply = await lane.ping()
            if isinstance(reply, ResponseError):
                raise reply
            if reply != b"PONG":
                raise Unfit
        except Exception as error:
            # Often another reason than before: what was away is back, and loads its data or asks for a password.
            self.trouble.begin(f"connection for {lane.name}", *self._why(error))
            raise
        self._metrics.opened(any(other.breaker.is_open for other in self._lanes if other is not lane), self._node)
        self.trouble.end(f"connection for {lane.name}")

    def _refused(self, operation: Operation, error: ResponseError) -> Refused:
        """Redis is there and says no (wrong type, full, read-only): asking again costs nothing."""
        code, words = words_of(error)
        refused = Refused(code, self._told(words), is_for_good(error))
        if self._node and code in REDIRECTED:  # the map of slots is old, and that is no trouble
            return refused
        self._metrics.failed("refused")
        if code in DEMOTED:
            self._renew()
        if operation != "upkeep":
            reason = SOME_USERS.get(code) or refusal(code, error)
            lasts = SOME_USERS_SECONDS if code in SOME_USERS or reason in SOME_COMMANDS else 0.0
            self.trouble.begin(operation, reason, refused.words, lasts=lasts)
        return refused

    def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._renewed_at + RENEWED_EVERY_SECONDS:
            self._renewed_at = now
            for lane in self._lanes:
                lane.renew()

    def _unreachable(self, lane: Lane, error: Exception) -> StateError:
        """There is no Redis, or none that can be asked now: open the breaker."""
        if self._closed:
            return StateError("the store of live engagements is closed")
        self._metrics.failed("timeout" if isinstance(error, LATE) else "connection")
        return self._trip(lane, *self._why(error))

    def _why(self, error: Exception) -> tuple[str, str]:
        """Why there is no asking Redis, in our words, and in its own as far as they may be logged."""
        reason, words = reason_for(error, self.quick.address)
        return reason, self._told(words)

    def _trip(self, lane: Lane, reason: str, words: str) -> StateError:
        self._metrics.opened(True, self._node)
        self.trouble.begin(f"connection for {lane.name}", reason, words)
        self._renew()  # what is open may lead nowhere by now, and each would cost another outage
        lane.breaker.trip()
        return StateError("the store of live engagements is not answering")

    def _told(self, words: str) -> str:
        """As much of Redis' words as has no ids."""
        return words.partition(" ")[0] if f"{self._prefix}:" in words else words
