"""The shared store: one Redis hash per user, so that all replicas see a new follow at the next request.

Redis has a time budget for each reply and no more: a breaker stops asking after the first failure. Every stored value
carries its user, and every reply's type is looked at, so that nothing passes for an answer that is none.
"""

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import msgspec

from bundle.errors import StateError
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.metrics import RedisMetrics
from service.problems import overloaded
from service.state.edge_cache import EdgeCache, Owner
from service.state.events import FOLLOWERS_MAX, Event, Followers, NetEffect, Outcome, followers, live_edges
from service.state.feedback import KINDS, MARKS_KEPT, Count, Seen, counts_of
from service.state.redis_address import RedisAddress
from service.state.redis_link import WRONG_TYPE, Lane, RedisLink, Refused
from service.state.redis_scripts import (
    APPEND,
    COUNT,
    FORGET,
    FORGET_FOLLOWER,
    FORGET_MENTIONS,
    HAS,
    READ,
    READ_HASH,
    SCAN,
    TAKE_BACK,
    TELL,
    Command,
    script,
)
from service.state.store import one_after_the_other
from service.state.trouble import SOME_USERS_SECONDS
from service.state.write_queue import Append, QueueFull, WriteQueue

# Up to so many events come with the first reply and are added up on the event loop; of more, so many at a time.
FEW_EVENTS = 64
ADDED_AT_ONCE = 256
ANY_NUMBER = 10**9
BULK_CONNECTIONS = 2
# Several writes are under way at once, since each takes a round trip. What one has keeps the event loop for a
# millisecond when it is sent and when it is answered.
WRITES_UNDER_WAY_MAX = 4
EVENTS_AT_ONCE = 100
# An erasure goes through all users: so many keys a round trip, so few a script that others get their turn in between.
KEYS_SCANNED = 512
USERS_AT_ONCE = 16
REWRITE_AGAIN_SECONDS = 1.0
# How much of the time that a write may take is spent on waiting for a replica.
REPLICA_SHARE = 0.6

log = logging.getLogger("twhin.state")
_decode = msgspec.json.Decoder(list[Event]).decode
_mark = msgspec.json.Decoder(tuple[float, float, str, str, str]).decode
OUTCOMES: dict[object, Outcome] = {b"stored": "stored", b"duplicate": "duplicate", b"full": "full"}


def feedback_owner(experiment: str) -> Owner:
    """Whose place in a cluster an experiment's feedback has."""
    return "feedback", experiment


class _MixedUp(StateError):
    """A reply that belongs to somebody else."""


class RedisStore:
    """Events in the Redis at `address`. Durable as that Redis is: run it with `appendonly yes`.

    As a node of a cluster it holds some of the users, in keys that are in one slot. While it is `replicated`
    nothing counts as stored or erased before a replica has it too.
    """

    local: ClassVar[bool] = False

    def __init__(
        self,
        address: RedisAddress,
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
        `retry_seconds`; `shed` counts what is refused. Opens no connection yet.
        """
        self.address = address
        self.replicated = False
        self._replica_ms = max(1, int(write_timeout * 1000 * REPLICA_SHARE))
        self._prefix = prefix
        self._events_per_user_max = events_per_user_max
        self._metrics = metrics
        self._shed = shed
        self._link = RedisLink(
            Lane("reads", address, timeout, connections),
            Lane("reads of many", address, write_timeout, BULK_CONNECTIONS),
            Lane("writes", address, write_timeout, connections),
            prefix=prefix,
            retry_seconds=retry_seconds,
            metrics=metrics,
            shed=shed,
        )
        self._cache = EdgeCache()
        self._adder = ThreadPoolExecutor(1, thread_name_prefix="twhin-state-reader")
        self._queue: WriteQueue[Append] = WriteQueue(EVENTS_AT_ONCE)
        self._writers = 0
        self._one_erasure = asyncio.Lock()
        self._rewriting: asyncio.Task[None] | None = None
        self._rewrite_again = False

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        owner = user_type, user
        kept = self._cache.get(owner)
        try:
            state, events = await self._read(self._link.quick, owner, None if kept is None else kept[0], FEW_EVENTS)
            _, size = state
            if size == 0:
                return NO_LIVE_EDGES
            if kept is not None and kept[0] == state:
                return kept[1]
            if size <= FEW_EVENTS:
                return live_edges(self._decoded(owner, events))
            return await self._cache.added_up(owner, state, self._add_up)
        except _MixedUp:
            await self._link.disconnect()
            raise

    async def followers_of(self, user_type: str, user: str, relation: str) -> Followers:
        key = self._followers_key((user_type, user))
        reply = await self._link.ask("read", self._link.quick, script(READ_HASH, (key,)))
        if not isinstance(reply, list) or not all(isinstance(word, bytes) for word in reply):
            raise self._link.no_redis(self._link.quick)
        head = f"{relation}\0".encode()
        pairs = zip(reply[::2], reply[1::2], strict=True)
        try:
            found = [(name[len(head) :].decode(), _mark(value)) for name, value in pairs if name.startswith(head)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._metrics.failed("garbage")
            raise StateError("the store of live engagements holds something else for this user") from None
        if any(target != user for _, (*_, target) in found):
            self._metrics.failed("mixed_up")
            self._link.trouble.begin("read", "it answered for another user", lasts=SOME_USERS_SECONDS)
            await self._link.disconnect()
            raise _MixedUp("the store of live engagements answered for another user")
        return followers((name, action, at, received, event) for name, (at, received, event, action, _) in found)

    async def since(self, user_type: str, user: str, relation: str) -> tuple[LiveEdges, Followers | None]:
        return await one_after_the_other(self, user_type, user, relation)

    async def tell(self, events: Sequence[Event]) -> None:
        """Keep of `events`, which are stored, what they do to their targets, unless their users have been erased since
        (which a node of a cluster cannot know). Safe to repeat.
        """
        told: dict[str, list[str | bytes | int]] = {}
        owners: dict[str, list[str]] = {}
        for event in events:
            mark = msgspec.json.encode((event.at, event.received, event.id, event.action, event.target))
            key = self._followers_key((event.target_type, event.target))
            told.setdefault(key, [FOLLOWERS_MAX]).extend((f"{event.relation}\0{event.user}", mark, event.id))
            owners.setdefault(key, []).extend([] if self.address.clustered else [self._keys(event.owner)[0]])
        await self._run_all([script(TELL, (key, *owners[key]), tuple(arguments)) for key, arguments in told.items()])

    async def take_back(self, events: Sequence[Event]) -> None:
        """Undo `tell`."""
        told: dict[str, list[str]] = {}
        for event in events:
            key = self._followers_key((event.target_type, event.target))
            told.setdefault(key, []).extend((f"{event.relation}\0{event.user}", event.id))
        await self._run_all([script(TAKE_BACK, (key,), arguments) for key, arguments in told.items()])

    async def stored(self, owner: Owner, events: Sequence[Event]) -> list[Event]:
        """Those of the user's `events` that are stored now."""
        reply = await self._write(script(HAS, (self._keys(owner)[0],), [event.id for event in events]))
        if not isinstance(reply, list) or len(reply) != len(events) or not set(reply) <= {0, 1}:
            raise self._link.no_redis(self._link.patient)
        return [event for event, found in zip(events, reply, strict=True) if found]

    async def _read(self, lane: Lane, owner: Owner, known: object, most: int) -> tuple[tuple[bytes, int], bytes]:
        """The state of the user's events, which is a stamp and their number, and a JSON list of them if they are `most`
        at most and their state is not `known`.
        """
        stamp, size = known if isinstance(known, tuple) else (b"", 0)
        new_stamp = secrets.token_hex(8) if most > FEW_EVENTS else ""
        reply = await self._link.ask("read", lane, script(READ, self._keys(owner), (stamp, size, most, new_stamp)))
        match reply:
            case [bytes() as stamp, int() as size, bytes() as events]:
                return (stamp, size), events
        raise self._link.no_redis(lane)

    async def _add_up(self, owner: Owner) -> tuple[tuple[bytes, int], LiveEdges]:
        state, events = await self._read(self._link.bulk, owner, None, ANY_NUMBER)
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
            self._link.trouble.begin("read", WRONG_TYPE, lasts=SOME_USERS_SECONDS)
            raise StateError("the store of live engagements holds something else for this user") from None
        if any(event.owner != owner for event in decoded):
            self._metrics.failed("mixed_up")
            self._link.trouble.begin("read", "it answered for another user", lasts=SOME_USERS_SECONDS)
            raise _MixedUp("the store of live engagements answered for another user")
        return decoded

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        by_owner: dict[Owner, list[int]] = {}
        for position, event in enumerate(events):
            by_owner.setdefault(event.owner, []).append(position)
        portions = [
            positions[start : start + EVENTS_AT_ONCE]
            for positions in by_owner.values()
            for start in range(0, len(positions), EVENTS_AT_ONCE)
        ]
        loop = asyncio.get_running_loop()
        parts = [Append([events[i] for i in positions], loop.create_future()) for positions in portions]
        answers = asyncio.gather(*(part.future for part in parts), return_exceptions=True)
        try:
            for part in parts:
                self._put(part)
            outcomes: dict[int, Outcome] = {}
            for positions, answer in zip(portions, await answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                outcomes.update(zip(positions, answer, strict=True))
        finally:
            answers.cancel()  # what has not begun is dropped

        # Of a duplicate too: it may be sent again because this is where it failed. In a cluster the targets' nodes are
        # told.
        if not self.address.clustered:
            await self.tell([one for i, one in enumerate(events) if one.followed and outcomes[i] != "full"])
        return [outcomes[position] for position in range(len(events))]

    def _put(self, append: Append) -> None:
        try:
            self._queue.put(append)
        except QueueFull:
            self._shed("state_queue")
            raise overloaded("too many engagements wait to be stored") from None
        if self._writers < WRITES_UNDER_WAY_MAX:
            self._writers += 1
            self._link.start(self._write_what_waits())

    async def _write_what_waits(self) -> None:
        try:
            while appends := self._queue.take():
                try:
                    replies = await self._written([self._append_script(part) for part in appends])
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
        finally:
            # Here and not when the task is over: what is put in between would count on a writer that takes no more.
            self._writers -= 1

    def _append_script(self, append: Append) -> Command:
        arguments: list[str | bytes | int] = [secrets.token_hex(8)]
        for event in append.events:
            arguments += [event.id, event.room(self._events_per_user_max), msgspec.json.encode(event)]
        return script(APPEND, self._keys(append.owner), tuple(arguments))

    def _outcomes(self, reply: object, events: int) -> list[Outcome] | StateError:
        if isinstance(reply, list) and len(reply) == events and all(isinstance(word, bytes) for word in reply):
            outcomes = [OUTCOMES[word] for word in reply if word in OUTCOMES]
            if len(outcomes) == events:
                return outcomes
        return self._link.no_redis(self._link.patient)

    async def count(self, experiment: str, seen: Sequence[Seen]) -> list[bool]:
        """Goes on when the request has given up, and may be asked for again."""
        return await asyncio.shield(self._link.start(self._count(experiment, seen)))

    async def _count(self, experiment: str, seen: Sequence[Seen]) -> list[bool]:
        new: list[bool] = []
        for start in range(0, len(seen), EVENTS_AT_ONCE):
            part = seen[start : start + EVENTS_AT_ONCE]
            arguments: list[str | bytes | int] = [MARKS_KEPT]
            for one in part:
                arguments += [one.mark.to_bytes(8, "big"), f"{one.kind}:{one.arm}"]
            (reply,) = await self._written([script(COUNT, self._feedback_keys(experiment), tuple(arguments))])
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, list) or len(reply) != len(part) or not set(reply) <= {0, 1}:
                raise self._link.no_redis(self._link.patient)
            new += map(bool, reply)
        return new

    async def counted(self, experiment: str) -> dict[str, Count]:
        _, key = self._feedback_keys(experiment)
        reply = await self._link.ask("read", self._link.quick, script(READ_HASH, (key,)))
        if not isinstance(reply, list) or not all(isinstance(word, bytes) for word in reply):
            raise self._link.no_redis(self._link.quick)
        rows = []
        for name, number in zip(reply[::2], reply[1::2], strict=True):
            kind, _, arm = name.decode("utf-8", "replace").partition(":")
            if kind in KINDS and number.isdigit():
                rows.append((arm, kind, int(number)))
        return counts_of(rows)

    async def forget(self, user_type: str, user: str) -> int:
        """Its time grows with the number of all users: it looks through the events of each for the user as target.

        It goes on when the request has given up, and may be asked for again.
        """
        return await asyncio.shield(self._link.start(self._forget((user_type, user))))

    async def _forget(self, owner: Owner) -> int:
        size = await self.forget_own(owner)
        await self.forget_mentions(owner)
        await self.forget_followers(owner)
        return size

    async def forget_own(self, owner: Owner) -> int:
        """Remove the user's own events, and tell how many that was. Not to be cancelled."""
        (size,) = await self._written([script(FORGET, (*self._keys(owner), self._followers_key(owner)))])
        if isinstance(size, StateError):
            raise size
        if not isinstance(size, int):
            raise self._link.no_redis(self._link.patient)
        return size

    async def forget_followers(self, owner: Owner, before: float | None = None) -> None:
        """Remove once more who has come to follow the user (all that was received `before`): an event that was found as
        a mention may have been told in between, and no later one of it is told. Not to be cancelled."""
        key = self._followers_key(owner)
        await self._run_all([script(FORGET, (key,)) if before is None else _forget_told((key,), None, before)])

    async def forget_told(self, owner: Owner, before: float) -> None:
        """Remove what others were told of the user and was received `before` (Unix seconds). Not to be cancelled."""
        async for keys in self._followers_keys(owner[0]):
            await self._forget_follower(keys, owner[1], before)

    async def forget_mentions(self, owner: Owner) -> None:
        """Remove the events of others that have the user as their target, and every trace of what was erased from the
        append-only file. Not to be cancelled."""
        async with self._one_erasure:
            await self._forget_all_mentions(owner)
        self._cache.clear()  # others may have had the user as their target
        self._rewrite_again = True
        if self._rewriting is None or self._rewriting.done():
            self._rewriting = self._link.start(self._ask_for_a_new_log())

    async def _forget_all_mentions(self, owner: Owner) -> None:
        named = msgspec.json.encode({"target_type": owner[0], "target": owner[1]})[1:-1] + b","
        async for keys in self._scanned("events:*"):
            await self._forget_mentions(keys, named)
        async for keys in self._followers_keys(owner[0]):
            await self._forget_follower(keys, owner[1])

    async def _followers_keys(self, user_type: str) -> AsyncIterator[list[bytes]]:
        of_type = tuple(f"{self._prefix}:followers:{brace}{user_type}:".encode() for brace in ("", "{"))
        async for keys in self._scanned("followers:*"):
            yield [key for key in keys if key.startswith(of_type)]

    async def _scanned(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """The keys of all users that a pattern names, some at a time."""
        escaped = re.sub(r"([][*?\\])", r"\\\1", self._prefix)
        cursor = b"0"
        while True:
            reply = await self._write(script(SCAN, (), (cursor, f"{escaped}:{pattern}", KEYS_SCANNED)))
            match reply:
                case [bytes() as cursor, list() as keys] if all(isinstance(key, bytes) for key in keys):
                    yield keys
                case _:
                    raise self._link.no_redis(self._link.patient)
            if cursor == b"0":
                return

    async def _forget_follower(self, keys: Sequence[bytes], user: str, before: float = math.inf) -> None:
        users = 1 if self.address.clustered else USERS_AT_ONCE
        starts = range(0, len(keys), users)
        await self._run_all([_forget_told(tuple(keys[at : at + users]), user, before) for at in starts])

    async def _forget_mentions(self, keys: Sequence[bytes], named: bytes) -> None:
        prefix = f"{self._prefix}:events:".encode()
        both = [(key, f"{self._prefix}:stamp:".encode() + key.removeprefix(prefix)) for key in keys]
        users = 1 if self.address.clustered else USERS_AT_ONCE  # a script's keys are in one slot
        scripts = [
            script(FORGET_MENTIONS, tuple(key for pair in both[start : start + users] for key in pair), (named,))
            for start in range(0, len(both), users)
        ]
        await self._run_all(scripts)

    async def _run_all(self, scripts: Sequence[Command]) -> None:
        """Run scripts that write and answer with a number."""
        for reply in await self._written(scripts) if scripts else []:
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, int):
                raise self._link.no_redis(self._link.patient)

    async def _ask_for_a_new_log(self) -> None:
        """Have the append-only file written anew: what was erased is in the old one. A rewriting that was under way
        already may have begun before the erasure, so another follows it.
        """
        while self._rewrite_again:
            try:
                state = await self._link.ask("upkeep", self._link.patient, ("INFO", "persistence"))
                if not isinstance(state, bytes) or b"aof_enabled:1" not in state:
                    return
                if b"aof_rewrite_in_progress:0" in state and b"aof_rewrite_scheduled:0" in state:
                    self._rewrite_again = False
                    await self._link.ask("upkeep", self._link.patient, ("BGREWRITEAOF",))
                    continue
            except Refused as error:
                told = "erased engagements stay in Redis' append-only file until somebody has it rewritten"
                log.warning(told, extra={"reason": error.words})
                return
            except StateError:
                self._rewrite_again = True  # Redis is away: when it is back
            await asyncio.sleep(REWRITE_AGAIN_SECONDS)

    async def _written(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands that write, as of `ask_all`; where there is a replica, once one has it all too."""
        if not self.replicated:
            return await self._link.ask_all("write", self._link.patient, commands)
        wait: Command = ("WAIT", 1, self._replica_ms)
        *replies, replicas = await self._link.ask_all("write", self._link.patient, [*commands, wait])
        if isinstance(replicas, int) and replicas > 0:
            self._link.trouble.end("replication")
            return replies
        self._link.trouble.begin("replication", "its replica does not confirm what is written")
        raise StateError("no replica of the store of live engagements has the write")

    async def slots(self) -> object:
        """What the node says of who has which slots. Raises StateError."""
        return await self._link.ask("upkeep", self._link.patient, ("CLUSTER", "SLOTS"))

    async def _write(self, command: Command) -> object:
        return await self._link.ask("write", self._link.patient, command)

    async def close(self) -> None:
        await self._link.close()
        await asyncio.to_thread(self._adder.shutdown)

    def describe(self) -> dict[str, str | bool]:
        reason = self._link.trouble.reason
        known: dict[str, str | bool] = {"kind": "redis", "healthy": reason is None, "shared": True}
        return known if reason is None else {**known, "reason": reason}

    def _keys(self, owner: Owner) -> tuple[str, str]:
        name = self._name(owner)
        return f"{self._prefix}:events:{name}", f"{self._prefix}:stamp:{name}"

    def _feedback_keys(self, experiment: str) -> tuple[str, str]:
        name = self._name(feedback_owner(experiment))
        return f"{self._prefix}:marks:{name}", f"{self._prefix}:counts:{name}"

    def _followers_key(self, owner: Owner) -> str:
        return f"{self._prefix}:followers:{self._name(owner)}"

    def _name(self, owner: Owner) -> str:
        name = ":".join(owner)
        return f"{{{name}}}" if self.address.clustered else name  # in braces: the part that decides on the slot


def _forget_told(keys: tuple[str | bytes, ...], user: str | None, before: float) -> Command:
    """What the user did to the users of `keys`, None for all who did something to these."""
    return script(FORGET_FOLLOWER, keys, ("all" if user is None else "one", user or "", repr(before)))
