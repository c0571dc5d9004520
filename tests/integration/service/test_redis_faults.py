"""Redis down, hung, slow, restarted, full or talking garbage: one time budget, then nothing, never a wrong answer."""

import asyncio
import json
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from bundle.errors import StateError
from service.metrics import Metrics
from service.state import redis as redis_store
from service.state.events import FOLLOWERS_MAX, Event, Followers
from service.state.redis import RedisStore
from service.state.redis_address import RedisAddress
from service.state.write_queue import Append
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import RedisServer
from tests.support.service_bundle import user_ids

USERS = user_ids()
# Longer than the default, so that a healthy Redis on a busy machine is never taken for a sick one.
BUDGET_SECONDS = 0.3
GRACE_SECONDS = 0.5
Start = Callable[..., httpx.Client]


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    """A misbehaving network before a real Redis."""
    made = FaultProxy(redis_server.port)
    yield made
    made.close()


@pytest.fixture
def client(start: Start, proxy: FaultProxy) -> httpx.Client:
    """A service that reaches Redis through the proxy, with one follow stored and seen."""
    made = start(redis_url=f"redis://127.0.0.1:{proxy.port}/0", redis_retry_seconds=0.2, redis_timeout_ms=300)
    target = _recommend(made)["candidates"][0]["id"]
    event = {"events": [{"id": "e", "user": USERS[5], "target": target}]}
    assert made.post("/v1/engagements", content=json.dumps(event)).json()["stored"] == 1
    assert target not in str(_recommend(made)["candidates"])
    return made


def _recommend(client: httpx.Client) -> dict:  # type: ignore[type-arg]
    response = client.post("/recommend", content=json.dumps({"user": USERS[5], "k": 10, "strategy": "centroids"}))
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def _timed(client: httpx.Client) -> tuple[float, list[str]]:
    started = time.perf_counter()
    degraded = _recommend(client)["degraded"]
    return time.perf_counter() - started, degraded


def _operations(client: httpx.Client) -> str:
    """How often Redis was asked, as the metrics say."""
    lines = client.get("/metrics").text.splitlines()
    return "".join(line for line in lines if line.startswith("twhin_redis_op_duration_seconds_count"))


def _wait_for(client: httpx.Client, degraded: list[str]) -> None:
    deadline = time.monotonic() + 10
    while _timed(client)[1] != degraded:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("mode", ["hang", "reset", "garbage", "delay"])
def test_a_sick_redis_costs_one_budget_and_then_nothing(client: httpx.Client, proxy: FaultProxy, mode: str) -> None:
    healthy = statistics.median(_timed(client)[0] for _ in range(20))
    proxy.delay_seconds = 5
    proxy.mode = mode
    first, degraded = _timed(client)
    assert degraded == ["engagements_unavailable"]
    assert first < healthy + BUDGET_SECONDS + GRACE_SECONDS
    asked = _operations(client)
    after = [_timed(client) for _ in range(20)]
    assert all(flags == ["engagements_unavailable"] for _, flags in after)
    assert _operations(client) == asked, "Redis is not asked again before a probe has found it well"
    write = client.post("/v1/engagements", content=json.dumps({"events": [{"user": "1", "target": USERS[9]}]}))
    assert (write.status_code, write.json()["code"]) == (503, "state_unavailable")
    assert client.get("/readyz").status_code == 200
    assert not client.get("/v1/info").json()["state"]["healthy"]
    proxy.mode = "pass"
    _wait_for(client, [])


def _open_connections(client: httpx.Client, proxy: FaultProxy, number: int = 4) -> None:
    """Have several connections for reads, by as many reads at the same time."""
    proxy.delay_seconds, proxy.mode = 0.05, "delay"
    with ThreadPoolExecutor(number) as at_once:
        assert {str(flags) for _, flags in at_once.map(lambda _: _timed(client), range(number))} == {"[]"}
    proxy.mode = "pass"


def test_connections_that_were_forgotten_are_replaced_and_nobody_notices(
    client: httpx.Client, proxy: FaultProxy
) -> None:
    _open_connections(client, proxy)
    proxy.forget()
    for number in range(8):
        assert _timed(client)[1] == []
        event = {"id": f"after {number}", "user": USERS[6], "target": USERS[9]}
        answer = client.post("/v1/engagements", content=json.dumps({"events": [event]}))
        assert (answer.status_code, answer.json()["stored"]) == (200, 1)
    assert client.get("/readyz").json()["degraded"] == []
    errors = [line for line in client.get("/metrics").text.splitlines() if "redis_errors_total" in line]
    assert any('kind="connection"' in line and not line.endswith(" 0.0") for line in errors), "it is counted"


def test_connections_that_lead_nowhere_cost_one_outage_together(client: httpx.Client, proxy: FaultProxy) -> None:
    _open_connections(client, proxy)
    proxy.forget(swallow=True)
    assert _timed(client)[1] == ["engagements_unavailable"]
    _wait_for(client, [])
    with ThreadPoolExecutor(8) as at_once:
        assert {str(flags) for _, flags in at_once.map(lambda _: _timed(client), range(32))} == {"[]"}
    assert 'twhin_redis_errors_total{kind="timeout"} 1.0' in client.get("/metrics").text


def test_killed_and_started_again(client: httpx.Client, redis_server: RedisServer) -> None:
    followed = set(str(_recommend(client)["candidates"]))
    redis_server.kill()
    assert _timed(client)[1] == ["engagements_unavailable"]
    redis_server.start()
    _wait_for(client, [])
    assert set(str(_recommend(client)["candidates"])) == followed


def test_stopped_by_a_signal_hangs_nobody(client: httpx.Client, redis_server: RedisServer) -> None:
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        assert _timed(client)[1] == ["engagements_unavailable"]
        assert _timed(client)[0] < GRACE_SECONDS
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    _wait_for(client, [])


def test_absent_at_the_start(start: Start, redis_server: RedisServer) -> None:
    redis_server.kill()
    client = start(redis_url=redis_server.url, redis_retry_seconds=0.2, redis_timeout_ms=300)
    assert client.get("/readyz").status_code == 200
    assert _timed(client)[1] == ["engagements_unavailable"]
    redis_server.start()
    _wait_for(client, [])


def test_a_value_of_another_kind_and_a_value_of_another_user(client: httpx.Client, redis_server: RedisServer) -> None:
    key = f"twhin:events:user:{USERS[5]}"
    other = Event("x", "user", USERS[6], "add", "follows", "user", USERS[9], 0.0, 0.0)
    for words in (("SET", key, "text"), ("HSET", key, "e", "not json"), ("HSET", key, "e", _json(other))):
        redis_server.command("DEL", key)
        redis_server.command(*words)
        assert _timed(client)[1] == ["engagements_unavailable"]
    redis_server.command("DEL", key)
    assert _timed(client)[1] == []
    key = f"twhin:followers:user:{USERS[5]}"
    told = ("EVAL", "return redis.call('HSET', KEYS[1], 'follows\\0' .. ARGV[1], ARGV[2])", "1", key, USERS[7])
    mark = json.dumps([1.0, 1.0, "x", "add", USERS[6]])
    for words in (("SET", key, "text"), (*told, "not json"), (*told, mark)):
        redis_server.command("DEL", key)
        redis_server.command(*words)
        assert _timed(client)[1] == ["engagements_unavailable"]
    redis_server.command("DEL", key)
    assert _timed(client)[1] == []


def test_a_full_redis_refuses_writes_and_still_answers_reads(client: httpx.Client, redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    event = {"events": [{"user": USERS[5], "target": USERS[9]}]}
    assert client.post("/v1/engagements", content=json.dumps(event)).status_code == 503
    assert _timed(client)[1] == []
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert client.post("/v1/engagements", content=json.dumps(event)).status_code == 200


def _json(event: Event) -> str:
    import msgspec

    return msgspec.json.encode(event).decode()


@pytest.mark.parametrize("cancels", [5_000, pytest.param(25_000, marks=pytest.mark.slow)])
async def test_a_cancelled_request_never_gets_anothers_reply(
    redis_server: RedisServer, proxy: FaultProxy, cancels: int
) -> None:
    """Readers of 50 users are cancelled at random moments; whoever is answered gets their own events."""
    store = RedisStore(
        RedisAddress("127.0.0.1", proxy.port),
        prefix="t",
        timeout=2.0,
        connections=16,
        retry_seconds=0.05,
        events_per_user_max=10,
        metrics=Metrics().redis,
    )
    users = [str(number) for number in range(50)]
    await store.append([Event(f"of-{user}", "user", user, "add", "f", "user", user, 0.0, 0.0) for user in users])
    rng = random.Random(1)
    answered = cancelled = 0
    while cancelled < cancels:
        tasks = {asyncio.create_task(store.edges_of("user", user)): user for user in rng.choices(users, k=200)}
        for task in rng.sample(list(tasks), 180):
            asyncio.get_running_loop().call_later(rng.uniform(0, 0.02), task.cancel)
        await asyncio.wait(tasks)
        for task, user in tasks.items():
            if task.cancelled():
                cancelled += 1
            else:
                assert task.result().added == {"f": (user,)}
                answered += 1
    await store.close()
    assert answered > cancels // 20


async def test_what_is_put_while_the_last_writer_ends_is_written(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the turn of the loop in which a writer has found nothing more, and its task is not yet over."""
    monkeypatch.setattr(redis_store, "WRITES_UNDER_WAY_MAX", 1)
    store = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="late", timeout=2.0, connections=4, retry_seconds=0.05,
        events_per_user_max=10, metrics=Metrics().redis,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    first, second = (
        Append([Event(user, "user", user, "add", "f", "user", "x", 0.0, 0.0)], loop.create_future()) for user in "ab"
    )
    first.future.add_done_callback(lambda _: store._put([second]))
    store._put([first])
    assert await asyncio.wait_for(second.future, 10) == ["stored"]
    await store.close()


def test_of_those_who_did_something_to_a_user_redis_keeps_a_bounded_number(
    client: httpx.Client, redis_server: RedisServer
) -> None:
    events = [{"user": str(10_000 + number), "target": USERS[5]} for number in range(FOLLOWERS_MAX + 40)]
    for start in range(0, len(events), 100):
        answer = client.post("/v1/engagements", content=json.dumps({"events": events[start : start + 100]}))
        assert answer.json()["stored"] == len(events[start : start + 100])
    assert redis_server.command("HLEN", f"twhin:followers:user:{USERS[5]}") == str(FOLLOWERS_MAX)
    assert _timed(client)[1] == []


async def test_who_is_erased_while_their_follow_is_told_is_in_nobodys_followers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure comes between the two writes of a follow: the user's own event, and the telling of the target."""
    store = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="race", timeout=2.0, connections=4, retry_seconds=0.05,
        events_per_user_max=10, metrics=Metrics().redis,
    )  # fmt: skip
    tell = store.tell

    async def too_late(events: Sequence[Event]) -> None:
        await store.forget("user", "gone")
        await tell(events)

    monkeypatch.setattr(store, "tell", too_late)
    follows = [Event(user, "user", user, "add", "f", "user", "x", 0.0, 0.0) for user in ("gone", "stays")]
    assert await store.append(follows) == ["stored", "stored"]
    assert (await store.followers_of("user", "x", "f")).added == ("stays",)
    await store.close()


async def test_who_is_followed_amid_their_erasure_has_no_followers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follow comes between the two parts of an erasure: the user's own keys, and the events of all others."""
    store = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="amid", timeout=2.0, connections=4, retry_seconds=0.05,
        events_per_user_max=10, metrics=Metrics().redis,
    )  # fmt: skip
    forget_mentions = store.forget_mentions

    async def late(owner: tuple[str, str]) -> None:
        assert await store.append([Event("e", "user", "fan", "add", "f", "user", "idol", 0.0, 0.0)]) == ["stored"]
        await forget_mentions(owner)

    monkeypatch.setattr(store, "forget_mentions", late)
    await store.forget("user", "idol")
    assert redis_server.command("KEYS", "amid:*") == ""
    await store.close()


async def test_an_erased_user_is_not_taken_for_one_whose_id_ends_alike(redis_server: RedisServer) -> None:
    store = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="nul", timeout=2.0, connections=4, retry_seconds=0.05,
        events_per_user_max=10, metrics=Metrics().redis,
    )  # fmt: skip
    users = ("y", "x\0y", "\0y")
    await store.append([Event(user, "user", user, "add", "f", "user", "t", 0.0, 0.0) for user in users])
    await store.forget("user", "y")
    assert (await store.followers_of("user", "t", "f")).added == ("\0y", "x\0y")
    await store.close()


async def test_who_follows_may_be_unreadable_without_what_the_user_did(redis_server: RedisServer) -> None:
    store = RedisStore(
        RedisAddress("127.0.0.1", redis_server.port), prefix="half", timeout=2.0, connections=4, retry_seconds=0.05,
        events_per_user_max=10, metrics=Metrics().redis,
    )  # fmt: skip
    await store.append([Event("1", "user", "a", "add", "f", "user", "b", 0.0, 0.0)])
    await store.append([Event("2", "user", "b", "add", "f", "user", "a", 0.0, 0.0)])
    edges, told = await store.since("user", "a", "f")
    assert (edges.added, told) == ({"f": ("b",)}, Followers(added=("b",)))
    key = store._followers_key(("user", "a"))
    redis_server.command("DEL", key)
    redis_server.command("SET", key, "of another kind")
    edges, told = await store.since("user", "a", "f")
    assert (edges.added, told) == ({"f": ("b",)}, None)
    await store.close()


async def test_after_a_failover_the_name_is_asked_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """The name leads to another Redis, and the one before has become its replica: open connections stay at that."""
    (tmp_path / "other").mkdir()
    with ExitStack() as stack:
        other = RedisServer(tmp_path / "other")
        stack.callback(other.kill)
        proxy = stack.enter_context(closing(FaultProxy(redis_server.port)))
        store = RedisStore(
            RedisAddress("127.0.0.1", proxy.port), prefix="t", timeout=5.0, write_timeout=5.0, connections=4,
            retry_seconds=0.05, events_per_user_max=10, metrics=Metrics().redis,
        )  # fmt: skip
        first, event = (Event(name, "user", "a", "add", "f", "item", name, 0.0, 0.0) for name in "bc")
        assert await store.append([first]) == ["stored"]
        assert (await store.edges_of("user", "a")).added == {"f": ("b",)}
        redis_server.command("REPLICAOF", "127.0.0.1", str(other.port))
        proxy.target_port = other.port
        refused, deadline = 0, time.monotonic() + 10
        while True:
            try:
                assert await store.append([event]) == ["stored"]
                break
            except StateError:
                assert time.monotonic() < deadline, store.describe()
                refused += 1
                await asyncio.sleep(0.1)
        assert refused
        assert other.command("HLEN", "t:events:user:a") == "1"
        assert (await store.edges_of("user", "a")).added == {"f": ("c",)}, "reads go there too"
        await store.close()
