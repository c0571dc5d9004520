"""The small parts: events, breaker, budgets, settings, logs, vectors, the search thread's promises."""

import asyncio
import json
import logging
import os
import random
import sys
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bundle.errors import ConfigError
from bundle.ids import IntIds, parse_int_id
from recommend.merge import RankedList, draw, interleaved
from recommend.mixtures import split
from recommend.recommender import Recommender
from recommend.types import LIST, RecommendRequest
from service.logs import JsonLines, Lines
from service.metrics import Metrics
from service.problems import Problem, problem_of_decoding
from service.search_thread import SearchThread, with_share_of_depth
from service.settings import Limits, Settings
from service.state.breaker import Breaker
from service.state.events import Event, live_edges
from service.state.redis_address import RedisAddress, redis_address
from service.versions.loaded import Loaded
from tests.support.service_bundle import user_ids

USERS = user_ids()


def _event(number: int, action: str, target: str, at: float) -> Event:
    return Event(str(number), "user", "1", action, "follows", "user", target, at, 0.0)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(["add", "remove", "block", "unblock"]), st.sampled_from("abc"))), st.randoms()
)
def test_events_add_up_to_the_same_in_any_order(history: list[tuple[str, str]], shuffle: random.Random) -> None:
    events = [_event(number, action, target, float(number)) for number, (action, target) in enumerate(history)]
    edges = live_edges(events)
    shuffled = events.copy()
    shuffle.shuffle(shuffled)
    assert live_edges(shuffled) == edges
    for target in "abc":
        about = [action for action, where in history if where == target]
        last = next((action for action in reversed(about) if action in ("add", "remove")), None)
        assert (target in edges.added.get("follows", ())) == (last == "add")
        hidden = next((action for action in reversed(about) if action in ("block", "unblock")), None)
        assert (target in edges.blocked.get("user", ())) == (hidden == "block")


async def test_the_breaker_opens_at_the_first_failure_and_closes_after_a_good_probe() -> None:
    well, probes = False, 0

    async def probe() -> None:
        nonlocal probes
        probes += 1
        if not well:
            raise ConnectionError

    breaker = Breaker(probe, 0.02)
    assert not breaker.is_open
    breaker.trip()
    breaker.trip()
    await asyncio.sleep(0.1)
    assert breaker.is_open
    assert 1 <= probes <= 10
    well = True
    await asyncio.sleep(0.1)
    assert not breaker.is_open
    seen = probes
    await asyncio.sleep(0.1)
    assert probes == seen
    await breaker.close()


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 50))
def test_a_drawn_slate_is_distinct_full_and_proportional(weights: list[float], k: int, length: int) -> None:
    rng = np.random.default_rng(length)
    rows = [rng.permutation(100)[:length].tolist() for _ in weights]
    lists = [RankedList(one, [0.0] * length, LIST) for one in rows]
    draws = draw(lists, weights, k)
    picks = interleaved(lists, draws, range(len(weights)))
    assert len(set(picks.rows)) == len(picks) == min(k, len({row for one in rows for row in one}))
    budgets = split(weights, k)
    if length and all(budget <= length - k for budget in budgets):  # nobody can run dry
        assert [len(one.positions) for one in draws] == budgets


@given(
    st.lists(st.one_of(st.integers(-10, 2**64).map(str), st.text(max_size=4), st.sampled_from(["007", "+7", "1_0"])))
)
def test_many_ids_are_read_as_one_is(texts: list[str]) -> None:
    table = IntIds(np.array([0, 7, 10, 2**63 - 1], dtype=np.int64))
    expected = [-1 if table.row(text) is None else table.row(text) for text in texts]
    assert table.rows(texts).tolist() == expected
    assert all(str(parse_int_id(text)) == text for text in texts if parse_int_id(text) is not None)


def test_settings_survive_the_way_to_a_worker() -> None:
    made = Settings(read_keys="a,b", redis_url="redis://:pw@h:1/0", watch_seconds=0.25, limits=Limits(k_max=7))  # type: ignore[arg-type]
    again = ForkingPickler.loads(ForkingPickler.dumps(made))
    assert again == made
    assert "pw" not in repr(again)
    with pytest.raises(ValidationError) as refused:
        Settings(redis_ulr="redis://:pw@h")  # type: ignore[call-arg]
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("h")),
        ("redis://h:1/2", RedisAddress("h", 1, database=2)),
        ("redis://:p%2Fw%40@h/", RedisAddress("h", password="p/w@")),
        ("redis://u:p@ss@h?db=3", RedisAddress("h", database=3, user="u", password="p@ss")),
        ("rediss://h?ssl_cert_reqs=none", RedisAddress("h", tls=True, tls_options={"ssl_cert_reqs": "none"})),
        ("rediss://h?ssl_check_hostname=false", RedisAddress("h", tls=True, tls_options={"ssl_check_hostname": False})),
        ("unix://:p@/run/redis.sock?db=1", RedisAddress(path="/run/redis.sock", database=1, password="p")),
    ],
)
def test_a_redis_url_says_where_it_is(url: str, address: RedisAddress) -> None:
    assert redis_address(url) == address
    assert "p%2F" not in repr(redis_address(url))


@pytest.mark.parametrize(
    "url",
    [
        "h:6379",
        "http://h",
        "redis://",
        "redis://h/x",
        "redis://h/0?timeout=1",
        "unix://",
        "redis://h:x",
        "redis://a..b",
        f"redis://{'h' * 64}.example",
        "redis://:p@a..b:6379",
        "rediss://h?ssl_cert_reqs=x",
        "rediss://h?ssl_check_hostname=x",
    ],
)
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        redis_address(url)


def test_a_log_line_cannot_be_split_or_carry_extras() -> None:
    record = logging.LogRecord("twhin", logging.INFO, "", 0, "a\nb %s", ("c\r\nd",), None)
    record.request_id, record.authorization = "r", "Bearer secret"
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["request_id"] == "r"
    assert "secret" not in line
    try:
        raise ValueError("x")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError" in json.loads(JsonLines().format(record))["error"]


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """A pipe holds 64 KiB: what has no room is lost, and counted when there is room again."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "w") as stream:
            lines = Lines(stream)
            lines.setFormatter(JsonLines())
            for number in range(2000):  # of some hundred bytes each
                lines.emit(logging.makeLogRecord({"name": "twhin.access", "msg": f"line {number}"}))
            written = os.read(reader, 1 << 20).decode().splitlines()
            lines.emit(logging.makeLogRecord({"name": "twhin.access", "msg": "read again"}))
            said, last = (json.loads(line) for line in os.read(reader, 1 << 20).decode().splitlines())
        assert [json.loads(line)["message"] for line in written] == [f"line {number}" for number in range(len(written))]
        assert said["message"] == "lines of the log are lost: nobody had read it"
        assert said["count"] == 2000 - len(written) > 0
        assert last["message"] == "read again"
    finally:
        os.close(reader)


def test_a_problem_never_repeats_the_input() -> None:
    import msgspec

    class Body(msgspec.Struct, forbid_unknown_fields=True):
        kind: str = ""

    for body in (b'{"zq9canary": 1}', b'{"kind": 1}', b"zq9canary"):
        with pytest.raises(msgspec.DecodeError) as caught:
            msgspec.json.decode(body, type=Body)
        assert b"zq9canary" not in problem_of_decoding(caught.value, Body).body("r")


@pytest.mark.parametrize(("k", "asked", "depth"), [(5, None, 32), (500, None, 32), (500, 16, 8), (5, 1, 1)])
def test_overload_searches_less_far_for_any_k(recommender: Recommender, k: int, asked: int | None, depth: int) -> None:
    """The version's depth is 64; before, an index of inverted lists was searched deeper for a large k."""
    plan = recommender.plan(RecommendRequest(user=USERS[0], k=k, strategy="unimodal", depth=asked))
    assert with_share_of_depth(plan, 0.5) is plan  # all rows are scored
    entry = plan.space.entry
    lists = {name: one.model_copy(update={"kind": "ivf_sq8"}) for name, one in entry.indexes.items()}
    space = replace(plan.space, entry=entry.model_copy(update={"indexes": lists}))
    assert with_share_of_depth(msgspec.structs.replace(plan, space=space), 0.5).depth == depth


async def test_a_fault_of_ours_costs_the_search_thread_one_turn(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thread = SearchThread(Metrics(), batch=16, queue_max=4, depth_floor=0.5)
    loaded = Loaded(recommender.bundle, recommender, 1.0, 0.0)
    plan = recommender.plan(RecommendRequest(user=USERS[0], k=5, strategy="unimodal"))
    later = asyncio.get_running_loop().time() + 10

    def faulty(jobs: object, waited: float) -> None:
        raise ValueError("of ours")

    with monkeypatch.context() as while_faulty:
        while_faulty.setattr(thread, "_shallower", faulty)
        with pytest.raises(ValueError, match="of ours"):
            await asyncio.wait_for(thread.search(loaded, [plan], later), 10)
    answers, _ = await asyncio.wait_for(thread.search(loaded, [plan], later), 10)
    assert len(answers) == 1
    assert "a turn of the search thread failed" in caplog.text
    await thread.close()


async def test_the_search_thread_answers_neighbours_apart_and_sheds_when_full(recommender: Recommender) -> None:
    thread = SearchThread(Metrics(), batch=16, queue_max=4, depth_floor=0.5)
    loaded = Loaded(recommender.bundle, recommender, 1.0, 0.0)
    later = asyncio.get_running_loop().time() + 10

    def plan(user: str) -> object:
        return recommender.plan(RecommendRequest(user=user, k=5, strategy="unimodal"))

    asked = [asyncio.create_task(thread.search(loaded, [plan(user)], later)) for user in USERS[:8]]  # type: ignore[list-item]
    done = await asyncio.gather(*asked, return_exceptions=True)
    answered = [(user, one) for user, one in zip(USERS, done, strict=False) if not isinstance(one, BaseException)]
    refused = [one for one in done if isinstance(one, BaseException)]
    assert len(answered) == 4
    assert all(isinstance(one, Problem) and one.status == 503 and one.headers["retry-after"] for one in refused)
    for user, (slates, _) in answered:
        alone = recommender.recommend(RecommendRequest(user=user, k=5, strategy="unimodal"))
        assert slates[0].ids() == alone.ids()

    def broken() -> list[object]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await thread.run(broken, later)  # type: ignore[arg-type]
    assert thread.alive
    await thread.close()
    assert not thread.alive
