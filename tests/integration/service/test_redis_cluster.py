"""A Redis Cluster of three real nodes: every user on one of them, one killed, and nothing lost that was answered."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest

from bundle.errors import ConfigError, StateError
from service.metrics import Metrics
from service.state import redis_cluster
from service.state.events import NO_FOLLOWERS, Event
from service.state.feedback import Count, Seen
from service.state.redis import RedisStore
from service.state.redis_address import RedisAddress, redis_addresses
from service.state.redis_cluster import SLOTS, RedisCluster, slot_map, slot_of
from tests.support.files import holds
from tests.support.redis_cluster import RedisClusterServers
from tests.support.service_bundle import user_ids

Start = Callable[..., httpx.Client]
USERS = [f"user-{number}" for number in range(60)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisClusterServers]:
    """One that all tests use whose nodes are to live."""
    made = RedisClusterServers(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def servers(whole: RedisClusterServers) -> RedisClusterServers:
    for node in whole.nodes:
        node.command("FLUSHALL")
    return whole


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """One of which a node is to be killed."""
    made = RedisClusterServers(tmp_path)
    yield made
    made.close()


@pytest.fixture
def with_replica(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """Its first node has a replica."""
    made = RedisClusterServers(tmp_path, replicas=1)
    yield made
    made.close()


def store_of(servers: RedisClusterServers, seeds: Sequence[RedisAddress] | None = None) -> RedisCluster:
    node = partial(
        RedisStore, prefix="t", timeout=1.0, write_timeout=1.0, connections=8, retry_seconds=0.1,
        events_per_user_max=100, metrics=Metrics().redis,
    )  # fmt: skip
    return RedisCluster(seeds or redis_addresses(servers.url), node, "t", retry_seconds=0.1)


@pytest.fixture
async def store(servers: RedisClusterServers) -> AsyncIterator[RedisCluster]:
    made = store_of(servers)
    yield made
    await made.close()


async def until(done: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def read_when_back(store: RedisCluster, users: list[str]) -> dict[str, set[str]]:
    """Whom each follows, once the store answers for all of them."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return {user: set((await store.edges_of("user", user)).added.get("follows", ())) for user in users}
        except StateError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def follow(user: str, target: str = "somebody", number: int = 0) -> Event:
    return Event(f"{user}-{target}-{number}", "user", user, "add", "follows", "user", target, float(number), 0.0)


def node_of(servers: RedisClusterServers, user: str) -> int:
    """Which of the three nodes has a user: each has a third of the slots."""
    return min(2, slot_of(f"t:events:{{user:{user}}}".encode()) // (SLOTS // 3))


async def test_each_user_is_on_one_node_and_all_nodes_have_some(
    store: RedisCluster, servers: RedisClusterServers
) -> None:
    events = [follow(user, number=number) for number in range(3) for user in USERS]
    assert await store.append(events) == ["stored"] * len(events)
    assert await store.append(events) == ["duplicate"] * len(events)
    for user in USERS:
        assert (await store.edges_of("user", user)).added == {"follows": ("somebody",)}
    for number, node in enumerate(servers.nodes):
        mine = [user for user in USERS if node_of(servers, user) == number]
        assert mine
        keys = node.command("KEYS", "*").split()
        of_users = [f"t:{kind}:{{user:{user}}}" for user in mine for kind in ("events", "stamp")]
        told = ["t:followers:{user:somebody}"] if node_of(servers, "somebody") == number else []
        assert sorted(keys) == sorted([*of_users, *told])
    assert (await store.followers_of("user", "somebody", "follows")).added == tuple(sorted(USERS))


async def test_a_look_at_the_nodes_that_fails_is_not_the_last(
    servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(servers)
    assert await store.append([follow("a")]) == ["stored"]
    looks = 0

    def faulty(reply: object, asked: str) -> None:
        nonlocal looks
        looks += 1
        raise ValueError("of ours")

    with monkeypatch.context() as while_faulty:
        while_faulty.setattr(redis_cluster, "slot_map", faulty)
        store._stale.set()
        await until(lambda: looks > 1)
    assert "the look at the nodes of the Redis Cluster failed" in caplog.text
    assert store.ended == []
    await until(lambda: not store._stale.is_set())
    await store.close()
    assert store.ended == ["the watch over the nodes of the Redis Cluster"]


async def test_every_node_is_let_go_of_whatever_befalls_another(
    servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(servers)
    assert await store.append([follow(user) for user in USERS]) == ["stored"] * len(USERS)
    let_go: list[RedisStore] = []
    for node in store._stores.values():

        async def closes(node: RedisStore = node, close: Callable[[], Awaitable[None]] = node.close) -> None:
            await close()
            let_go.append(node)
            if len(let_go) == 1:
                raise OSError("no thread")

        monkeypatch.setattr(node, "close", closes)
    with pytest.raises(StateError, match="could not be closed"):
        await store.close()
    assert len(let_go) == len(store._stores)


async def test_the_feedback_of_an_experiment_is_on_one_node_and_counts_once(
    store: RedisCluster, servers: RedisClusterServers
) -> None:
    for experiment in ("one", "two", "three", "four"):
        seen = [Seen("a", "impression", number) for number in range(250)] + [Seen("b", "click", 1000)] * 2
        assert await store.count(experiment, seen) == [True] * 251 + [False]
        assert await store.count(experiment, seen) == [False] * 252
        assert await store.counted(experiment) == {"a": Count(250, 0), "b": Count(0, 1)}
        holders = [node for node in servers.nodes if f"t:counts:{{feedback:{experiment}}}" in node.command("KEYS", "*")]
        assert len(holders) == 1
    assert await store.counted("none") == {}


async def test_a_killed_node_is_away_for_its_users_alone_and_has_lost_nothing_that_was_answered(
    mortal: RedisClusterServers,
) -> None:
    servers, store = mortal, store_of(mortal)
    acknowledged: dict[str, set[str]] = {user: set() for user in USERS}
    refused = set()

    async def write(number: int) -> None:
        for user in USERS:
            target = f"target-{number}"
            try:
                assert await store.append([follow(user, target, number)]) == ["stored"]
                acknowledged[user].add(target)
            except StateError:
                refused.add(user)

    writing = asyncio.gather(*(write(number) for number in range(10)))
    await until(lambda: sum(map(len, acknowledged.values())) >= 150)
    servers.nodes[2].kill()
    await writing
    dead = {user for user in USERS if node_of(servers, user) == 2}
    assert refused
    assert refused <= dead
    for user in sorted(set(USERS) - dead):
        assert set((await store.edges_of("user", user)).added.get("follows", ())) == acknowledged[user]
        assert await store.append([follow(user, "later")]) == ["stored"]
    for user in sorted(dead):
        with pytest.raises(StateError):
            await store.edges_of("user", user)
    with pytest.raises(StateError):
        await store.forget("user", min(set(USERS) - dead))
    assert store.describe()["healthy"] is False
    servers.nodes[2].start()
    found = await read_when_back(store, sorted(dead))
    assert all(acknowledged[user] <= found[user] for user in dead)
    assert await store.append([follow(user, "later") for user in sorted(dead)]) == ["stored"] * len(dead)
    assert store.describe() == {"kind": "redis", "healthy": True, "shared": True}
    await store.close()


async def test_a_replica_takes_over_with_everything_that_was_answered(with_replica: RedisClusterServers) -> None:
    store = store_of(with_replica)
    acknowledged = []
    users = [user for user in USERS if node_of(with_replica, user) == 0]

    async def write(user: str) -> None:
        for number in range(20):
            try:
                await store.append([follow(user, f"target-{number}", number)])
                acknowledged.append((user, f"target-{number}"))
            except StateError:
                return

    writing = asyncio.gather(*map(write, users))
    await until(lambda: len(acknowledged) >= 50)
    with_replica.nodes[0].kill()
    await writing
    found = await read_when_back(store, users)
    assert len(acknowledged) < 20 * len(users)
    assert all(target in found[user] for user, target in acknowledged)
    assert await store.append([follow(user, "later") for user in users]) == ["stored"] * len(users)
    await store.close()


async def test_nothing_counts_as_stored_that_no_replica_has(with_replica: RedisClusterServers) -> None:
    store = store_of(with_replica)
    user = next(user for user in USERS if node_of(with_replica, user) == 0)
    assert await store.append([follow(user)]) == ["stored"]
    with_replica.replicas[0].kill()
    with pytest.raises(StateError, match="no replica"):
        await store.append([follow(user, "another")])
    assert "replica" in str(store.describe()["reason"])
    deadline = time.monotonic() + 30
    while True:  # until the cluster knows that the replica is gone, and none is waited for
        try:
            assert await store.append([follow(user, "a third")]) != ["full"]
            break
        except StateError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    await store.close()


async def test_whoever_is_erased_is_gone_from_every_node(store: RedisCluster, servers: RedisClusterServers) -> None:
    erased = USERS[0]
    await store.append([follow(erased, target) for target in ("a", "b")])
    await store.append([follow(user, target) for user in USERS[1:] for target in (erased, "stays")])
    assert await store.forget("user", erased) == 2
    assert (await store.edges_of("user", erased)).added == {}
    for user in USERS[1:]:
        assert (await store.edges_of("user", user)).added == {"follows": ("stays",)}
    assert await store.forget("user", erased) == 0
    for target in ("a", "b", erased):
        assert await store.followers_of("user", target, "follows") == NO_FOLLOWERS
    assert len((await store.followers_of("user", "stays", "follows")).added) == len(USERS) - 1

    def has_a_trace() -> bool:
        traces = (f'"{erased}"'.encode(), f"\0{erased}".encode())
        return any(holds(node.directory, *traces) for node in servers.nodes)

    deadline = time.monotonic() + 30
    while has_a_trace():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def traces_of(user: str, servers: RedisClusterServers) -> list[str]:
    """Keys and values of any node that name the user."""
    found = []
    for node in servers.nodes:
        for key in node.command("KEYS", "*").split():
            kind = node.command("TYPE", key)
            value = node.command("HGETALL", key) if kind == "hash" else ""
            found += [key] if user in key + value else []
    return found


Moment = Callable[[RedisCluster, pytest.MonkeyPatch, Callable[[], Awaitable[object]]], None]


def before_it_is_told(store: RedisCluster, patch: pytest.MonkeyPatch, erase: Callable[[], Awaitable[object]]) -> None:
    tell = RedisStore.tell

    async def late(node: RedisStore, events: Sequence[Event]) -> None:
        await erase()
        await tell(node, events)

    patch.setattr(RedisStore, "tell", late)


def after_it_is_told(store: RedisCluster, patch: pytest.MonkeyPatch, erase: Callable[[], Awaitable[object]]) -> None:
    tell = RedisStore.tell

    async def early(node: RedisStore, events: Sequence[Event]) -> None:
        await tell(node, events)
        await erase()

    patch.setattr(RedisStore, "tell", early)


@pytest.mark.parametrize("moment", [before_it_is_told, after_it_is_told])
@pytest.mark.parametrize("erased", ["follower", "followed"])
async def test_who_is_erased_while_a_follow_is_told_is_gone_from_both_nodes(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch, moment: Moment, erased: str
) -> None:
    """The erasure, whole, comes between the writes of a follow, which are at two nodes."""
    for number in range(3):  # on any two nodes
        moment(store, monkeypatch, partial(store.forget, "user", f"{erased}-{number}"))
        await store.append([follow(f"follower-{number}", f"followed-{number}")])
        monkeypatch.undo()
        assert await traces_of(f"{erased}-{number}", servers) == []


async def test_a_follow_amid_an_erasure_of_the_followed_leaves_no_trace(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored and told when the followed user's own keys are gone and the others' events are still there."""
    forget_mentions, followed = RedisStore.forget_mentions, list[str]()

    async def late(node: RedisStore, owner: tuple[str, str]) -> None:
        followed.extend(await store.append([follow("fan", "idol")]))
        await forget_mentions(node, owner)

    monkeypatch.setattr(RedisStore, "forget_mentions", late)
    await store.forget("user", "idol")
    assert sorted(followed) == ["duplicate", "duplicate", "stored"]  # all nodes have waited for it
    assert await traces_of("idol", servers) == []


async def test_what_an_erased_user_does_afterwards_is_told(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same follow is sent again while the first is still to be told: what is taken back is the first alone."""
    first, second = follow("again", "x"), msgspec.structs.replace(follow("again", "x"), id="second", at=2.0)
    tell = RedisStore.tell

    async def late(node: RedisStore, events: Sequence[Event]) -> None:
        monkeypatch.undo()
        await store.forget("user", "again")
        await store.append([second])
        await tell(node, events)

    monkeypatch.setattr(RedisStore, "tell", late)
    await store.append([first])
    assert (await store.followers_of("user", "x", "follows")).added == ("again",)
    assert await store.forget("user", "again") == 1
    assert await traces_of("again", servers) == []


@pytest.mark.parametrize("erased", ["follower", "followed"])
async def test_what_a_killed_worker_told_is_gone_when_the_erasure_looks_again(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch, erased: str
) -> None:
    """It had stored and sent, and was killed: its telling arrives after the erasure, and nobody takes it back."""
    monkeypatch.setattr(redis_cluster, "LOOK_AGAIN_SECONDS", 1.0)
    users = await told_too_late(store, erased, at=1.0)
    assert any([await traces_of(user, servers) for user in users])
    for _ in range(300):
        if not any([await traces_of(user, servers) for user in users]):
            break
        await asyncio.sleep(0.1)
    assert not any([await traces_of(user, servers) for user in users])


async def test_what_is_told_after_an_erasure_stays_when_it_looks_again(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cluster, "LOOK_AGAIN_SECONDS", 1.0)
    for erased in ("follower", "followed"):
        users = await told_too_late(store, erased, at=time.time() + 60)
        await asyncio.wait([task for task in store._running if task is not store._watching])
        assert all([await traces_of(user, servers) for user in users])


async def test_what_is_still_to_be_looked_through_is_looked_through_when_the_worker_ends(
    servers: RedisClusterServers,
) -> None:
    """With a clock that is ahead of the eraser's by some seconds, too."""
    store = store_of(servers)
    users = await told_too_late(store, "follower", at=time.time() + 1)
    assert all([await traces_of(user, servers) for user in users])
    await store.close()
    assert not any([await traces_of(user, servers) for user in users])


async def test_a_second_look_that_fails_is_told_without_whose_it_was(
    servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(servers)
    await store.forget("user", "secret-user")

    async def away() -> None:
        raise StateError("no node of the store of live engagements answers")

    monkeypatch.setattr(store, "_known_map", away)
    await store.close()
    [told] = [record for record in caplog.records if "second look" in record.message]
    assert "no node" in told.__dict__["reason"]
    assert "secret-user" not in str(told.__dict__)


async def test_an_empty_user_is_one_and_not_all(store: RedisCluster, servers: RedisClusterServers) -> None:
    await store.append([follow("fan", "star")])
    for node in servers.nodes:
        await store._stores["127.0.0.1", node.port].forget_told(("user", ""), time.time() + 60)
    assert (await store.followers_of("user", "star", "follows")).added == ("fan",)


async def told_too_late(store: RedisCluster, erased: str, at: float) -> list[str]:
    """Erases some users and then tells what they did, or what was done to them, received at `at`."""
    for number in range(5):
        event = msgspec.structs.replace(follow(f"follower-{number}", f"followed-{number}"), received=at)
        await store.forget("user", f"{erased}-{number}")
        await store._of(("user", event.target), lambda node, event=event: node.tell([event]))  # type: ignore[misc]
    return [f"{erased}-{number}" for number in range(5)]


ALL_SLOTS = ("CLUSTER", "ADDSLOTSRANGE", "0", str(SLOTS - 1))


@pytest.fixture
def single(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """One node that has all slots."""
    (tmp_path / "single").mkdir()
    made = RedisClusterServers(tmp_path / "single", primaries=1)
    yield made
    made.close()


async def test_a_node_without_slots_is_told_and_used_when_it_has_some(single: RedisClusterServers) -> None:
    node, store = single.nodes[0], store_of(single)
    for knows_a_map in (False, True):  # none yet, then the last good one
        node.command("FLUSHALL")
        node.command("CLUSTER", "RESET")
        with pytest.raises(StateError):
            await store.edges_of("user", "u")
        told = "Redis Cluster that is down" if knows_a_map else "no slots"
        await until(lambda told=told: told in str(store.describe().get("reason")))  # type: ignore[misc]
        assert (store._map is not None) is knows_a_map
        node.command(*ALL_SLOTS)
        assert await read_when_back(store, ["u"]) == {"u": set()}
        await until(lambda: bool(store.describe()["healthy"]))
        assert await store.append([follow("u")]) == ["stored"]
    await store.close()


async def test_slots_of_a_node_that_was_reset_are_found_where_they_are_given(mortal: RedisClusterServers) -> None:
    """The node refuses their users, and leads nowhere."""
    first, second, third = mortal.nodes
    store, user = store_of(mortal), next(user for user in USERS if node_of(mortal, user) == 2)
    assert await store.append([follow(user)]) == ["stored"]
    third.command("FLUSHALL")
    third.command("CLUSTER", "RESET", "HARD")
    given = str(SLOTS // 3 * 2), str(SLOTS - 1)
    for node in (first, second):
        node.command("CLUSTER", "DELSLOTSRANGE", *given)
    second.command("CLUSTER", "ADDSLOTSRANGE", *given)
    assert await read_when_back(store, [user]) == {user: set()}
    await store.close()


async def test_a_node_without_slots_is_not_believed_where_another_has_a_map(
    single: RedisClusterServers, servers: RedisClusterServers
) -> None:
    single.nodes[0].command("CLUSTER", "RESET")
    seeds = redis_addresses(f"{single.url},127.0.0.1:{servers.nodes[0].port}")
    for _ in range(8):  # which seed is asked first is by chance
        store = store_of(servers, seeds)
        assert await read_when_back(store, ["u"]) == {"u": set()}
        await store._ask_for_map()
        assert store.describe()["healthy"]
        await store.close()


def test_a_service_serves_on_and_tells_of_a_cluster_without_slots(start: Start, single: RedisClusterServers) -> None:
    single.nodes[0].command("CLUSTER", "RESET")
    client = start(redis_url=single.url, redis_retry_seconds=0.1)
    answer = client.post("/recommend", content=json.dumps({"user": user_ids()[0], "k": 5}))
    assert answer.json()["degraded"] == ["engagements_unavailable"]
    assert "no slots" in client.get("/readyz").json()["reasons"]["engagements_unavailable"]
    assert "no slots" in client.get("/v1/info").json()["state"]["reason"]
    assert client.get("/metrics").status_code == client.get("/livez").status_code == 200


async def test_slots_that_move_are_found_where_they_are(store: RedisCluster, servers: RedisClusterServers) -> None:
    user = next(user for user in USERS if node_of(servers, user) == 0)
    await store.append([follow(user)])
    slot = str(slot_of(f"t:events:{{user:{user}}}".encode()))
    source, target = servers.nodes[:2]
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.command("CLUSTER", "MYID"))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.command("CLUSTER", "MYID"))
    keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, "10").split()
    source.command("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
    for node in (target, source, servers.nodes[2]):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", target.command("CLUSTER", "MYID"))
    assert (await store.edges_of("user", user)).added == {"follows": ("somebody",)}
    assert await store.append([follow(user, "another")]) == ["stored"]
    assert await store.forget("user", user) == 2


async def test_a_move_of_a_slot_that_was_cut_short_is_told(
    store: RedisCluster, servers: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its users are refused for ever, and every node is well."""
    monkeypatch.setattr(redis_cluster, "SOME_USERS_SECONDS", 0.3)
    slot = store._slot(("user", USERS[0]))
    events = [Event(name, "user", USERS[0], "add", "f", "item", name, 0.0, 0.0) for name in "ab"]
    assert await store.append(events[:1]) == ["stored"]
    there = next(node for node in servers.nodes if node.command("DBSIZE") != "0")
    other = next(node for node in servers.nodes if node is not there)
    other.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", there.command("CLUSTER", "MYID"))
    there.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", other.command("CLUSTER", "MYID"))
    try:
        there.command("MIGRATE", "127.0.0.1", str(other.port), f"t:events:{{user:{USERS[0]}}}", "0", "5000")
        with pytest.raises(StateError):
            await store.append(events[1:])
        assert "slots are on their way" in str(store.describe()["reason"])
        there.command("MIGRATE", "127.0.0.1", str(other.port), f"t:stamp:{{user:{USERS[0]}}}", "0", "5000")
    finally:
        for node in (other, there, *servers.nodes):
            node.command("CLUSTER", "SETSLOT", str(slot), "NODE", other.command("CLUSTER", "MYID"))
    assert await store.append(events) == ["duplicate", "stored"]
    deadline = time.monotonic() + 10
    while not store.describe()["healthy"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_a_service_serves_on_when_a_node_is_killed(start: Start, mortal: RedisClusterServers) -> None:
    client = start(redis_url=mortal.url, redis_retry_seconds=0.2, redis_timeout_ms=1000, redis_write_timeout_ms=1000)
    users = user_ids()[:30]
    for user in users:
        event = {"events": [{"id": "e", "user": user, "target": users[0]}]}
        assert client.post("/v1/engagements", content=json.dumps(event)).json()["stored"] == 1
    mortal.nodes[1].kill()
    degraded = []
    for user in users:
        response = client.post("/recommend", content=json.dumps({"user": user, "k": 5}))
        assert response.status_code == 200
        degraded.append(bool(response.json()["degraded"]))
    assert 0 < sum(degraded) < len(users)
    assert client.get("/v1/info").json()["state"]["healthy"] is False


def test_slots_are_those_of_redis(servers: RedisClusterServers) -> None:
    assert slot_of(b"123456789") == 0x31C3  # the check of the cluster's specification
    for key in ("123456789", "foo{bar}", "{bar}foo", "foo{}", "foo{", "a}b{c}{d}", "{{x}}", "foo{}{bar}", "ü{é}"):
        assert int(servers.nodes[0].command("CLUSTER", "KEYSLOT", key)) == slot_of(key.encode())


async def test_braces_in_an_id_do_no_harm(store: RedisCluster) -> None:
    for user in ("a}b", "{a", "}{", "{}", "ü", "a b", "{x}"):
        assert await store.append([follow(user)]) == ["stored"]
        assert (await store.edges_of("user", user)).added == {"follows": ("somebody",)}
        assert await store.forget("user", user) == 1


@pytest.mark.parametrize("row", [None, [0, 1], [0, SLOTS, [b"h", 1]], [5, 1, [b"h", 1]], ["0", 1, [b"h", 1]], b"?"])
def test_an_answer_that_is_no_map_is_refused(row: object) -> None:
    fitting = [0, SLOTS - 1, [b"h", 1]]
    assert slot_map([fitting], "h").nodes == (("h", 1),)
    for reply in ([row], [fitting, row], row, []):
        with pytest.raises(StateError):
            slot_map(reply, "h")


def test_the_url_of_a_cluster_names_nodes() -> None:
    one, two = redis_addresses("redis+cluster://u:p%2F@a:1,b")
    assert (one, two) == (
        RedisAddress("a", 1, user="u", password="p/", clustered=True),
        RedisAddress("b", 6379, user="u", password="p/", clustered=True),
    )
    assert redis_addresses("rediss+cluster://a?ssl_cert_reqs=none")[0].tls
    assert redis_addresses("redis://a")[0] == RedisAddress("a")
    for url in (
        "redis+cluster://a/1",
        "redis+cluster://",
        "redis+cluster://a,",
        "unix+cluster:///a",
        "redis+cluster://a:x",
    ):
        with pytest.raises(ConfigError):
            redis_addresses(url)
