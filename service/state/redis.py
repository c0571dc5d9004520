"""The shared store: one Redis hash per user, so that all replicas see a new follow at the next request.

Redis has a time budget for each operation and no more: a breaker stops asking after the first failure. Every
stored value carries its user, so that a reply on the wrong connection could never pass for an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.metrics import RedisMetrics
from service.state.breaker import Breaker
from service.state.events import Event, Outcome, live_edges

Result = TypeVar("Result")
_decode = msgspec.json.Decoder(Event).decode


class RedisStore:
    """Events in the Redis at `url`. Durable as that Redis is: run it with `appendonly yes`."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout: float,
        connections: int,
        retry_seconds: float,
        events_per_user_max: int,
        metrics: RedisMetrics,
    ) -> None:
        """`timeout` and `retry_seconds` are seconds. Opens no connection yet. Raises StateError for a bad URL."""
        self._prefix = prefix
        self._timeout = timeout
        self._limit = events_per_user_max
        self._metrics = metrics
        self._client = _client(url, timeout, connections)
        self._breaker = Breaker(self._ping, retry_seconds)
        self._running: set[asyncio.Task[Any]] = set()

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        values = await self._within_budget("read", lambda: self._client.hvals(self._key(user_type, user)))
        try:
            events = [_decode(value) for value in values]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._metrics.failed("garbage")
            raise StateError("the store of live engagements holds something else for this user") from error
        if any(event.owner != (user_type, user) for event in events):
            self._metrics.failed("mixed_up")
            await self._client.connection_pool.disconnect()
            raise StateError("the store of live engagements answered for another user")
        return live_edges(events)

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        return await self._within_budget("write", lambda: self._append(events))

    async def _append(self, events: Sequence[Event]) -> list[Outcome]:
        owners = list(dict.fromkeys(event.owner for event in events))
        async with self._client.pipeline(transaction=False) as pipe:
            for owner in owners:
                pipe.hlen(self._key(*owner))
            sizes = dict(zip(owners, await pipe.execute(), strict=True))
        taken = [event for event in events if sizes[event.owner] < self._limit]
        async with self._client.pipeline(transaction=True) as pipe:
            for event in taken:
                pipe.hsetnx(self._key(*event.owner), event.id, msgspec.json.encode(event))
            written = iter(await pipe.execute())
        return [_outcome(sizes[event.owner] >= self._limit, written) for event in events]

    async def forget(self, user_type: str, user: str) -> int:
        async def remove() -> int:
            key = self._key(user_type, user)
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hlen(key)
                pipe.delete(key)
                count, _ = await pipe.execute()
            return int(count)

        return await self._within_budget("write", remove)

    async def close(self) -> None:
        await self._breaker.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    def describe(self) -> dict[str, str | bool]:
        return {"kind": "redis", "healthy": not self._breaker.is_open, "shared": True}

    def _key(self, user_type: str, user: str) -> str:
        return f"{self._prefix}:events:{user_type}:{user}"

    async def _ping(self) -> None:
        async with asyncio.timeout(self._timeout):
            await self._client.ping()
        self._metrics.opened(False)

    async def _within_budget(self, operation: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run `work` for at most the budget. Raises StateError: at once while the breaker is open."""
        if self._breaker.is_open:
            raise StateError("the store of live engagements is not answering")
        # A task of its own: a request that is cancelled leaves no half-read reply on a pooled connection.
        task = asyncio.get_running_loop().create_task(self._bounded(operation, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _bounded(self, operation: str, work: Callable[[], Awaitable[Result]]) -> Result:
        try:
            with self._metrics.timed(operation):
                async with asyncio.timeout(self._timeout):
                    return await work()
        except ResponseError as error:
            # Redis is there and says no (wrong type, full, read-only): asking again costs nothing.
            self._metrics.failed("refused")
            raise StateError("the store of live engagements refused the operation") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._metrics.failed("timeout" if isinstance(error, (TimeoutError, RedisTimeout)) else "connection")
            self._metrics.opened(True)
            self._breaker.trip()
            raise StateError("the store of live engagements is not answering") from error


def _client(url: str, timeout: float, connections: int) -> "Redis":
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            # No CLIENT SETINFO and no maintenance handshake: a new connection costs no extra round trip.
            driver_info=None,
            protocol=2,
        )
    except ValueError as error:
        raise StateError("TWHIN_REDIS_URL is not a Redis URL such as redis://host:6379/0") from error
    return Redis.from_pool(pool)


def _outcome(full: bool, written: Iterator[int]) -> Outcome:
    if full:
        return "full"
    return "stored" if next(written) else "duplicate"


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at the exception of a task nobody waits for any more, so that it is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
