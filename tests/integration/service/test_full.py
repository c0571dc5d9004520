"""A service that is full: whole requests are refused without a closer look, one answer each, what comes in pieces as
ever. No refusal leaves anything that would be taken for the next request.
"""

import asyncio
import random
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.http import CONFLICTS, PLANTED, USERS, _exchange, _request
from recommend.types import LiveEdges
from service.admission import FEWEST
from service.gateway import NO_ROOM, Gateway
from service.main import create_app
from service.refusals import SAMPLED
from service.runtime import Runtime
from service.settings import Limits, Settings
from service.state.events import Event
from service.state.sqlite import FEW_EVENTS, SqliteStore
from tests.support.servers import RedisServer, running

ASKED = b"GET /recommend/%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % USERS[5].encode()


class Full:
    """A service, and whether it is full."""

    def __init__(self, url: str, runtime: Runtime) -> None:
        self.url = url
        self.for_pages = bool(runtime.settings.cors_origins)
        self.port = httpx.URL(url).port or 80
        self.runtime = runtime
        self._admission = runtime.admission

    def __enter__(self) -> None:
        self._admission.inflight += 1 << 20

    def __exit__(self, *_: object) -> None:
        self._admission.inflight -= 1 << 20


@pytest.fixture(scope="module", params=["", "https://page.example"], ids=["alone", "for pages"])
def full(
    request: pytest.FixtureRequest, made_bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Full]:
    state = tmp_path_factory.mktemp("state") / "events.db"
    origins = (request.param,) if request.param else ()
    settings = Settings(bundles=made_bundles, state=state, cors_origins=origins, keep_alive_seconds=1)
    app = create_app(settings)
    gateway = app if isinstance(app, Gateway) else app._gateway  # type: ignore[attr-defined]
    with running(settings, app) as url:
        yield Full(url, gateway._runtime)


def packets(stream: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted({0, len(stream), *(rng.randrange(len(stream)) for _ in range(rng.choice([0, 1, 3, 12])))})
    return [stream[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def test_each_request_of_a_stream_gets_one_answer_however_it_arrives(full: Full) -> None:
    rng = random.Random(1)
    kept = {200, 204, 400, 404}  # of probes, documents, OPTIONS and paths that are not there
    refused = 0
    with full:
        for _ in range(60):
            requests = [_request(rng)[0] for _ in range(rng.randrange(1, 5))]
            each = _exchange(full.port, requests, len(requests))
            anyhow = _exchange(full.port, packets(b"".join(requests), rng), len(requests))
            assert each == anyhow
            assert set(each) <= kept | {503}
            assert len(each) == len(requests)
            refused += each.count(503)
    assert refused > 50
    assert httpx.delete(f"{full.url}/v1/users/{USERS[8]}/engagements").json()["removed"] == 0


def test_ambiguous_framing_is_refused_as_ever(full: Full) -> None:
    with full:
        for conflict in CONFLICTS:
            framing = conflict % ((len(PLANTED),) * conflict.count(b"%d"))
            head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % framing
            assert _exchange(full.port, [head + PLANTED], 3) == [400]


def test_a_refusal_is_whole_and_counted(full: Full) -> None:
    def counted() -> float:
        lines = httpx.get(f"{full.url}/metrics").text.splitlines()
        names = ('twhin_shed_total{reason="concurrency"}', 'twhin_http_requests_total{method="POST",route="/recommend"')
        return sum(float(line.split()[-1]) for line in lines if line.startswith(names[0])) * 1000 + sum(
            float(line.split()[-1]) for line in lines if line.startswith(names[1]) and "5xx" in line
        )

    before = counted()
    with full, httpx.Client(base_url=full.url) as client:
        answers = [client.post("/recommend", json={"user": USERS[5]}) for _ in range(3)]
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["code"] == "overloaded"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert counted() - before == 3003
    assert httpx.post(f"{full.url}/recommend", json={"user": USERS[5]}).status_code == 200


LAST = ASKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
OLDER = ASKED.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nconnection: keep-alive\r\n")


@pytest.mark.parametrize("last", [LAST, OLDER], ids=["asked to", "an older client"])
def test_a_refusal_after_which_the_connection_ends_says_so(full: Full, last: bytes) -> None:
    with full, socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(last)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_a_page_sees_that_it_was_refused(full: Full) -> None:
    with full:
        answer = httpx.get(f"{full.url}/recommend/{USERS[5]}", headers={"origin": "https://page.example"})
    assert answer.status_code == 503
    assert ("access-control-allow-origin" in answer.headers) == full.for_pages


def answers_until_closed(connection: socket.socket, asked: Sequence[bytes], pause: float) -> int:
    """How many answers came to `asked`, one every `pause` seconds, and then until the service closed the connection."""
    seen = b""
    for request in asked:
        connection.sendall(request)
        seen += connection.recv(65536)
        time.sleep(pause)
    while part := connection.recv(65536):
        seen += part
    return seen.count(b"HTTP/1.1 ")


def test_a_connection_that_is_refused_stays_open_while_it_asks(full: Full) -> None:
    with full, socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        started = time.monotonic()
        # Each well within the second that an idle connection has; together they take longer.
        assert answers_until_closed(connection, [ASKED] * 6, 0.25) == 6
        assert time.monotonic() - started > 2


def test_a_refused_head_has_no_body_that_would_be_taken_for_the_next_answer(full: Full) -> None:
    head = ASKED.replace(b"GET", b"HEAD", 1)
    with full:
        for sent in ([head], [head[:20], head[20:]], [head + head]):  # at a glance, when its head is over, in its turn
            with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
                for packet in sent:
                    connection.sendall(packet)
                    time.sleep(0.01)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while part := connection.recv(65536):
                    answer += part
            *heads, rest = answer.split(b"\r\n\r\n")
            assert [one.partition(b"\r\n")[0] for one in heads] == [b"HTTP/1.1 503 Service Unavailable"] * len(heads)
            assert (len(heads), rest) == (b"".join(sent).count(b"HEAD"), b"")


def test_thousands_that_wait_behind_an_answer_are_refused_each(full: Full) -> None:
    waiting, body = 3000, b'{"user": "%b"}' % USERS[5].encode()
    first = (
        b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(first % len(body))
        time.sleep(0.1)  # it is let in, and waits for its body
        with full:
            connection.sendall(body + b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" + ASKED * waiting)
            answer = b""
            while answer.count(b"HTTP/1.1 ") < waiting + 2 and (part := connection.recv(1 << 20)):
                answer += part
    assert answer.count(b"HTTP/1.1 503 ") == waiting + 1  # the first, whose body came too late, is one
    assert answer.count(b"HTTP/1.1 200 ") == 1


def test_a_page_that_is_to_be_refused_takes_nobody_s_room(made_bundles: Path, tmp_path: Path) -> None:
    origin = "https://page.example"
    app = create_app(Settings(bundles=made_bundles, state=tmp_path / "events.db", cors_origins=(origin,)))
    admission = app._gateway._runtime.admission  # type: ignore[attr-defined]
    admission.inflight += 1 << 20
    scope = {"method": "GET", "path": f"/recommend/{USERS[5]}", "headers": [(b"origin", origin.encode())]}
    assert app.turned_away(scope, False, lambda: 0.0) is None  # type: ignore[attr-defined]
    app.whole(scope)  # type: ignore[attr-defined]
    assert admission.arrived == 0


def test_a_page_hears_why_it_was_refused(full: Full) -> None:
    counted = {reason: shed(full, reason) for reason in ("search_queue", "concurrency")}
    full.runtime.search._waiting += full.runtime.settings.limits.search_queue_max
    headers = {"origin": "https://page.example"}
    answer = httpx.post(f"{full.url}/recommend:batch", json={"users": USERS[:4]}, headers=headers)
    full.runtime.search._waiting -= full.runtime.settings.limits.search_queue_max
    assert (answer.status_code, answer.json()["detail"]) == (503, NO_ROOM["search_queue"])
    assert shed(full, "search_queue") == counted["search_queue"] + 1
    assert shed(full, "concurrency") == counted["concurrency"]


class Asked:
    """Counts what the recommender is asked, as it ever was."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        recommender = runtime.versions.serving().recommender
        prepared = recommender.prepared

        def counted(*arguments: Any, **named: Any) -> Any:
            self.times += 1
            return prepared(*arguments, **named)

        monkeypatch.setattr(recommender, "prepared", counted)


def shed(full: Full, reason: str) -> float:
    lines = httpx.get(f"{full.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f'twhin_shed_total{{reason="{reason}"}}'))


@pytest.mark.parametrize("left", [0, 3], ids=["at a glance", "before it is planned"])
def test_a_batch_that_the_search_queue_has_no_room_for_is_refused_before_it_is_planned(
    full: Full, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    runtime, before = full.runtime, shed(full, "search_queue")
    asked = Asked(runtime, monkeypatch)
    waiting = runtime.settings.limits.search_queue_max - left
    runtime.search._waiting += waiting
    batch = httpx.post(f"{full.url}/recommend:batch", json={"users": USERS[:4]})
    assert (batch.status_code, batch.json()["detail"], asked.times) == (503, NO_ROOM["search_queue"], 0)
    assert shed(full, "search_queue") == before + 1
    assert httpx.post(f"{full.url}/recommend", json={"user": USERS[5], "strategy": "popular"}).status_code == 200
    runtime.search._waiting -= waiting
    batch = httpx.post(f"{full.url}/recommend:batch", json={"users": USERS[:4]})
    assert (batch.status_code, batch.json()["ok"], asked.times) == (200, 4, 5)
    assert runtime.search._waiting == 0


@pytest.fixture
def narrow(made_bundles: Path, redis_server: RedisServer) -> Iterator[Full]:
    """A service whose search queue has room for four."""
    limits = Limits(search_queue_max=4, timeout_ms=20_000)
    settings = Settings(bundles=made_bundles, redis_url=redis_server.url, redis_timeout_ms=20_000, limits=limits)
    app = create_app(settings)
    with running(settings, app) as url:
        yield Full(url, app._runtime)  # type: ignore[attr-defined]


def test_a_batch_that_waits_for_the_store_keeps_nobody_from_the_search_queue(
    narrow: Full, redis_server: RedisServer
) -> None:
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            batch = pool.submit(httpx.post, f"{narrow.url}/recommend:batch", json={"users": USERS[:4]}, timeout=30)
            while narrow.runtime.admission.inflight == 0 and not batch.done():
                time.sleep(0.01)
            asked = {"type": "user", "id": USERS[5]}
            similar = httpx.post(f"{narrow.url}/v1/similar", json=asked, timeout=30)
            assert not batch.done()
            redis_server.process.send_signal(signal.SIGCONT)
            assert (similar.status_code, batch.result().json()["ok"]) == (200, 4)
    finally:
        redis_server.process.send_signal(signal.SIGCONT)


def test_users_whose_answers_need_no_search_make_that_of_others_no_shallower(
    narrow: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.search_thread.TARGET_SECONDS", 1e9)  # however slow the machine is
    users = [USERS[5], "nobody", "no one", "none"]
    items = httpx.post(f"{narrow.url}/recommend:batch", json={"users": users, "strategy": "unimodal"}).json()["results"]
    assert [(item["status"], item.get("degraded", [])) for item in items] == [("ok", [])] * 4


def test_users_of_a_batch_who_wait_at_the_same_time_wait_once(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(full.runtime.admission, "waited_elsewhere", waited.append)
    assert httpx.post(f"{full.url}/recommend:batch", json={"users": USERS[:4]}).json()["ok"] == 4
    assert len(waited) == 1


def test_nobody_comes_between_the_look_at_the_room_and_the_queue_while_users_are_looked_up(full: Full) -> None:
    """Of two batches that both saw room, one would have been looked up and planned for nothing."""
    relation = full.runtime.versions.serving().bundle.space().relation("follows").entry
    others: list[str] = []

    async def looked_up() -> int:
        asyncio.get_running_loop().call_soon(others.append, "somebody else")
        told = await full.runtime.since_each([(relation, user) for user in USERS[:64]], [])
        assert not others
        return len(told)

    assert asyncio.run_coroutine_threadsafe(looked_up(), full.runtime.search._loop).result(10) == 64


def test_users_with_many_events_are_added_up_at_the_same_time(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, each would take some turns of a busy loop, and a batch of them longer than it may."""
    relation, state = full.runtime.versions.serving().bundle.space().relation("follows").entry, full.runtime.state
    assert isinstance(state, SqliteStore)
    busy, asked, degraded = [f"busy{n}" for n in range(8)], list[object](), list[str]()
    add_up = state._add_up

    async def looked_up() -> list[int]:
        for user in busy:
            targets = enumerate(USERS[: FEW_EVENTS + 1])
            await state.append(
                [Event(f"{user}-{n}", "user", user, "add", "follows", "user", one, 0.0, 0.0) for n, one in targets]
            )
        all_asked = asyncio.Event()

        async def together(owner: tuple[str, str]) -> tuple[int, LiveEdges]:
            asked.append(owner)
            if len(asked) == len(busy):
                all_asked.set()
            await asyncio.wait_for(all_asked.wait(), 5)
            return await add_up(owner)

        monkeypatch.setattr(state, "_add_up", together)
        users = [USERS[0], *busy, USERS[1]]
        told = await full.runtime.since_each([(relation, user) for user in users], degraded)
        return [len(live.added.get("follows", ())) for live, _ in told]

    found = asyncio.run_coroutine_threadsafe(looked_up(), full.runtime.search._loop).result(60)
    assert found == [0, *[FEW_EVENTS + 1] * len(busy), 0]
    assert degraded == []


def test_a_request_that_waited_in_its_socket_past_its_deadline_is_not_worked_on(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(full.runtime, monkeypatch)
    full.runtime.admission.inflight += FEWEST  # there is company
    with httpx.Client(base_url=full.url) as client:
        client.get("/livez")  # opens the connection
        full.runtime.search._loop.call_soon_threadsafe(time.sleep, 0.5)
        time.sleep(0.1)
        answer = client.post("/recommend", json={"user": USERS[5]}, headers={"x-request-timeout-ms": "50"})
    full.runtime.admission.inflight -= FEWEST
    assert (answer.status_code, answer.json()["code"], asked.times) == (504, "deadline_exceeded", 0)


def test_how_long_a_refused_request_had_waited_is_seen(full: Full) -> None:
    def counted(over: bool) -> float:
        lines = httpx.get(f"{full.url}/metrics").text.splitlines()
        found = {line.split()[0]: float(line.split()[-1]) for line in lines if line.startswith("twhin_shed_wait")}
        every = found["twhin_shed_wait_seconds_count"]
        return every - found['twhin_shed_wait_seconds_bucket{le="0.1"}'] if over else every

    before, loop = counted(over=True), full.runtime.search._loop
    with full, httpx.Client(base_url=full.url) as client:
        client.get("/livez")
        for _ in range(SAMPLED):
            loop.call_soon_threadsafe(time.sleep, 0.15)
            time.sleep(0.01)
            assert client.get(f"/recommend/{USERS[5]}").status_code == 503
    assert counted(over=True) == before + 1
