"""The shared store: one Redis hash per user, so that all replicas see a new follow at the next request.

Redis has a time budget for each reply and no more: a breaker stops asking after the first failure. Every stored value
carries its user, and every reply's type is looked at, so that nothing passes for an answer that is none.
"""

import asyncio
import contextlib
import logging
import math
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar

import msgspec

from bundle.errors import StateError
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.low_priority import LowPriority
from service.metrics import RedisMetrics
from service.problems import overloaded
from service.state.edge_cache import EdgeCache, Owner
from service.state.events import FOLLOWERS_MAX, Event, Followers, NetEffect, Outcome, followers, live_edges
from service.state.feedback import KINDS, MARKS_KEPT, Count, Seen, counts_of
from service.state.redis_address import RedisAddress
from service.state.redis_link import Lane, RedisLink, Refused
from service.state.redis_reasons import SOME_USERS, WRONG_TYPE
from service.state.redis_scripts import (
    APPEND,
    COUNT,
    FORGET,
    FORGET_FOLLOWER,
    FORGET_MENTIONS,
    FORGET_SOME_MENTIONS,
    HAS,
    READ,
    READ_HASH,
    SCAN,
    TAKE_BACK,
    TELL,
    TRY_OUT,
    Command,
    script,
)
from service.state.trouble import SOME_USERS_SECONDS
from service.state.write_queue import Append, QueueFull, WriteQueue

# Up to so many events come with the first reply; of more, so many at a time, some tenths of a millisecond each for
# Redis and for the event loop.
FEW_EVENTS = 64
ADDED_AT_ONCE = 256
BULK_CONNECTIONS = 2
# Several writes are under way at once, since each takes a round trip. What one has keeps the event loop for a
# millisecond when it is sent and when it is answered.
WRITES_UNDER_WAY_MAX = 4
EVENTS_AT_ONCE = 100
# An erasure goes through all users: so many keys a round trip, so few a script that others get their turn in between.
KEYS_SCANNED = 512
USERS_AT_ONCE = 16
REWRITE_AGAIN_SECONDS = 1.0
# How often it is tried whether writing works again, while nobody writes.
TRY_AGAIN_SECONDS = 1.0
# How often a user's events are read again, and users gone through for an erasure, where Redis was another meanwhile.
AGAIN_MAX = 3
# How often it is looked whether Redis keeps what it takes, once something was stored.
LOOK_SECONDS = 30.0
# How much of the time that a write may take is spent on waiting for a replica.
REPLICA_SHARE = 0.6
# Of what INFO says: which process it is, and whether it is a replica by now.
IDENTITY = (b"run_id:", b"role:")

log = logging.getLogger("twhin.state")
_decode = msgspec.json.Decoder(list[Event]).decode
_mark = msgspec.json.Decoder(tuple[float, float, str, str, str]).decode
State = tuple[bytes, int]  # a stamp, and how many events there are
OUTCOMES: dict[object, Outcome] = {b"stored": "stored", b"duplicate": "duplicate", b"full": "full"}


def feedback_owner(experiment: str) -> Owner:
    """Whose place in a cluster an experiment's feedback has."""
    return "feedback", experiment


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
        low_priority: LowPriority | None = None,
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
        self._low_priority = low_priority or LowPriority()
        self._cache = EdgeCache()
        self._queue: WriteQueue[Append] = WriteQueue(EVENTS_AT_ONCE)
        self._writers = 0
        # Whose writes are under way: one portion each, so that whoever writes much has a part of the connections.
        self._busy = set[Owner]()
        self._one_erasure = asyncio.Lock()
        self._rewriting: asyncio.Task[None] | None = None
        self._rewrite_again = False
        self._looking: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        owner = user_type, user
        kept = self._cache.get(owner)
        reply = await self._link.ask("read", self._link.quick, self._read(owner, kept, FEW_EVENTS))
        return await self._edges(owner, kept, reply)

    async def followers_of(self, user_type: str, user: str, relation: str) -> Followers:
        reply = await self._link.ask("read", self._link.quick, self._read_followers((user_type, user)))
        return self._followers(user, relation, reply)

    async def since(self, user_type: str, user: str, relation: str) -> tuple[LiveEdges, Followers | None]:
        owner = user_type, user
        kept = self._cache.get(owner)
        asked = [self._read(owner, kept, FEW_EVENTS), self._read_followers(owner)]
        own, others = await self._link.ask_all("read", self._link.quick, asked)
        if isinstance(own, StateError):
            raise own
        live = await self._edges(owner, kept, own)
        try:
            if isinstance(others, StateError):
                raise others
            return live, self._followers(user, relation, others)
        except StateError:
            return live, None

    def _read(self, owner: Owner, known: tuple[object, LiveEdges] | None, most: int) -> Command:
        """Ask for the state of the user's events, and for these if they are `most` at most and not `known`."""
        stamp, size = known[0] if known is not None and isinstance(known[0], tuple) else (b"", 0)
        new_stamp = "" if most else secrets.token_hex(8)
        return script(READ, self._keys(owner), (stamp, size, most, new_stamp))

    def _read_followers(self, owner: Owner) -> Command:
        return script(READ_HASH, (self._followers_key(owner),))

    def _state_and_events(self, lane: Lane, reply: object) -> tuple[State, bytes]:
        match reply:
            case [bytes() as stamp, int() as size, bytes() as events]:
                return (stamp, size), events
        raise self._link.no_redis(lane)

    async def _edges(self, owner: Owner, kept: tuple[object, LiveEdges] | None, reply: object) -> LiveEdges:
        state, events = self._state_and_events(self._link.quick, reply)
        stamp, size = state
        if size == 0:
            return NO_LIVE_EDGES
        if kept is not None and kept[0] == state and stamp:
            return kept[1]
        if size <= FEW_EVENTS:
            return live_edges(self._decoded(owner, events))
        with self._low_priority.request():
            return await self._cache.added_up(owner, state, self._add_up)

    def _followers(self, user: str, relation: str, reply: object) -> Followers:
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
            raise self._mixed_up()
        return followers((name, action, at, received, event) for name, (at, received, event, action, _) in found)

    async def _add_up(self, owner: Owner) -> tuple[State, LiveEdges]:
        """The state before, and what there is since, some events at a time: neither Redis nor the event loop stands
        still for one user. What comes meanwhile may count or not; what is erased meanwhile was there when it was asked.

        A cursor means something to the server that gave it. Where another one has taken its place meanwhile (a
        failover, a restart) there are fewer events than the state says, and all are read again.
        """
        for _ in range(AGAIN_MAX):
            reply = await self._link.ask("read", self._link.bulk, self._read(owner, None, 0))
            state, _ = self._state_and_events(self._link.bulk, reply)
            effect = await self._effect_of(owner, at_least=state[1])
            if effect is not None:
                break
        else:
            raise StateError("the store of live engagements was another one while a user's events were read")
        steps = effect.edges()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return state, done.value
            await self._low_priority.give_way()

    async def _effect_of(self, owner: Owner, at_least: int) -> NetEffect | None:
        """What the user's events add up to; None where these are fewer."""
        link, effect, ids, cursor = self._link, NetEffect(), set[bytes](), b"0"
        while True:
            part = ("HSCAN", self._keys(owner)[0], cursor, "COUNT", ADDED_AT_ONCE)
            match await link.ask("read", link.bulk, part):
                case [bytes() as cursor, list() as found] if all(isinstance(word, bytes) for word in found):
                    effect.count(self._decoded(owner, b"[%b]" % b",".join(found[1::2])))
                    ids.update(found[::2])
                case _:
                    raise link.no_redis(link.bulk)
            if cursor == b"0":
                return effect if len(ids) >= at_least else None
            await self._low_priority.give_way()

    def _decoded(self, owner: Owner, events: bytes) -> list[Event]:
        try:
            decoded = _decode(events)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._metrics.failed("garbage")
            self._link.trouble.begin("read", WRONG_TYPE, lasts=SOME_USERS_SECONDS)
            raise StateError("the store of live engagements holds something else for this user") from None
        if any(event.owner != owner for event in decoded):
            raise self._mixed_up()
        return decoded

    def _mixed_up(self) -> StateError:
        """A reply that belongs to somebody else: whatever is on the connections now may be anybody's."""
        self._metrics.failed("mixed_up")
        self._link.trouble.begin("read", "it answered for another user", lasts=SOME_USERS_SECONDS)
        self._link.disconnect()
        return StateError("the store of live engagements answered for another user")

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

    async def stored(self, events: Sequence[Event]) -> list[Event]:
        """Those of `events` that are stored now."""
        by_owner: dict[Owner, list[Event]] = {}
        for event in events:
            by_owner.setdefault(event.owner, []).append(event)
        asked = [script(HAS, self._keys(owner)[:1], [one.id for one in sent]) for owner, sent in by_owner.items()]
        found: list[Event] = []
        for sent, reply in zip(by_owner.values(), await self._written(asked), strict=True):
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, list) or len(reply) != len(sent) or not set(reply) <= {0, 1}:
                raise self._link.no_redis(self._link.patient)
            found += [event for event, there in zip(sent, reply, strict=True) if there]
        return found

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
        self._put(parts)
        answers = asyncio.gather(*(part.future for part in parts), return_exceptions=True)
        try:
            outcomes: dict[int, Outcome] = {}
            for positions, answer in zip(portions, await answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                outcomes.update(zip(positions, answer, strict=True))
        finally:
            answers.cancel()  # what has not begun is dropped
        return [outcomes[position] for position in range(len(events))]

    def _put(self, appends: Sequence[Append]) -> None:
        try:
            self._queue.put(*appends)
        except QueueFull:
            self._shed("state_queue")
            raise overloaded("too many engagements wait to be stored") from None
        for _ in range(min(len(appends), WRITES_UNDER_WAY_MAX - self._writers)):
            self._writers += 1
            self._link.start(self._write_what_waits())

    async def _write_what_waits(self) -> None:
        try:
            while appends := self._queue.take(busy=self._busy):
                owners = {append.owner for append in appends}
                self._busy |= owners
                try:
                    answers = await self._kept(appends)
                finally:
                    self._busy -= owners
                # It ends where Redis does not allow it, and by the next write it may.
                unwatched = self._looking is None or self._looking.done()
                if unwatched and not all(isinstance(answer, StateError) for answer in answers):
                    self._looking = self._link.start(self._look_whether_it_keeps())
                for append, answer in zip(appends, answers, strict=True):
                    if append.future.done():  # the request has given up; what is stored is stored all the same
                        continue
                    if isinstance(answer, StateError):
                        append.future.set_exception(answer)
                    else:
                        append.future.set_result(answer)
        finally:
            # Here and not when the task is over: what is put in between would count on a writer that takes no more.
            self._writers -= 1

    async def _kept(self, appends: Sequence[Append]) -> list[list[Outcome] | StateError]:
        """What became of the events of each; where their targets could not be told, that they may be sent again."""
        try:
            replies = await self._written([self._append_script(append) for append in appends])
        except StateError as error:
            return [error] * len(appends)
        answers = [
            reply if isinstance(reply, StateError) else self._outcomes(reply, len(append.events))
            for append, reply in zip(appends, replies, strict=True)
        ]
        if self.address.clustered:  # the targets' nodes are told
            return answers
        # Of a duplicate too: it may be sent again because this is where it failed.
        told = [_to_tell(append.events, answer) for append, answer in zip(appends, answers, strict=True)]
        try:
            await self.tell([event for events in told for event in events])
        except Refused:  # of which target that is said, only those hear who did something to it
            return [await self._told(events, answer) for events, answer in zip(told, answers, strict=True)]
        except StateError as error:
            return [error if events else answer for events, answer in zip(told, answers, strict=True)]
        return answers

    async def _told(self, events: Sequence[Event], answer: list[Outcome] | StateError) -> list[Outcome] | StateError:
        try:
            await self.tell(events)
        except StateError as error:
            return error
        return answer

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

        async def scan() -> None:
            async for keys in self._followers_keys(owner[0]):
                await self._forget_follower(keys, owner[1], before)

        await self._at_one_server(scan)

    async def forget_mentions(self, owner: Owner) -> None:
        """Remove the events of others that have the user as their target, and every trace of what was erased from the
        append-only file. Not to be cancelled."""
        async with self._one_erasure:
            await self._at_one_server(lambda: self._forget_all_mentions(owner))
        self._cache.clear()  # others may have had the user as their target
        self._rewrite_again = True
        if self._rewriting is None or self._rewriting.done():
            self._rewriting = self._link.start(self._ask_for_a_new_log())

    async def _at_one_server(self, scan: Callable[[], Awaitable[None]]) -> None:
        """Go through the keys of all users, again where another server answered meanwhile. Raises StateError where that
        goes on.
        """
        for _ in range(AGAIN_MAX):
            before = await self._who_answers()
            await scan()
            if await self._who_answers() == before:
                return
        raise StateError("the store of live engagements was another one during an erasure")

    async def _who_answers(self) -> frozenset[bytes]:
        """Which server that is, and in which role. The cursors of another one lead past some of its keys."""
        try:
            told = await self._link.ask("upkeep", self._link.patient, ("INFO",))
        except Refused as error:
            if not error.for_good:
                raise
            return frozenset()  # a server without it cannot be told from another
        if not isinstance(told, bytes):
            raise self._link.no_redis(self._link.patient)
        return frozenset(line for line in told.split(b"\r\n") if line.startswith(IDENTITY))

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
        some = [both[start : start + users] for start in range(0, len(both), users)]
        scripts = [
            script(FORGET_MENTIONS, [key for pair in pairs for key in pair], (named, FEW_EVENTS)) for pairs in some
        ]
        for pairs, reply in zip(some, await self._written(scripts) if scripts else [], strict=True):
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, list) or not set(reply) <= set(range(1, len(pairs) + 1)):
                raise self._link.no_redis(self._link.patient)
            for number in reply:
                await self._forget_mentions_of_many(pairs[number - 1], named)

    async def _forget_mentions_of_many(self, pair: tuple[bytes, bytes], named: bytes) -> None:
        """The same in the many events of one user, some at a time."""
        cursor = b"0"
        while True:
            (reply,) = await self._written([script(FORGET_SOME_MENTIONS, pair, (named, cursor, ADDED_AT_ONCE))])
            if isinstance(reply, StateError):
                raise reply
            if not isinstance(reply, bytes):
                raise self._link.no_redis(self._link.patient)
            if reply == b"0":
                return
            cursor = reply

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
        told_of_refusal = False
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
                if not told_of_refusal:
                    told_of_refusal = True
                    told = "erased engagements stay in Redis' append-only file until it is rewritten"
                    log.warning(told, extra={"reason": error.words})
                if error.for_good:
                    return
                self._rewrite_again = True
            except StateError:
                self._rewrite_again = True  # Redis is away: when it is back
            await asyncio.sleep(REWRITE_AGAIN_SECONDS)

    async def _look_whether_it_keeps(self) -> None:
        """See again and again whether Redis may let go of what it has said is stored: no reply tells."""
        told_of_log = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)  # first too: what is written next does not share its connections
            try:
                told = await self._link.ask("upkeep", self._link.patient, ("INFO",))
            except StateError as error:
                if isinstance(error, Refused) and error.for_good:  # it cannot be looked at
                    self._link.trouble.end("keeping")
                    return
                told = b""  # Redis is away, or busy: when it is back
            lines = told.split(b"\r\n") if isinstance(told, bytes) else []
            if any(line.startswith(b"maxmemory_policy:allkeys-") for line in lines) and b"maxmemory:0" not in lines:
                self._link.trouble.begin("keeping", "it lets go of engagements when its memory is full")
            elif lines != [b""]:
                self._link.trouble.end("keeping")
            if b"aof_enabled:0" in lines and not told_of_log:
                told_of_log = True
                log.warning("Redis keeps no append-only file: what is stored now may be gone when it ends")

    async def _written(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands that write, as of `ask_all`; where there is a replica, once one has it all too."""
        if not self.replicated:
            replies = await self._link.ask_all("write", self._link.patient, commands)
            refused = any(isinstance(reply, Refused) and reply.sort not in SOME_USERS for reply in replies)
            if refused and not self.address.clustered and (self._trying is None or self._trying.done()):
                self._trying = self._link.start(self._try_out())
            return replies
        wait: Command = ("WAIT", 1, self._replica_ms)
        *replies, replicas = await self._link.ask_all("write", self._link.patient, [*commands, wait])
        if isinstance(replicas, int) and replicas > 0:
            self._link.trouble.end("replication")
            return replies
        self._link.trouble.begin("replication", "its replica does not confirm what is written")
        raise StateError("no replica of the store of live engagements has the write")

    async def _try_out(self) -> None:
        """See again and again whether writing works again: those who were refused may not come back. Not on a node of a
        cluster, where no key is in the slots of all.
        """
        while self._link.trouble.has("write"):
            await asyncio.sleep(TRY_AGAIN_SECONDS)
            with contextlib.suppress(StateError):
                await self._write(script(TRY_OUT, (f"{self._prefix}:tried",)))

    async def slots(self) -> object:
        """What the node says of who has which slots. Raises StateError."""
        return await self._link.ask("upkeep", self._link.patient, ("CLUSTER", "SLOTS"))

    async def _write(self, command: Command) -> object:
        return await self._link.ask("write", self._link.patient, command)

    async def close(self) -> None:
        await self._link.close()

    @property
    def ended(self) -> list[str]:
        return []  # each probe ends when it has succeeded, and the next failure begins another

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


def _to_tell(events: Sequence[Event], answer: list[Outcome] | StateError) -> list[Event]:
    if isinstance(answer, StateError):
        return []
    return [event for event, outcome in zip(events, answer, strict=True) if event.followed and outcome != "full"]


def _forget_told(keys: tuple[str | bytes, ...], user: str | None, before: float) -> Command:
    """What the user did to the users of `keys`, None for all who did something to these."""
    return script(FORGET_FOLLOWER, keys, ("all" if user is None else "one", user or "", repr(before)))
