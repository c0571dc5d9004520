"""A user of many events, in a real Redis: read and erased some events at a time, written one portion at a time, and
always right, whatever is written meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.main import create_app
from service.metrics import Metrics
from service.runtime import Runtime
from service.settings import Settings
from service.state.events import Event, live_edges
from service.state.redis import ADDED_AT_ONCE, EVENTS_AT_ONCE, RedisStore
from service.state.redis_address import RedisAddress
from service.state.redis_link import Lane, Operation
from service.state.redis_scripts import SCAN, Command
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import RedisServer, replica_of
from tests.support.service_bundle import user_ids

MANY = 3_000


def event(number: int, target: str, action: str = "add", user: str = "full", of_type: str = "item") -> Event:
    return Event(f"{user}-{number}", "user", user, action, "likes", of_type, target, float(number), 0.0)  # type: ignore[arg-type]


ADDED = [event(number, f"t{number}") for number in range(MANY)]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    made = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="t", timeout=5.0, write_timeout=5.0, connections=8,
        retry_seconds=0.1, events_per_user_max=2 * MANY, metrics=Metrics().redis,
    )  # fmt: skip
    yield made
    await made.close()


def calls(redis: RedisServer) -> Iterator[tuple[str, int]]:
    """How often each command was run, within scripts too."""
    for line in redis.command("INFO", "commandstats").splitlines():
        name, _, rest = line.partition(":calls=")
        yield name.removeprefix("cmdstat_"), int(rest.split(",")[0] or 0) if rest else 0


def connections(redis: RedisServer) -> int:
    """How many there are beside the one that asks."""
    return len(redis.command("CLIENT", "LIST", "TYPE", "normal").splitlines()) - 1


async def test_one_user_has_one_portion_under_way(store: RedisStore, redis_server: RedisServer) -> None:
    batches = [ADDED[start : start + 1000] for start in range(0, MANY, 1000)]
    answers = await asyncio.gather(*(store.append(batch) for batch in batches))
    assert {outcome for answer in answers for outcome in answer} == {"stored"}
    assert connections(redis_server) == 1


async def test_a_batch_of_more_than_may_wait_of_one_user_is_taken_when_none_does(store: RedisStore) -> None:
    """As where the settings allow bodies of so many events."""
    assert set(await store.append([event(number, f"t{number}") for number in range(2 * MANY)])) == {"stored"}


async def test_the_targets_of_a_batch_are_told_in_portions(store: RedisStore, redis_server: RedisServer) -> None:
    events = [event(number, f"u{number}", of_type="user") for number in range(1000)]
    await store.append(events)
    asked = store._metrics._durations["write"]._buckets  # type: ignore[attr-defined]
    exchanges = sum(bucket.get() for bucket in asked)
    assert exchanges == 2 * len(events) / EVENTS_AT_ONCE
    assert (await store.followers_of("user", "u999", "likes")).added == ("full",)


async def test_it_is_read_some_events_at_a_time(store: RedisStore, redis_server: RedisServer) -> None:
    await store.append(ADDED)
    assert await store.edges_of("user", "full") == live_edges(ADDED)
    asked = dict(calls(redis_server))
    assert asked["hscan"] > MANY / ADDED_AT_ONCE / 2
    assert "hvals" not in asked
    assert await store.edges_of("user", "full") == live_edges(ADDED)
    assert dict(calls(redis_server))["hscan"] == asked["hscan"], "it is kept"


async def test_what_was_written_before_counts_and_others_write_meanwhile(
    store: RedisStore, redis_server: RedisServer
) -> None:
    await store.append(ADDED)
    done = [False]

    async def others() -> None:
        number = MANY
        while not done[0]:
            number += 1
            await store.append([event(number, f"x{number}")])
            await asyncio.sleep(0.001)

    writing = asyncio.create_task(others())
    for number in range(8):
        block = event(10 * MANY + number, f"t{number}", "block")
        assert await store.append([block]) == ["stored"]
        edges = await store.edges_of("user", "full")
        assert f"t{number}" in edges.blocked["item"]
        assert set(edges.added["likes"]) >= {one.target for one in ADDED}
    done[0] = True
    await writing


async def test_nothing_that_was_erased_comes_back_by_a_reading_that_was_under_way(store: RedisStore) -> None:
    for part in range(5):
        await store.append(ADDED)
        early = asyncio.create_task(store.edges_of("user", "full"))
        await asyncio.sleep(0.002 * part)
        assert await store.forget("user", "full") == MANY
        assert await store.edges_of("user", "full") == NO_LIVE_EDGES
        later = [event(number, f"later{number}") for number in range(100)]
        await store.append(later)
        assert await store.edges_of("user", "full") == live_edges(later)
        assert isinstance(await early, LiveEdges)
        assert await store.edges_of("user", "full") == live_edges(later)
        await store.forget("user", "full")


async def test_mentions_are_forgotten_among_many_events(store: RedisStore, redis_server: RedisServer) -> None:
    mentions = [event(number, "gone", "block", of_type="user") for number in range(MANY, MANY + 300)]
    await store.append([*ADDED, *mentions])
    few = [event(number, "gone", "block", f"few{number}", "user") for number in range(40)]
    await store.append(few)
    assert (await store.edges_of("user", "full")).blocked == {"user": ("gone",)}
    await store.forget("user", "gone")
    assert redis_server.command("HLEN", "t:events:user:full") == str(MANY)
    assert await store.edges_of("user", "full") == live_edges(ADDED)
    assert redis_server.command("KEYS", "t:events:user:few*") == ""


@contextmanager
def another_takes_over(
    store: RedisStore, redis: RedisServer, proxy: FaultProxy, after: str, directory: Path
) -> Iterator[RedisServer]:
    """A replica becomes the master, and the name leads to it, when the second command is asked that has `after`."""
    ask_all, asked = store._link.ask_all, [0]
    with replica_of(redis, directory) as other:

        async def ask(operation: Operation, lane: Lane, commands: Sequence[Command]) -> list[object]:
            asked[0] += any(after in command for command in commands)
            if asked[0] == 2 and proxy.target_port == redis.port:
                other.command("REPLICAOF", "NO", "ONE")
                proxy.target_port = other.port
                for each in (store._link.quick, store._link.bulk, store._link.patient):
                    each.renew()
            return await ask_all(operation, lane, commands)

        store._link.ask_all = ask  # type: ignore[method-assign]
        yield other
        assert asked[0] > 2


@pytest.fixture
async def moved(redis_server: RedisServer) -> AsyncIterator[tuple[RedisStore, FaultProxy]]:
    with closing(FaultProxy(redis_server.port)) as proxy:
        made = RedisStore(
            RedisAddress("127.0.0.1", proxy.port), prefix="t", timeout=5.0, write_timeout=5.0, connections=8,
            retry_seconds=0.1, events_per_user_max=2 * MANY, metrics=Metrics().redis,
        )  # fmt: skip
        yield made, proxy
        await made.close()


async def test_a_user_is_read_whole_where_another_redis_takes_over_meanwhile(
    moved: tuple[RedisStore, FaultProxy], redis_server: RedisServer, tmp_path: Path
) -> None:
    store, proxy = moved
    await store.append(ADDED)
    with another_takes_over(store, redis_server, proxy, "HSCAN", tmp_path / "other"):
        assert await store.edges_of("user", "full") == live_edges(ADDED)


async def test_an_erasure_misses_nobody_where_another_redis_takes_over_meanwhile(
    moved: tuple[RedisStore, FaultProxy], redis_server: RedisServer, tmp_path: Path
) -> None:
    store, proxy = moved
    mentions = [event(0, "gone", "block", f"few{number}", "user") for number in range(MANY)]
    await store.append(mentions)
    with another_takes_over(store, redis_server, proxy, SCAN, tmp_path / "other") as other:
        await store.forget("user", "gone")
        assert other.command("KEYS", "t:events:user:few*") == ""


async def test_what_was_told_of_a_user_is_forgotten_where_another_redis_takes_over_meanwhile(
    moved: tuple[RedisStore, FaultProxy], redis_server: RedisServer, tmp_path: Path
) -> None:
    """As the second look of an erasure on a cluster does."""
    store, proxy = moved
    await store.append([event(number, f"u{number}", user="gone", of_type="user") for number in range(MANY)])
    assert len(redis_server.command("KEYS", "t:followers:user:u*").splitlines()) == MANY
    with another_takes_over(store, redis_server, proxy, SCAN, tmp_path / "other") as other:
        await store.forget_told(("user", "gone"), before=1.0)
        assert other.command("KEYS", "t:followers:user:u*") == ""


async def test_a_batch_of_such_users_is_one_request_that_others_do_not_wait_for(
    bundles: Path, redis_server: RedisServer
) -> None:
    settings = Settings(
        bundles=bundles, redis_url=redis_server.url, redis_timeout_ms=5000, redis_write_timeout_ms=5000,
        warm_up_queries=0, self_test_queries=0,
    )  # fmt: skip
    runtime = Runtime(settings)
    await runtime.start()
    try:
        users, targets = user_ids()[:5], [str(target) for target in range(70)]
        for user in users:
            follows = [Event(one, "user", user, "add", "follows", "user", one, 1.0, 1.0) for one in targets]
            await runtime.state.append(follows)
        low, counted = runtime.low_priority, list[int]()
        give_way = low.give_way

        async def noted() -> None:
            counted.append(low._requests)
            await give_way()

        low.give_way = noted  # type: ignore[method-assign]
        transport = httpx.ASGITransport(create_app(settings, runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body, patient = {"users": users, "k": 3}, {"x-request-timeout-ms": "10000"}
            answer = await client.post("/recommend:batch", json=body, headers=patient)
            assert (answer.json()["ok"], answer.json().get("degraded", [])) == (len(users), [])
        assert counted
        assert set(counted) == {1}
        assert low._requests == 0
    finally:
        await runtime.stop()
