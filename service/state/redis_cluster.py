"""The shared store over a Redis Cluster: each user's events on the node that has their slot, asked by itself.

A node that is away is away for its users alone. Which node has which slots is asked of any of them: at first, when one
sends us elsewhere, and again and again while one does not answer, since a replica may take its place.
"""

import asyncio
import binascii
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.background import begin, closed
from service.shared_work import outliving
from service.state.events import Event, Followers, Outcome
from service.state.feedback import Count, Seen
from service.state.redis import EVENTS_AT_ONCE, RedisStore, feedback_owner
from service.state.redis_address import RedisAddress
from service.state.redis_link import Refused
from service.state.redis_reasons import ALL_USERS, NO_CLUSTER, NO_SLOTS, REDIRECTED
from service.state.trouble import SOME_USERS_SECONDS, Trouble

SLOTS = 16_384
MOVING = "slots are on their way from one node of the Redis Cluster to another, and their users wait"
# An erasure begins again when slots have moved meanwhile: a user may have been looked for at either place too late.
ERASURES_MAX = 5
# A telling ends with a look at whether its event is still there. Where a worker was killed before that look, what it
# had sent may arrive after an erasure: this long after it, what was told is looked through once more.
LOOK_AGAIN_SECONDS = 30.0
# By so much the clocks of workers may differ. What a user does in that time after an erasure is stored, but goes from
# what others were told.
CLOCKS_APART_SECONDS = 5.0
# At the end of the service what is still to be looked through is looked through at once, in less time than a worker
# has to end.
LAST_LOOKS_SECONDS = 1.5
# A node that is gone is let go of when nobody can wait for it any more.
CLOSED_AFTER_SECONDS = 10.0
Owner = tuple[str, str]
Place = tuple[str, int]
Result = TypeVar("Result")
log = logging.getLogger("twhin.state")


def slot_of(key: bytes) -> int:
    """The slot of a key: CRC-16 (XMODEM) of what stands between its first braces, or of all of it."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which of `nodes`, by host and port, has each slot, -1 for none; and which of them have a replica."""

    nodes: tuple[Place, ...]
    node_of: tuple[int, ...]
    replicated: tuple[bool, ...]


class NoMap(StateError):
    """What a node says of the slots is none of what Redis says, or is nothing: it has yet to join, or was reset."""


def slot_map(reply: object, asked: str) -> SlotMap:
    """The answer of the node at the host `asked` to CLUSTER SLOTS. Raises NoMap for what is none."""
    node_of = [-1] * SLOTS
    nodes: dict[Place, int] = {}
    replicated: list[bool] = []
    if reply == []:
        raise NoMap(NO_SLOTS)
    for row in reply if isinstance(reply, list) else [None]:
        match row:
            case [int() as start, int() as end, [host, int() as port, *_], *replicas] if 0 <= start <= end < SLOTS:
                place = (host.decode() if isinstance(host, bytes) and host else asked), port
                number = nodes.setdefault(place, len(nodes))
                replicated[number:] = [bool(replicas)]
                node_of[start : end + 1] = [number] * (end + 1 - start)
            case _:
                raise NoMap(NO_CLUSTER)
    return SlotMap(tuple(nodes), tuple(node_of), tuple(replicated))


def _owner(event: Event) -> Owner:
    return event.owner


def _target(event: Event) -> Owner:
    return event.target_type, event.target


class RedisCluster:
    """Events in a Redis Cluster of which `seeds` are some nodes; `node` makes the store of the users of one."""

    local: ClassVar[bool] = False

    def __init__(
        self,
        seeds: Sequence[RedisAddress],
        node: Callable[[RedisAddress], RedisStore],
        prefix: str,
        retry_seconds: float,
    ) -> None:
        """Opens no connection yet. `retry_seconds`: about how often the map is asked for while a node is away."""
        self._make = node
        self._prefix = prefix
        self._retry_seconds = retry_seconds
        self._seeds = tuple(seeds)
        self._stores = {seed.place: node(seed) for seed in seeds}
        self._map: SlotMap | None = None
        self._asking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stale = asyncio.Event()
        self._trouble = Trouble()
        self._running: set[asyncio.Task[Any]] = set()
        self._looks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        return await self._of((user_type, user), lambda store: store.edges_of(user_type, user))

    async def followers_of(self, user_type: str, user: str, relation: str) -> Followers:
        return await self._of((user_type, user), lambda store: store.followers_of(user_type, user, relation))

    async def since(self, user_type: str, user: str, relation: str) -> tuple[LiveEdges, Followers | None]:
        return await self._of((user_type, user), lambda store: store.since(user_type, user, relation))

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Each user's events go to their node; where one does not take them none counts as stored, and the same may be
        sent again."""
        by_owner: dict[Owner, list[int]] = {}
        for position, event in enumerate(events):
            by_owner.setdefault(event.owner, []).append(position)

        async def of_owner(owner: Owner, positions: list[int]) -> list[Outcome]:
            mine = [events[position] for position in positions]
            return await self._of(owner, lambda store: store.append(mine))

        answers = await asyncio.gather(
            *(of_owner(owner, positions) for owner, positions in by_owner.items()), return_exceptions=True
        )
        outcomes: dict[int, Outcome] = {}
        for positions, answer in zip(by_owner.values(), answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            outcomes.update(zip(positions, answer, strict=True))
        followed = [one for i, one in enumerate(events) if one.followed and outcomes[i] != "full"]
        if followed:  # it goes on when the request has given up: half of it is an event too many
            await asyncio.shield(self._start(self._tell(followed)))
        return [outcomes[position] for position in range(len(events))]

    async def _tell(self, events: Sequence[Event]) -> None:
        """Have the nodes of the targets keep what was done to these. One that is away is away for its users alone: what
        others do meanwhile is stored with those, and its users are told by the next version.

        No script sees the nodes of both users, so an erasure of either may have come between an event and its telling,
        and have looked for it there too early. It takes away the event itself first: what is gone by now is taken back.
        """
        for start in range(0, len(events), EVENTS_AT_ONCE):
            some = events[start : start + EVENTS_AT_ONCE]
            await self._at_nodes(some, _target, lambda store, told: store.tell(told))
            kept = await self._at_nodes(some, _owner, lambda store, sent: store.stored(sent))
            there = {id(event) for found in kept for event in found}
            gone = [event for event in some if id(event) not in there]
            await self._at_nodes(gone, _target, lambda store, told: store.take_back(told))

    async def _at_nodes(
        self,
        events: Sequence[Event],
        whose: Callable[[Event], Owner],
        use: Callable[[RedisStore, list[Event]], Awaitable[Result]],
    ) -> list[Result]:
        """What the nodes of those `whose` events these are answer, each asked once for all of its own; those that do
        not answer are left out. Where slots have moved it is asked again, so `use` is safe to repeat.
        """
        answers: list[Result] = []
        for again in (True, False):
            try:
                known = await self._known_map()
            except StateError:
                break
            groups: dict[int, list[Event]] = {}
            for event in events:
                groups.setdefault(known.node_of[self._slot(whose(event))], []).append(event)
            moved: list[Event] = []

            async def at(number: int, group: list[Event], known: SlotMap = known) -> Result:
                return await use(self._store(known, number), group)

            found = await asyncio.gather(*(at(*each) for each in groups.items()), return_exceptions=True)
            for group, answer in zip(groups.values(), found, strict=True):
                if isinstance(answer, Refused):
                    moved += group if answer.sort in REDIRECTED else []
                elif isinstance(answer, StateError):
                    self._stale.set()
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    answers.append(answer)
            if not (moved and again):
                break
            events = moved
            await self._ask_for_map()
        return answers

    async def count(self, experiment: str, seen: Sequence[Seen]) -> list[bool]:
        return await self._of(feedback_owner(experiment), lambda store: store.count(experiment, seen))

    async def counted(self, experiment: str) -> dict[str, Count]:
        return await self._of(feedback_owner(experiment), lambda store: store.counted(experiment))

    async def forget(self, user_type: str, user: str) -> int:
        """Takes every node: it is refused while one is away. It goes on when the request has given up, and may be asked
        for again."""
        return await asyncio.shield(self._start(self._forget((user_type, user))))

    async def _forget(self, owner: Owner) -> int:
        size, begun = 0, time.time()
        for _ in range(ERASURES_MAX):
            before = await self._known_map()
            size += await self._of(owner, lambda store: store.forget_own(owner))
            try:
                await asyncio.gather(*(self._stores[node].forget_mentions(owner) for node in before.nodes))
                await self._of(owner, lambda store: store.forget_followers(owner))
            except Refused as error:
                if error.sort not in REDIRECTED:
                    raise
            except KeyError:  # a node that is gone
                pass
            await self._ask_for_map()
            if before == self._map:
                look = self._start(self._look_again(owner, begun + CLOCKS_APART_SECONDS))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)
                return size
        raise StateError("the slots of the store of live engagements keep moving")

    async def _look_again(self, owner: Owner, before: float) -> None:
        """Remove what a worker that was killed had told of the user, or to the user, and could not take back; what
        either has done since `before` (Unix seconds) stays. The erasure is answered: a node that is away by now is
        looked through by the next one."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), LOOK_AGAIN_SECONDS)
        try:
            nodes = (await self._known_map()).nodes
            answers = await asyncio.gather(
                *(self._stores[node].forget_told(owner, before) for node in nodes if node in self._stores),
                self._of(owner, lambda store: store.forget_followers(owner, before)),
                return_exceptions=True,
            )
        except Exception as error:
            answers = [error]
        for answer in answers:
            if isinstance(answer, Exception):
                log.warning("the second look of an erasure failed at a node", extra={"reason": str(answer)})

    async def _of(self, owner: Owner, use: Callable[[RedisStore], Awaitable[Result]]) -> Result:
        """What the store of the user's node answers; of another node where the first one sends us away."""
        for again in (True, False):
            known = await self._known_map()
            try:
                return await use(self._store(known, known.node_of[self._slot(owner)]))
            except Refused as error:
                if not again and error.sort in REDIRECTED:  # the map that was just asked for is right, and yet
                    self._trouble.begin("moving", MOVING, error.sort, lasts=SOME_USERS_SECONDS)
                    self._stale.set()
                if not again or error.sort not in REDIRECTED:
                    if error.sort == "CLUSTERDOWN":  # another node may have its slots by now
                        self._stale.set()
                    raise
                await self._ask_for_map()
            except StateError:
                self._stale.set()
                raise
        raise AssertionError

    def _slot(self, owner: Owner) -> int:
        return slot_of(f"{self._prefix}:events:{{{':'.join(owner)}}}".encode())

    def _store(self, known: SlotMap, number: int) -> RedisStore:
        """That of the node of this `number`. Raises StateError where there is none."""
        store = self._stores.get(known.nodes[number]) if number >= 0 else None
        if store is None:
            raise StateError("no node of the store of live engagements has this user")
        return store

    async def _known_map(self) -> SlotMap:
        if self._watching is None:
            self._watching = self._kept(begin("the watch over the nodes of the Redis Cluster", self._watch()))
        if self._map is None:
            await self._ask_for_map()
        if self._map is None:
            self._stale.set()
            raise StateError("no node of the store of live engagements answers")
        return self._map

    async def _watch(self) -> None:
        """Ask for the map again and again while something is wrong with a node."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._ask_for_map()
            except Exception:  # a fault of ours: the next look may go well
                log.exception("the look at the nodes of the Redis Cluster failed")
                self._stale.set()
            if self._trouble.reason is not None:
                self._stale.set()
            await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1.5))

    async def _ask_for_map(self) -> None:
        """Ask for the map, once for all who want it now; the old one stays where nobody answers."""
        if self._asking is None or self._asking.done():
            self._asking = self._start(self._ask_some_node())
        await asyncio.shield(self._asking)

    async def _ask_some_node(self) -> None:
        faults: list[tuple[str, str]] = []
        for store in random.sample(list(self._stores.values()), len(self._stores)):
            try:
                known = slot_map(await store.slots(), store.address.host)
            except Refused as error:
                faults.append((ALL_USERS.get(error.sort, NO_CLUSTER), error.words))
            except NoMap as error:
                faults.append((str(error), str(error)))
            except StateError:  # it does not answer, as its store tells
                pass
            else:
                self._trouble.end("map")
                self._trouble.end("moving")
                self._use(known)
                return
        if faults:  # told where no node has a map; the same one each time
            self._trouble.begin("map", *min(faults))

    def _use(self, known: SlotMap) -> None:
        """Have a store for each node; those of nodes that are gone are closed, the ones we were told of stay."""
        for (host, port), replicated in zip(known.nodes, known.replicated, strict=True):
            if (host, port) not in self._stores:
                self._stores[host, port] = self._make(replace(self._seeds[0], host=host, port=port))
            self._stores[host, port].replicated = replicated
        for place in set(self._stores) - {*known.nodes, *(seed.place for seed in self._seeds)}:
            self._start(self._close_later(self._stores.pop(place)))
        self._map = known
        if -1 in known.node_of:
            self._trouble.begin("slots", "some slots of the Redis Cluster have no node, and so their users")
        else:
            self._trouble.end("slots")

    async def _close_later(self, store: RedisStore) -> None:
        try:
            await asyncio.sleep(CLOSED_AFTER_SECONDS)
        finally:
            await closed("what leads to a node of the Redis Cluster", store.close)

    def _start(self, work: Any) -> "asyncio.Task[Any]":
        return self._kept(outliving(asyncio.get_running_loop().create_task(work)))

    def _kept(self, task: "asyncio.Task[Any]") -> "asyncio.Task[Any]":
        """The task, which ends with this object at the latest."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        self._closing.set()
        if self._looks:
            _, left = await asyncio.wait(self._looks, timeout=LAST_LOOKS_SECONDS)
            if left:
                log.warning("the second looks of %d erasures are cut short", len(left))
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        done = await asyncio.gather(
            *(closed("what leads to a node of the Redis Cluster", store.close) for store in self._stores.values())
        )
        if not all(done):
            raise StateError("what leads to some nodes of the Redis Cluster could not be closed")

    @property
    def ended(self) -> list[str]:
        watching = self._watching
        return [watching.get_name()] if watching is not None and watching.done() else []

    def describe(self) -> dict[str, str | bool]:
        """Healthy when every node is that has slots, and every slot has one."""
        nodes = [seed.place for seed in self._seeds] if self._map is None else self._map.nodes
        told = [self._stores[node].describe() for node in nodes if node in self._stores]
        reason = self._trouble.reason
        whole = told[0] if reason is None else {**told[0], "healthy": False, "reason": reason}
        return next((each for each in told if not each["healthy"]), whole)
