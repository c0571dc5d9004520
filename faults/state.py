"""The store of live engagements: one user who is hammered costs others nothing, an erasure leaves no byte, and a slow
Redis is enough. Real services, a real Redis, everything on 127.0.0.1.
"""

import contextlib
import http.client
import json
import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bundle.versions import publish
from faults.outcome import Outcome
from tests.support.fault_proxy import FaultProxy
from tests.support.files import contents
from tests.support.servers import RedisServer, ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

FULL = 10_000
HAMMERS = 4
WINDOWS = 2
WINDOW_SECONDS = 3.0
WATCHERS = 2  # of each kind, each of which asks so often
ASKED_EVERY_SECONDS = 0.02
TIMES_AS_SLOW = 3.0
# Below this a quotient compares one scheduler's turn with another.
FLOOR_MS = 3.0


Request = tuple[str, object]  # path and body


class Seen(NamedTuple):
    """Latencies in milliseconds, and how many requests were not answered well."""

    milliseconds: list[float]
    failed: int

    def and_also(self, milliseconds: list[float], failed: int) -> "Seen":
        """These and more."""
        return Seen(self.milliseconds + milliseconds, self.failed + failed)

    def at(self, share: float) -> float:
        """The latency that so large a share of requests did not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Hammer, erase and delay, with SQLite and with Redis; `long` watches ten times as long."""
    bundles = scratch / "bundles"
    write_toy_bundle(bundles, "v1")
    publish(bundles, "v1")
    for store in ("sqlite", "redis"):
        place = Path(shutil.copytree(bundles, scratch / store / "bundles"))
        with _service(place, store) as url:
            yield from _hammered(url, store, seed, WINDOWS * (10 if long else 1))
        with _service(place, store) as url:
            yield _erased(url, place.parent, store, random.Random(seed))
    place = Path(shutil.copytree(bundles, scratch / "slow" / "bundles"))
    yield _slow_redis(place)


@contextlib.contextmanager
def _service(bundles: Path, store: str, **environment: str) -> Iterator[str]:
    """A service of one worker with an empty store; gives its URL."""
    with contextlib.ExitStack() as stack:
        if store == "redis":
            directory = bundles.parent / "redis"
            directory.mkdir(exist_ok=True)
            redis = RedisServer(directory)
            stack.callback(redis.kill)
            environment["TWHIN_REDIS_URL"] = redis.url
        service = ServiceProcess(bundles, TWHIN_ACCESS_LOG="all", **environment)
        stack.callback(service.stop)
        yield service.wait_until_ready().url


def _hammered(url: str, store: str, seed: int, windows: int) -> Iterator[Outcome]:
    full, *others = user_ids()
    _fill(url, full)
    refused = [{"user": full, "target": others[number % len(others)]} for number in range(1000)]

    def read(number: int) -> Request:
        return "/recommend", {"user": full, "k": 20}

    def block(number: int) -> Request:
        return "/v1/engagements", {"events": [{**refused[number % 1000], "action": "block"}]}

    hammers: dict[str, Callable[[int], Request]] = {
        "writes": lambda number: ("/v1/engagements", {"events": [refused[number % 1000]]}),
        "batches of 1,000": lambda number: ("/v1/engagements", {"events": refused}),
        "reads": read,
        "reads and blocks": lambda number: read(number) if number % 2 else block(number),
    }
    for what, request in hammers.items():
        quiet, loud = _watched(url, request, random.Random(seed), windows)
        for kind in ("reads", "writes"):
            before, during = quiet[kind], loud[kind]
            limit = TIMES_AS_SLOW * max(FLOOR_MS, before.at(0.99))
            yield Outcome(
                f"{store}: {HAMMERS} clients' {what} of a user of {FULL:,} events: others' {kind}, p99 up to 3 times",
                f"p50 {before.at(0.5):.1f} to {during.at(0.5):.1f} ms, p99 {before.at(0.99):.1f} to "
                f"{during.at(0.99):.1f} ms, {len(during.milliseconds)} asked, {during.failed} failed",
                during.at(0.99) <= limit and during.failed == 0,
            )


def _fill(url: str, user: str) -> None:
    targets = [str(number) for number in range(FULL)]
    for start in range(0, FULL, 1000):
        events = [{"user": user, "target": target} for target in targets[start : start + 1000]]
        status, _ = _ask(url, "/v1/engagements", {"events": events})
        assert status == 200, status


def _watched(
    url: str, request: Callable[[int], Request], rng: random.Random, windows: int
) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """What others see without and with the hammers, in windows by turns, so that the machine's moods count for both."""
    quiet, loud = ({kind: Seen([], 0) for kind in ("reads", "writes")} for _ in range(2))
    for _ in range(windows):
        for seen, hammering in ((quiet, False), (loud, True)):
            with _hammering(url, request) if hammering else contextlib.nullcontext():
                time.sleep(0.3)
                for kind, more in _watch(url, rng.randrange(2**31)).items():
                    seen[kind] = seen[kind].and_also(*more)
    return quiet, loud


@contextlib.contextmanager
def _hammering(url: str, request: Callable[[int], Request]) -> Iterator[None]:
    """Clients that ask again as soon as they are answered, in processes of their own."""
    stop = multiprocessing.Event()

    def hammer(first: int) -> None:
        connection, number = _connect(url), first
        while not stop.is_set():
            _exchange(connection, *request(number))
            number += HAMMERS

    workers = [multiprocessing.get_context("fork").Process(target=hammer, args=(first,)) for first in range(HAMMERS)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join(30)


def _watch(url: str, seed: int) -> dict[str, Seen]:
    """Others' reads and writes for one window, each from clients of its own."""
    seen = {kind: Seen([], 0) for kind in ("reads", "writes")}

    def watch(kind: str, number: int) -> None:
        rng, connection = random.Random(f"{seed} {kind} {number}"), _connect(url)
        milliseconds, failed = [], 0
        end = time.perf_counter() + WINDOW_SECONDS
        while (started := time.perf_counter()) < end:
            user, target = rng.choices(user_ids()[1:], k=2)
            if kind == "reads":
                status, _ = _exchange(connection, "/recommend", {"user": user, "k": 20})
            else:
                status, _ = _exchange(connection, "/v1/engagements", {"events": [{"user": user, "target": target}]})
            milliseconds.append(1000 * (time.perf_counter() - started))
            failed += status != 200
            time.sleep(max(0.0, started + ASKED_EVERY_SECONDS - time.perf_counter()))
        seen[kind] = seen[kind].and_also(milliseconds, failed)

    threads = [threading.Thread(target=watch, args=(kind, number)) for kind in seen for number in range(WATCHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def _erased(url: str, directory: Path, store: str, rng: random.Random) -> Outcome:
    """Users with marked ids come and go; what was erased is looked for in every byte of every file and of the log."""
    marks = {user: f"mark{rng.getrandbits(40):010x}" for user in rng.sample(user_ids()[1:], 40)}
    gone = set(rng.sample(sorted(marks), 20))
    for user, mark in marks.items():
        events = [{"id": f"{mark}-{n}", "user": user, "target": rng.choice(user_ids())} for n in range(50)]
        assert _ask(url, "/v1/engagements", {"events": events})[0] == 200
    for user in sorted(gone):
        # Events of others that have the user as their target carry the mark too.
        events = [{"id": f"{marks[user]}-by-{n}", "user": rng.choice(user_ids()[1:]), "target": user} for n in range(5)]
        assert _ask(url, "/v1/engagements", {"events": events})[0] == 200
    slowest = 0.0
    for user in sorted(gone):
        started = time.perf_counter()
        status, _ = _ask(url, f"/v1/users/{user}/engagements", method="DELETE")
        slowest = max(slowest, time.perf_counter() - started)
        assert status == 200, status
    deadline = time.monotonic() + (20 if store == "redis" else 0)  # Redis writes its file anew in the background
    while True:
        everything = b"\n".join(contents(directory))
        left = sum(marks[user].encode() in everything for user in gone)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return Outcome(
        f"{store}: no byte of an erased user is in any file or in the log",
        f"{len(gone)} users erased of {len(marks)}, {left} found in {len(everything) / 1e6:.1f} MB, "
        f"at most {1000 * slowest:.0f} ms each",
        left == 0,
    )


def _slow_redis(bundles: Path) -> Outcome:
    directory = bundles.parent / "redis"
    directory.mkdir()
    redis = RedisServer(directory)
    proxy = FaultProxy(redis.port)
    proxy.delay_seconds, proxy.mode = 0.03, "delay"
    service = ServiceProcess(bundles, TWHIN_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    try:
        url = service.wait_until_ready().url
        stored = degraded = 0
        for user, target in zip(user_ids()[:100], user_ids()[100:200], strict=True):
            status, _ = _ask(url, "/v1/engagements", {"events": [{"user": user, "target": target}]})
            stored += status == 200
            degraded += b"engagements_unavailable" in _ask(url, "/recommend", {"user": user, "k": 5})[1]
    finally:
        service.stop()
        proxy.close()
        redis.kill()
    return Outcome(
        "redis: 30 ms a reply are enough to write, with every default",
        f"{stored} of 100 writes stored, {degraded} of 100 reads without engagements (budget 50 ms)",
        stored == 100,
    )


def _connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def _exchange(
    connection: http.client.HTTPConnection, path: str, body: object = None, method: str = "POST"
) -> tuple[int, bytes]:
    encoded = None if body is None else json.dumps(body).encode()
    connection.request(method, path, encoded, {} if encoded is None else {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def _ask(url: str, path: str, body: object = None, method: str = "POST") -> tuple[int, bytes]:
    with contextlib.closing(_connect(url)) as connection:
        return _exchange(connection, path, body, method)
