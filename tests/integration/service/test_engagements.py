"""Live engagements over HTTP: durable when answered, counted at the next request, once per event id."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bundle.reader import open_bundle
from bundle.versions import publish
from service.low_priority import LONGEST_MS
from service.main import create_app
from service.runtime import Runtime
from service.settings import Limits, Settings
from tests.support.servers import RedisServer
from tests.support.service_bundle import user_ids

USERS = user_ids()
Start = Callable[..., httpx.Client]


def _post(client: httpx.Client, *events: dict[str, object]) -> dict[str, object]:
    response = client.post("/v1/engagements", content=json.dumps({"events": events}))
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def _ids(client: httpx.Client, **body: object) -> list[str]:
    answer = client.post("/recommend", content=json.dumps({"user": USERS[5], "k": 20, **body})).json()
    return [candidate["id"] for candidate in answer["candidates"]]


@pytest.fixture(params=["sqlite", "redis"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """The settings of each kind of store."""
    if request.param == "sqlite":
        return {}
    server: RedisServer = request.getfixturevalue("redis_server")
    return {"redis_url": server.url, "redis_timeout_ms": 1000}


@pytest.fixture
def live(start: Start, store_settings: dict[str, object]) -> httpx.Client:
    """A service with each kind of store."""
    return start(**store_settings)


def test_a_follow_counts_at_the_next_request(live: httpx.Client) -> None:
    best, *_ = before = _ids(live, strategy="mixture")
    mode = live.get(f"/v1/users/{USERS[5]}/interests").json()["interests"]
    assert _post(live, {"id": "e1", "user": USERS[5], "target": best})["stored"] == 1
    after = _ids(live, strategy="mixture")
    assert best not in after
    assert after != before[1:]
    assert live.get(f"/v1/users/{USERS[5]}/interests").json()["interests"] != mode


def test_unfollow_block_and_unblock(live: httpx.Client, bundles: Path) -> None:
    space = open_bundle(bundles / "v1").space()
    followed = USERS[int(space.relations["follows"].targets.row(5)[0])]
    assert followed not in _ids(live, k=400)
    _post(live, {"id": "1", "user": USERS[5], "target": followed, "action": "remove"})
    assert followed in _ids(live, k=400)
    _post(live, {"id": "2", "user": USERS[5], "target": followed, "action": "block"})
    assert followed not in _ids(live, k=400)
    assert followed not in _ids(live, k=400, exclude_seen=False)
    _post(live, {"id": "3", "user": USERS[5], "target": followed, "action": "unblock"})
    assert followed in _ids(live, k=400)


def test_an_event_id_counts_once(live: httpx.Client) -> None:
    target = _ids(live)[0]
    event = {"id": "same", "user": USERS[5], "target": target}
    assert _post(live, event)["results"] == [{"id": "same", "status": "stored"}]
    assert _post(live, event, event)["duplicates"] == 2
    _post(live, {"id": "undo", "user": USERS[5], "target": target, "action": "remove"})
    assert _post(live, event)["duplicates"] == 1
    assert target in _ids(live, k=400)


@pytest.mark.parametrize("at", [None, 1.0])
def test_of_two_at_one_time_the_last_in_the_body_counts(live: httpx.Client, at: float | None) -> None:
    """Without a time, or of the same second, as most logs have them."""
    first = _ids(live, strategy="centroids")
    back, gone = first[:8], first[8:16]
    time_of = {} if at is None else {"at": at}
    actions = [("add", back), ("remove", gone), ("remove", back), ("add", gone)]
    events = [{"user": USERS[5], "action": action, "target": one, **time_of} for action, ids in actions for one in ids]
    _post(live, *events, *({"user": USERS[6], "target": target} for target in USERS[100:200]))
    left = _ids(live, k=300, strategy="centroids")
    assert [one for one in first if one in left] == [*back, *first[16:]]


def test_the_latest_of_several_counts_whatever_the_order_of_arrival(live: httpx.Client) -> None:
    target = _ids(live)[0]
    _post(live, {"id": "b", "user": USERS[5], "target": target, "action": "remove", "at": 2000})
    _post(live, {"id": "a", "user": USERS[5], "target": target, "at": 1000})
    assert target in _ids(live, k=400)


def test_another_relation_and_an_entity_nobody_knows(live: httpx.Client) -> None:
    answer = _post(
        live,
        {"user": USERS[5], "target": "tag1", "relation": "uses"},
        {"user": "777", "target": USERS[9]},
        {"user": USERS[5], "target": "777"},
    )
    assert answer["stored"] == 3
    assert "tag1" not in _ids(live, relation="uses", k=60)
    newcomer = live.post("/recommend", content=json.dumps({"user": "777", "strategy": "fold_in"})).json()
    assert newcomer["fallback"] is None
    assert USERS[9] not in [candidate["id"] for candidate in newcomer["candidates"]]


def test_bad_events_do_not_stop_the_good(live: httpx.Client) -> None:
    answer = _post(
        live,
        {"id": "good", "user": USERS[5], "target": USERS[9]},
        {"id": "relation", "user": USERS[5], "target": USERS[9], "relation": "hates"},
        {"id": "spelling", "user": "007", "target": USERS[9]},
        {"id": "future", "user": USERS[5], "target": USERS[9], "at": time.time() + 1e6},
    )
    assert [item["status"] for item in answer["results"]] == ["stored", "invalid", "invalid", "invalid"]  # type: ignore[attr-defined]


def test_a_user_is_forgotten_on_request(live: httpx.Client) -> None:
    before = _ids(live)
    _post(live, *({"user": USERS[5], "target": target} for target in before[:3]))
    assert _ids(live) != before
    assert live.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 3
    assert _ids(live) == before
    assert live.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 0


def test_one_user_cannot_fill_the_store(start: Start) -> None:
    small = start(limits=Limits(events_per_user_max=3, timeout_ms=10_000))
    answer = _post(small, *({"user": USERS[5], "target": target} for target in USERS[10:15]))
    assert [item["status"] for item in answer["results"]] == ["stored"] * 3 + ["invalid"] * 2  # type: ignore[attr-defined]


def test_a_full_user_can_still_repeat_and_take_back(start: Start, store_settings: dict[str, object]) -> None:
    small = start(limits=Limits(events_per_user_max=3, timeout_ms=10_000), **store_settings)
    best, *others = _ids(small)
    adds = [{"id": target, "user": USERS[5], "target": target} for target in (best, *others[:4])]
    for expected in (["stored"] * 3, ["duplicate"] * 3):
        answer = _post(small, *adds)
        assert [item["status"] for item in answer["results"]] == expected + ["invalid"] * 2  # type: ignore[attr-defined]
    back = [
        {"user": USERS[5], "target": best, "action": "remove"},
        {"user": USERS[5], "target": others[5], "action": "block"},
    ]
    assert _post(small, *back)["stored"] == 2
    now = _ids(small, k=60)
    assert best in now
    assert others[5] not in now


def test_whoever_is_erased_is_nobodys_target_any_more(live: httpx.Client) -> None:
    target = _ids(live)[0]
    _post(live, {"user": USERS[5], "target": target}, {"user": USERS[5], "target": USERS[9], "action": "block"})
    assert target not in _ids(live)
    assert live.delete(f"/v1/users/{target}/engagements").json()["removed"] == 0
    assert target in _ids(live)
    assert USERS[9] not in _ids(live, k=400)


def test_a_store_that_cannot_write_is_known_and_recovers(
    start: Start, bundles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()
    _post(client, {"id": "e0", "user": USERS[5], "target": USERS[6]})
    file = next(bundles.parent.rglob("events.db"))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'no room'); END")
        event = json.dumps({"events": [{"id": "e1", "user": USERS[5], "target": USERS[7]}]})
        assert client.post("/v1/engagements", content=event).status_code == 503
        assert client.get("/readyz").json()["degraded"] == ["engagements_unavailable"]
        assert "no room" in caplog.text
        assert USERS[7] not in caplog.text
        other.execute("DROP TRIGGER full")
    assert client.post("/v1/engagements", content=event).json()["stored"] == 1
    assert client.get("/readyz").json() == {"status": "ok", "degraded": []}


def test_a_new_version_derives_everything_again(live: httpx.Client, bundles: Path) -> None:
    target = _ids(live, strategy="fold_in")[0]
    _post(live, {"id": "e", "user": USERS[5], "target": target})
    publish(bundles, "v2")
    deadline = time.monotonic() + 20
    while live.get("/v1/info").json()["version"] != "v2" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert target not in _ids(live, k=400)


def test_replicas_that_share_a_redis_see_each_other(start: Start, redis_server: RedisServer) -> None:
    one, two = (start(redis_url=redis_server.url, redis_timeout_ms=1000) for _ in range(2))
    target = _ids(two)[0]
    _post(one, {"user": USERS[5], "target": target})
    assert target not in _ids(two)


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from service.state.events import Event
from service.state.sqlite import SqliteStore

async def main() -> None:
    store = SqliteStore(Path(sys.argv[1]), 1_000_000)
    for number in range(1_000_000):
        event = Event(str(number), "user", "1", "add", "follows", "user", str(number), 0.0, 0.0)
        await store.append([event])
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("trial", range(3))
async def test_whatever_was_answered_survives_kill_9(tmp_path: Path, trial: int) -> None:
    from service.state.sqlite import SqliteStore

    path = tmp_path / "events.db"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: ASYNC220
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        threading.Timer(0.2 + 0.1 * trial, os.kill, (writer.pid, signal.SIGKILL)).start()
        lines += writer.stdout.readlines()
    store = SqliteStore(path, 1_000_000)
    stored = set((await store.edges_of("user", "1")).added["follows"])
    await store.close()
    answered = {line.strip() for line in lines if line.endswith("\n")}
    assert answered
    assert answered <= stored


def test_two_processes_may_write_at_once(start: Start, bundles: Path) -> None:
    """Two workers of one machine share the file."""
    one, two = start(), start()
    threads = [
        threading.Thread(
            target=lambda client=client, first=first: [
                _post(client, {"user": USERS[5], "target": USERS[first + step]}) for step in range(20)
            ]
        )
        for client, first in ((one, 100), (two, 200))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 40


def _kinds(client: httpx.Client, user: str, candidate: str, relation: str = "follows") -> list[str] | None:
    """The reasons for a candidate of a user, None where it is not in the answer."""
    body = {"user": user, "k": 400, "strategy": "blend", "explain": True, "relation": relation}
    for one in client.post("/recommend", content=json.dumps(body)).json()["candidates"]:
        if one["id"] == candidate:
            return [reason["kind"] for reason in one["why"]["reasons"]]
    return None


def _scores(client: httpx.Client, user: str, *, batch: bool = False) -> dict[str, float]:
    body: dict[str, object] = {"k": 400, "strategy": "blend"}
    body |= {"users": [user]} if batch else {"user": user}
    answer = client.post("/recommend:batch" if batch else "/recommend", content=json.dumps(body)).json()
    return {one["id"]: one["score"] for one in (answer["results"][0] if batch else answer)["candidates"]}


@pytest.fixture
def stranger(bundles: Path) -> str:
    """Somebody who does not follow USERS[5] in training, and is not followed."""
    follows = open_bundle(bundles / "v1").space().relations["follows"]
    near = {5, *follows.sources.row(5).tolist(), *follows.targets.row(5).tolist()}
    return next(USERS[row] for row in range(100, 400) if row not in near)


@pytest.fixture
def follower(bundles: Path) -> str:
    """Somebody who follows USERS[5] in training, and is not followed."""
    follows = open_bundle(bundles / "v1").space().relations["follows"]
    return next(USERS[row] for row in follows.sources.row(5).tolist() if row not in follows.targets.row(5).tolist())


@pytest.mark.parametrize("batch", [False, True])
def test_a_follow_by_somebody_else_counts_as_following_back_at_the_next_request(
    live: httpx.Client, stranger: str, batch: bool
) -> None:
    before = _scores(live, USERS[5], batch=batch)
    _post(live, {"id": "f1", "user": stranger, "target": USERS[5]})
    after = _scores(live, USERS[5], batch=batch)
    assert after[stranger] == pytest.approx(before[stranger] + 0.5, abs=1e-4)
    assert {one: score for one, score in after.items() if one != stranger} == pytest.approx(
        {one: score for one, score in before.items() if one != stranger}, abs=1e-4
    )
    assert "follows_you" in (_kinds(live, USERS[5], stranger) or [])
    _post(live, {"id": "f2", "user": stranger, "target": USERS[5], "action": "remove"})
    assert _scores(live, USERS[5], batch=batch) == pytest.approx(before, abs=1e-4)


def test_somebody_who_ended_to_follow_is_no_follower_any_more(live: httpx.Client, follower: str) -> None:
    before = _scores(live, USERS[5])
    assert "follows_you" in (_kinds(live, USERS[5], follower) or [])
    _post(live, {"id": "u1", "user": follower, "target": USERS[5], "action": "remove"})
    assert _scores(live, USERS[5])[follower] == pytest.approx(before[follower] - 0.5, abs=1e-4)
    assert "follows_you" not in (_kinds(live, USERS[5], follower) or [])
    # What the request says itself counts.
    body = {"user": USERS[5], "k": 400, "strategy": "blend", "followers": [follower]}
    named = live.post("/recommend", content=json.dumps(body)).json()["candidates"]
    assert {one["id"]: one["score"] for one in named}[follower] == pytest.approx(before[follower], abs=1e-4)


def test_the_latest_of_what_others_did_counts_whatever_the_order_of_arrival(live: httpx.Client, stranger: str) -> None:
    before = _scores(live, USERS[5])
    _post(live, {"id": "b", "user": stranger, "target": USERS[5], "action": "remove", "at": 2000})
    _post(live, {"id": "a", "user": stranger, "target": USERS[5], "at": 1000})
    assert _scores(live, USERS[5]) == pytest.approx(before, abs=1e-4)
    _post(live, {"id": "c", "user": stranger, "target": USERS[5], "at": 3000})
    assert _scores(live, USERS[5])[stranger] == pytest.approx(before[stranger] + 0.5, abs=1e-4)


@pytest.mark.parametrize("whose", ["the follower", "the followed"])
def test_an_erasure_of_either_side_ends_it(live: httpx.Client, stranger: str, whose: str) -> None:
    before = _scores(live, USERS[5])
    _post(live, {"id": "f1", "user": stranger, "target": USERS[5]}, {"id": "f2", "user": USERS[9], "target": USERS[7]})
    erased = stranger if whose == "the follower" else USERS[5]
    assert live.delete(f"/v1/users/{erased}/engagements").status_code == 200
    assert _scores(live, USERS[5]) == pytest.approx(before, abs=1e-4)
    assert USERS[9] not in _scores(live, USERS[7]) or "follows_you" in (_kinds(live, USERS[7], USERS[9]) or [])


def test_followers_of_somebody_new_count(live: httpx.Client, stranger: str) -> None:
    _post(live, {"id": "f1", "user": stranger, "target": "777"}, {"id": "f2", "user": "777", "target": USERS[9]})
    body = {"user": "777", "k": 400, "strategy": "blend", "explain": True}
    answer = live.post("/recommend", content=json.dumps(body)).json()
    reasons = next(one["why"]["reasons"] for one in answer["candidates"] if one["id"] == stranger)
    assert "follows_you" in [reason["kind"] for reason in reasons]


def test_a_relation_between_two_types_has_no_followers(live: httpx.Client) -> None:
    _post(live, {"id": "t1", "user": USERS[9], "target": "tag1", "relation": "uses"})
    assert "follows_you" not in (_kinds(live, USERS[5], "tag1", "uses") or [])


async def test_a_large_batch_gives_way_while_others_are_in_work(bundles: Path, tmp_path: Path) -> None:
    """In steps of a hundred events, each of which waits for others as long as it may."""
    runtime = Runtime(Settings(bundles=bundles, state=tmp_path / "events.db", warm_up_queries=0, self_test_queries=0))
    await runtime.start()
    try:
        asked: list[int] = []
        give_way = runtime.low_priority.give_way

        async def counted() -> None:
            asked.append(runtime.admission.in_work - runtime.low_priority._requests)
            await give_way()

        runtime.low_priority.give_way = counted  # type: ignore[method-assign]
        app = create_app(runtime.settings, runtime)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for in_work in (0, 2):
                runtime.admission.inflight = in_work
                began = time.perf_counter()
                events = [{"user": USERS[1], "target": USERS[2]}] * 1000
                patient = {"x-request-timeout-ms": "10000"}
                answer = await client.post("/v1/engagements", json={"events": events}, headers=patient)
                assert answer.json()["stored"] == 1000
                assert asked == [in_work] * 10
                assert not in_work or time.perf_counter() - began >= 10 * LONGEST_MS / 1000
                asked.clear()
            await client.post("/v1/engagements", json={"events": events[:100]})
            assert not asked, "a small one gives way to nobody"
    finally:
        await runtime.stop()
