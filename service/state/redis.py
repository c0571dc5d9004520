"""The shared store: one Redis hash per user, so that all replicas see a new follow at the next request.

Redis has a time budget for each reply and no more: a breaker stops asking after the first failure. Every stored value
carries its user, and every reply's type is looked at, so that nothing passes for an answer that is none.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import msgspec
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from bundle.errors import StateError
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.metrics import RedisMetrics
from service.problems import overloaded
from service.state.breaker import Breaker
from service.state.edge_cache import EdgeCache, Owner
from service.state.events import Event, NetEffect, Outcome, live_edges
from service.state.redis_address import RedisAddress, redis_address
from service.state.redis_scripts import APPEND, FORGET, FORGET_MENTIONS, READ, SCAN, Command, script
from service.state.trouble import Trouble
from service.state.write_queue import Append, QueueFull, WriteQueue

Result = TypeVar("Result")
Operation = Literal["read", "write"]

# A new connection has up to two replies of its own (AUTH, SELECT) before the one that is asked for.
REPLIES_MAX = 3
# Up to so many events come with the first reply and are added up on the event loop; of more, so many at a time.
FEW_EVENTS = 64
ADDED_AT_ONCE = 256
ANY_NUMBER = 10**9
# Several writes are under way at once, since each takes a round trip.
WRITES_UNDER_WAY_MAX = 4
# An erasure goes through all users: so many keys a round trip, so few a script that others get their turn in between.
KEYS_SCANNED = 512
USERS_AT_ONCE = 16
REWRITE_AGAIN_SECONDS = 1.0
# How long trouble with some users' keys is told after it was last met: others are asked with success all the time.
SOME_USERS_SECONDS = 60.0

OUTCOMES: dict[bytes, Outcome] = {b"stored": "stored", b"duplicate": "duplicate", b"full": "full"}
_decode = msgspec.json.Decoder(list[Event]).decode

# What Redis says by its first word, in our words. The first group is met with some users' keys and not with others'.
SOME_USERS = {
    "MOVED": "it is one node of a Redis Cluster, and other nodes have some of the users",
    "ASK": "it is one node of a Redis Cluster, and other nodes have some of the users",
    "CROSSSLOT": "it is one node of a Redis Cluster, and other nodes have some of the users",
    "TRYAGAIN": "it is one node of a Redis Cluster, and other nodes have some of the users",
    "WRONGTYPE": "it holds something else under a user's key",
}
ALL_USERS = {
    "CLUSTERDOWN": "it is one node of a Redis Cluster that is down",
    "MASTERDOWN": "it is a replica that has lost its master",
    "READONLY": "it is a replica, which takes no writes",
    "LOADING": "it is loading its data",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "it refuses the password",
    "NOPERM": "it does not allow its user what the service needs",
    "OOM": "it has no memory left",
    "MISCONF": "it cannot write to its disk",
}
NO_REDIS = "what answers there is no Redis"


class _MixedUp(StateError):
    """A reply that belongs to somebody else."""


class _Link:
    """Connections of their own for one kind of work, with the time that one reply may take, in seconds."""

    def __init__(self, address: RedisAddress, reply_seconds: float, connections: int) -> None:
        self.client = _client(address, reply_seconds, connections)
        self.reply_seconds = reply_seconds
        self.operation_seconds = REPLIES_MAX * reply_seconds
        self.free = asyncio.Semaphore(connections)


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
        write_timeout: float = 0.5,
        shed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`timeout` is that of one reply to a read, `write_timeout` that of one to a write, in seconds, as is
        `retry_seconds`; `shed` counts what is refused. Opens no connection yet. Raises ConfigError for a bad URL.
        """
        address = redis_address(url)
        self._prefix = prefix
        self._limit = events_per_user_max
        self._metrics = metrics
        self._shed = shed
        self._quick = _Link(address, timeout, connections)
        self._patient = _Link(address, write_timeout, connections)
        self._trouble = Trouble()
        self._breaker = Breaker(self._ping, retry_seconds)
        self._cache = EdgeCache()
        self._adder = ThreadPoolExecutor(1, thread_name_prefix="twhin-state-reader")
        self._queue: WriteQueue[Append] = WriteQueue()
        self._writers = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._rewriting: asyncio.Task[None] | None = None
        self._rewrite_again = False

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        owner = user_type, user
        kept = self._cache.get(owner)
        try:
            state, events = await self._read(self._quick, owner, None if kept is None else kept[0], FEW_EVENTS)
            _, size = state
            if size == 0:
                return NO_LIVE_EDGES
            if kept is not None and kept[0] == state:
                return kept[1]
            if size <= FEW_EVENTS:
                return live_edges(self._decoded(owner, events))
            return await self._cache.added_up(owner, state, self._add_up)
        except _MixedUp:
            # Whatever is on the connections now may be anybody's.
            await self._quick.client.connection_pool.disconnect()
            await self._patient.client.connection_pool.disconnect()
            raise

    async def _read(self, link: "_Link", owner: Owner, known: object, most: int) -> tuple[tuple[bytes, int], bytes]:
        """The state of the user's events, which is a stamp and their number, and a JSON list of them if they are `most`
        at most and their state is not `known`.
        """
        stamp, size = known if isinstance(known, tuple) else (b"", 0)
        new_stamp = secrets.token_hex(8) if most > FEW_EVENTS else ""
        reply = await self._ask_one("read", link, script(READ, self._keys(owner), (stamp, size, most, new_stamp)))
        match reply:
            case [bytes() as stamp, int() as size, bytes() as events]:
                return (stamp, size), events
        raise self._no_redis()

    async def _add_up(self, owner: Owner) -> tuple[tuple[bytes, int], LiveEdges]:
        state, events = await self._read(self._patient, owner, None, ANY_NUMBER)
        return state, await asyncio.get_running_loop().run_in_executor(self._adder, self._net_effect, owner, events)

    def _net_effect(self, owner: Owner, events: bytes) -> LiveEdges:
        """Lets go of Python's lock between small portions, so that the event loop does not stand still meanwhile."""
        effect = NetEffect()
        each = msgspec.json.decode(events, type=list[msgspec.Raw])
        for start in range(0, len(each), ADDED_AT_ONCE):
            effect.count(self._decoded(owner, b"[" + b",".join(map(bytes, each[start : start + ADDED_AT_ONCE])) + b"]"))
            time.sleep(0)
        return effect.edges()

    def _decoded(self, owner: Owner, events: bytes) -> list[Event]:
        try:
            decoded = _decode(events)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._metrics.failed("garbage")
            self._trouble.begin("read", SOME_USERS["WRONGTYPE"], lasts=SOME_USERS_SECONDS)
            raise StateError("the store of live engagements holds something else for this user") from None
        if any(event.owner != owner for event in decoded):
            self._metrics.failed("mixed_up")
            self._trouble.begin("read", "it answered for another user", lasts=SOME_USERS_SECONDS)
            raise _MixedUp("the store of live engagements answered for another user")
        return decoded

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        by_owner: dict[Owner, list[int]] = {}
        for position, event in enumerate(events):
            by_owner.setdefault(event.owner, []).append(position)
        loop = asyncio.get_running_loop()
        parts = [Append([events[i] for i in positions], loop.create_future()) for positions in by_owner.values()]
        answers = asyncio.gather(*(part.future for part in parts), return_exceptions=True)
        try:
            for part in parts:
                self._put(part)
            outcomes: list[Outcome] = ["full"] * len(events)
            for positions, answer in zip(by_owner.values(), await answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                for position, outcome in zip(positions, answer, strict=True):
                    outcomes[position] = outcome
            return outcomes
        finally:
            answers.cancel()  # what has not begun is dropped

    def _put(self, append: Append) -> None:
        try:
            self._queue.put(append)
        except QueueFull:
            self._shed("state_queue")
            raise overloaded("too many engagements wait to be stored") from None
        if self._writers < WRITES_UNDER_WAY_MAX:
            self._writers += 1
            self._start(self._write_what_waits()).add_done_callback(self._writer_ended)

    def _writer_ended(self, _: object) -> None:
        self._writers -= 1

    async def _write_what_waits(self) -> None:
        while appends := self._queue.take():
            try:
                replies = await self._ask("write", self._patient, [self._append_script(part) for part in appends])
            except StateError as error:
                replies = [error] * len(appends)
            for append, reply in zip(appends, replies, strict=True):
                answer = reply if isinstance(reply, StateError) else self._outcomes(reply, len(append.events))
                if append.future.done():  # the request has given up; what is stored is stored all the same
                    continue
                if isinstance(answer, StateError):
                    append.future.set_exception(answer)
                else:
                    append.future.set_result(answer)

    def _append_script(self, append: Append) -> Command:
        arguments: list[str | bytes | int] = [secrets.token_hex(8)]
        for event in append.events:
            arguments += [event.id, event.room(self._limit), msgspec.json.encode(event)]
        return script(APPEND, self._keys(append.owner), tuple(arguments))

    def _outcomes(self, reply: object, events: int) -> list[Outcome] | StateError:
        if not isinstance(reply, list) or len(reply) != events or not all(word in OUTCOMES for word in reply):
            return self._no_redis()
        return [OUTCOMES[word] for word in reply]

    async def forget(self, user_type: str, user: str) -> int:
        """Its time grows with the number of all users: it looks through the events of each for the user as target.

        It goes on when the request has given up, and may be asked for again.
        """
        task = self._start(self._forget((user_type, user)))
        return await asyncio.shield(task)

    async def _forget(self, owner: Owner) -> int:
        size = await self._ask_one("write", self._patient, script(FORGET, self._keys(owner)))
        if not isinstance(size, int):
            raise self._no_redis()
        named = msgspec.json.encode({"target_type": owner[0], "target": owner[1]})[1:-1] + b","
        pattern = re.sub(r"([][*?\\])", r"\\\1", self._prefix) + ":events:*"
        cursor = b"0"
        while True:
            reply = await self._ask_one("write", self._patient, script(SCAN, (), (cursor, pattern, KEYS_SCANNED)))
            match reply:
                case [bytes() as cursor, list() as keys] if all(isinstance(key, bytes) for key in keys):
                    await self._forget_mentions(keys, named)
                case _:
                    raise self._no_redis()
            if cursor == b"0":
                break
        self._cache.clear()  # others may have had the user as their target
        self._rewrite_log()
        return size

    async def _forget_mentions(self, keys: Sequence[bytes], named: bytes) -> None:
        prefix = f"{self._prefix}:events:".encode()
        both = [(key, f"{self._prefix}:stamp:".encode() + key.removeprefix(prefix)) for key in keys]
        scripts = [
            script(
                FORGET_MENTIONS, tuple(key for pair in both[start : start + USERS_AT_ONCE] for key in pair), (named,)
            )
            for start in range(0, len(both), USERS_AT_ONCE)
        ]
        for reply in await self._ask("write", self._patient, scripts) if scripts else []:
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, int):
                raise self._no_redis()

    def _rewrite_log(self) -> None:
        self._rewrite_again = True
        if self._rewriting is None or self._rewriting.done():
            self._rewriting = self._start(self._ask_for_a_new_log())

    async def _ask_for_a_new_log(self) -> None:
        """Have the append-only file written anew: what was erased is in the old one. A rewriting that was under way
        already may have begun before the erasure, so another follows it.
        """
        while self._rewrite_again:
            state = await self._ask_one("write", self._patient, ("INFO", "persistence"))
            if not isinstance(state, bytes) or b"aof_enabled:1" not in state:
                return
            if b"aof_rewrite_in_progress:1" in state or b"aof_rewrite_scheduled:1" in state:
                await asyncio.sleep(REWRITE_AGAIN_SECONDS)
                continue
            self._rewrite_again = False
            await self._ask_one("write", self._patient, ("BGREWRITEAOF",))

    async def close(self) -> None:
        await self._breaker.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._quick.client.aclose()
        await self._patient.client.aclose()
        await asyncio.to_thread(self._adder.shutdown)

    def describe(self) -> dict[str, str | bool]:
        reason = self._trouble.reason
        known: dict[str, str | bool] = {"kind": "redis", "healthy": reason is None, "shared": True}
        return known if reason is None else {**known, "reason": reason}

    def _keys(self, owner: Owner) -> tuple[str, str]:
        name = ":".join(owner)
        return f"{self._prefix}:events:{name}", f"{self._prefix}:stamp:{name}"

    async def _ping(self) -> None:
        async with asyncio.timeout(self._quick.operation_seconds):
            reply: object = await self._quick.client.ping()
            if reply != b"PONG":
                raise ConnectionError
        self._metrics.opened(False)
        self._trouble.end("connection")

    def _start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """A task of its own: a request that is cancelled leaves no half-read reply on a pooled connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_retrieve)
        return task

    async def _ask_one(self, operation: Operation, link: _Link, command: Command) -> object:
        """The reply to one script. Raises StateError: at once while the breaker is open."""
        (reply,) = await asyncio.shield(self._start(self._ask(operation, link, [command])))
        if isinstance(reply, StateError):
            raise reply
        return reply

    async def _ask(self, operation: Operation, link: _Link, commands: Sequence[Command]) -> list[object]:
        """The replies to several, asked together; a StateError in the place of each that Redis refuses.

        Raises StateError when there are no replies: at once while the breaker is open.
        """
        if self._breaker.is_open:
            raise StateError("the store of live engagements is not answering")
        try:
            async with asyncio.timeout(link.operation_seconds):
                await link.free.acquire()
        except TimeoutError:  # all connections are busy: Redis is slow for so many, and not sick
            self._shed("state_connections")
            raise StateError("too many requests wait for the store of live engagements") from None
        try:
            with self._metrics.timed(operation):
                async with asyncio.timeout(link.operation_seconds), link.client.pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    replies = await pipe.execute(raise_on_error=False)
        except Exception as error:
            raise self._unreachable(error) from None
        finally:
            link.free.release()
        if not any(isinstance(reply, ResponseError) for reply in replies):
            self._trouble.end(operation)
            return list(replies)
        return [self._refused(operation, reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    def _refused(self, operation: Operation, error: ResponseError) -> StateError:
        """Redis is there and says no (wrong type, full, read-only): asking again costs nothing."""
        self._metrics.failed("refused")
        code, words = self._words(error)
        lasts = SOME_USERS_SECONDS if code in SOME_USERS else 0.0
        self._trouble.begin(operation, {**ALL_USERS, **SOME_USERS}.get(code, f"it refuses: {code}"), words, lasts=lasts)
        return StateError("the store of live engagements refused the operation")

    def _unreachable(self, error: Exception) -> StateError:
        """There is no Redis, or none that can be asked now: open the breaker."""
        late = isinstance(error, (TimeoutError, RedisTimeout))
        self._metrics.failed("timeout" if late else "connection")
        code, words = self._words(error)
        if isinstance(error, AuthenticationError):
            reason = ALL_USERS.get(code, ALL_USERS["WRONGPASS"])
        elif late:
            reason, words = "it does not answer in time", type(error).__name__
        elif code in ALL_USERS:
            reason = ALL_USERS[code]
        elif isinstance(error, (OSError, RedisConnectionError)):
            reason, words = "it cannot be reached", type(error).__name__
        else:
            reason, words = NO_REDIS, type(error).__name__
        return self._trip(reason, words)

    def _no_redis(self) -> StateError:
        """A reply of a type that no Redis sends: nothing that comes from there counts as stored or erased."""
        self._metrics.failed("garbage")
        return self._trip(NO_REDIS, NO_REDIS)

    def _trip(self, reason: str, words: str) -> StateError:
        self._metrics.opened(True)
        self._trouble.begin("connection", reason, words)
        self._breaker.trip()
        return StateError("the store of live engagements is not answering")

    def _words(self, error: Exception) -> tuple[str, str]:
        """The first word of what Redis says, and all of it, less a command that it repeats: that would have ids."""
        words = str(error).partition(", with args")[0][:200]
        code = getattr(error, "status_code", None)
        if code is not None:
            words = f"{code} {words}"
        known = [word for word in re.findall(r"[A-Z]+", words) if word in SOME_USERS or word in ALL_USERS]
        code = known[0] if known else words.split(" ")[0]
        return code, code if f"{self._prefix}:" in words else words


def _client(address: RedisAddress, timeout: float, connections: int) -> "Redis":
    """Redis' own timeout is that of one reply. The password is where no pool's or connection's words repeat it."""
    kind: type[Any] = SSLConnection if address.tls else Connection
    place: dict[str, Any] = {"host": address.host, "port": address.port, **address.tls_options}
    if address.path is not None:
        kind, place = UnixDomainSocketConnection, {"path": address.path}
    credentials = None
    if address.password is not None or address.user is not None:
        credentials = UsernamePasswordCredentialProvider(address.user, address.password)
    pool = ConnectionPool(
        connection_class=kind,
        max_connections=connections + 1,  # the probe's is one more
        db=address.database,
        credential_provider=credentials,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        # No CLIENT SETINFO and no maintenance handshake: a new connection costs no extra round trip.
        driver_info=None,
        protocol=2,
        **place,
    )
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()  # replies as they come: it is the store that looks at their types
    return client


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at the exception of a task nobody waits for any more, so that it is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
