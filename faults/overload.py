"""More requests than the service can answer: what is still answered, how fast the others hear no, and how soon all is
well again.

The service has one core and the generator another. Capacity is what a few clients that wait for their answers get, and
an answer's CPU time what theirs take before a phase and after it. Then requests leave on time, answered or not (an open
loop), at 3 and 10 times as many, over up to a thousand connections: one that falls due while each of them waits for its
answer does not leave, and is counted. The machine may have other work, so answers are counted by the service's own CPU
second; and since two cores may be threads of one, on which a second is worth less while the other one works, the
generator's never rests, at capacity as under overload.
"""

import asyncio
import contextlib
import http.client
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import uvloop

from benchmarks.http_load import request_bytes
from bundle.versions import publish
from faults.outcome import Outcome
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

DEADLINE_SECONDS = 2.0
KINDS = ("single", "batch")
CONNECTIONS = 1000
# What orchestrators give a health check as long as nobody says otherwise.
CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of the requests of one run: seconds from leaving to the answer, by what they were answered; how many
    found no connection free; and the seconds in which they left, which are more than they should be where the generator
    cannot keep up.
    """

    good: list[float]
    refused: list[float]
    late: int
    others: dict[str, int]
    unanswered: int
    held_up: int
    sending: float


class Client(asyncio.Protocol):
    """One connection of the generator, with one request at a time."""

    def __init__(self, pool: "Generator") -> None:
        self._pool = pool
        self._received = b""
        self._left = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> None:
        """Send one request."""
        self._received, self._left = b"", time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._received) >= end + 4 + length:
            self._pool.answered(self, int(head[9:12]), time.perf_counter() - self._left)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)


class Generator:
    """Sends requests and notes their answers."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int) -> None:
        """Over so many `connections` at most."""
        self._port = port
        self._requests = requests
        self._room = connections
        self._opening: set[asyncio.Task[None]] = set()
        self._idle: deque[Client] = deque()
        self._busy: set[Client] = set()
        self._next = 0
        self.answers: list[tuple[int, float]] = []
        self.lost_connections = self.held_up = 0
        self.sending = 0.0
        self._again = False

    async def closed_loop(self, clients: int, seconds: float) -> float:
        """Answers a second with so many clients that wait for theirs."""
        self._again = True
        for _ in range(clients):
            self._ask()
        await asyncio.sleep(seconds)
        self._again = False
        return sum(status == 200 for status, _ in self.answers) / seconds

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Send `rate` requests a second, each on time."""
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            wait = started + number / rate - time.perf_counter()
            if wait > 0.001:
                await asyncio.sleep(wait)
            elif number % 50 == 0:
                await asyncio.sleep(0)
            self._ask()
        self.sending = time.perf_counter() - started

    async def settle(self, seconds: float) -> None:
        """Wait for what is still to be answered."""
        last = time.perf_counter() + seconds
        while (self._busy or self._opening) and time.perf_counter() < last:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def _ask(self) -> None:
        if self._idle:
            self._send(self._idle.pop())
        elif self._room:
            self._room -= 1
            task = asyncio.get_running_loop().create_task(self._ask_anew())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.held_up += 1

    async def _ask_anew(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
        except OSError:
            self.lost_connections += 1
            self._room += 1
        else:
            self._send(client)

    def _send(self, client: Client) -> None:
        self._busy.add(client)
        self._next += 1
        client.ask(self._requests[self._next % len(self._requests)])

    def answered(self, client: Client, status: int, seconds: float) -> None:
        self.answers.append((status, seconds))
        self._busy.discard(client)
        if self._again:
            self._send(client)
        else:
            self._idle.append(client)

    def lost(self, client: Client) -> None:
        self._room += 1
        if client in self._busy:
            self._busy.discard(client)
            self.lost_connections += 1
        elif client in self._idle:
            self._idle.remove(client)

    def seen(self) -> Seen:
        good = [seconds for status, seconds in self.answers if status == 200]
        others: dict[str, int] = {}
        for status, _ in self.answers:
            if status not in (200, 503):
                others[str(status)] = others.get(str(status), 0) + 1
        refused = [seconds for status, seconds in self.answers if status == 503]
        late = sum(seconds > DEADLINE_SECONDS + 0.05 for seconds in good)
        unanswered = len(self._busy) + len(self._opening) + self.lost_connections
        return Seen(good, refused, late, others, unanswered, self.held_up, self.sending)


def requests_of(kind: str) -> list[bytes]:
    """Requests that are searched: one user's mixture of interests, or 64 users in a batch."""
    users = user_ids()
    if kind == "single":
        bodies = [{"user": user, "k": 100, "strategy": "mixture"} for user in users]
        return [request_bytes("POST", "/recommend", json.dumps(body).encode()) for body in bodies]
    batches = [{"users": users[start : start + 64], "k": 100, "strategy": "mixture"} for start in range(0, 256, 64)]
    return [request_bytes("POST", "/recommend:batch", json.dumps(body).encode()) for body in batches]


def generate() -> None:
    """In a process of its own: one phase, told on standard input, answered on standard output."""
    phase = json.loads(sys.argv[2])
    os.sched_setaffinity(0, {phase["core"]})

    async def work() -> dict[str, object]:
        generator = Generator(phase["port"], requests_of(phase["kind"]), phase["connections"])
        if phase["rate"] is None:
            await generator.closed_loop(phase["clients"], phase["seconds"])
        else:
            await generator.open_loop(phase["rate"], phase["seconds"])
        await generator.settle(20)
        seen = generator.seen()
        return {name: getattr(seen, name) for name in seen.__slots__}

    # To a file: the loop has made the pipes of this process such that a long text may be written in part.
    Path(phase["to"]).write_text(json.dumps(uvloop.run(work())), encoding="utf-8")


def _occupy(core: int) -> "subprocess.Popen[bytes]":
    """A process that takes what others leave of a core."""
    words = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        f"while os.getppid() == {os.getpid()}:\n  for _ in range(10**6): pass"
    )
    return subprocess.Popen([sys.executable, "-c", words])


class HealthChecks(threading.Thread):
    """Asks whether the service is ready, as a load balancer does: each time on a connection of its own."""

    EVERY_SECONDS: ClassVar[float] = 0.1

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._stopped = threading.Event()
        self.seconds: list[float] = []
        self.failed = 0

    def run(self) -> None:
        while not self._stopped.wait(self.EVERY_SECONDS):
            began = time.perf_counter()
            self.failed += not self._is_ready()
            self.seconds.append(time.perf_counter() - began)

    def _is_ready(self) -> bool:
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
        self.join()


class Measured:
    """A service on a core of its own, and runs against it. `close` it."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        bundles = scratch / "bundles"
        write_toy_bundle(bundles, "v1")
        publish(bundles, "v1")
        cores = sorted(os.sched_getaffinity(0))
        self._own, self._generators = cores[0], cores[-1]
        self._occupant = _occupy(self._generators)
        self.service = ServiceProcess(bundles, TWHIN_TIMEOUT_MS="2000", TWHIN_ACCESS_LOG="none").wait_until_ready()
        self._process = psutil.Process(self.service.process.pid)
        for thread in self._process.threads():
            os.sched_setaffinity(thread.id, {self._own})

    def refusals(self) -> dict[str, dict[float, float]]:
        """Of the requests that were refused at once and were looked at, one in 16: how many took so many seconds at
        most from being read to being refused (`took`), and had lain so many in the socket before (`lay`), by the
        service's clock and the system's.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.service.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        names = {"took": "twhin_shed_seconds", "lay": "twhin_shed_wait_seconds"}
        return {
            what: {
                float(bound): float(count)
                for bound, count in re.findall(rf'^{name}_bucket{{le="(.*)"}} (.*)$', text, re.MULTILINE)
            }
            for what, name in names.items()
        }

    def close(self) -> None:
        """Stop the service, and what keeps the other core busy."""
        self._occupant.kill()
        self._occupant.wait()
        self.service.stop()

    def run(
        self, kind: str, seconds: float, *, rate: float | None = None, clients: int = CONNECTIONS
    ) -> tuple[Seen, float]:
        """One phase, and the CPU seconds that the service spent on it."""
        told = self._scratch / "seen.json"
        phase = {
            "port": self.service.port, "kind": kind, "seconds": seconds, "rate": rate, "clients": clients,
            "connections": clients, "core": self._generators, "to": str(told),
        }  # fmt: skip
        before = sum(self._process.cpu_times()[:2])
        command = [sys.executable, "-m", "faults.overload", "generate", json.dumps(phase)]
        subprocess.run(command, check=True, timeout=seconds + 90)
        return Seen(**json.loads(told.read_text(encoding="utf-8"))), sum(self._process.cpu_times()[:2]) - before


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    """A percentile in milliseconds, 0 of nothing."""
    return 1000 * float(np.percentile(seconds, percent)) if seconds else 0.0


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Single requests and batches at 3 and 10 times the capacity."""
    seconds, calm_seconds = (60.0, 12.0) if long else (10.0, 4.0)
    measured = Measured(scratch)
    try:
        for kind in KINDS:
            measured.run(kind, 1.0, clients=8)
            calm, calm_cpu = measured.run(kind, calm_seconds, clients=4)
            capacity = len(calm.good) / calm_seconds
            usual = percentile_ms(measured.run(kind, 2.0, clients=1)[0].good, 99)
            for factor in (3, 10):
                before = measured.refusals()
                checks = HealthChecks(measured.service.port)
                checks.start()
                seen, cpu = measured.run(kind, seconds, rate=factor * capacity)
                checks.stop()
                soon = {
                    what: (counts[0.01] - before[what][0.01]) / max(1, counts[math.inf] - before[what][math.inf])
                    for what, counts in measured.refusals().items()
                }
                after = percentile_ms(measured.run(kind, 2.0, clients=1)[0].good, 99)
                # What an answer takes drifts by a tenth and more within a minute on a machine with other tenants.
                again, again_cpu = measured.run(kind, calm_seconds, clients=4)
                by_cpu = (len(calm.good) + len(again.good)) / (calm_cpu + again_cpu)
                calm, calm_cpu = again, again_cpu
                share, no = len(seen.good) / cpu / by_cpu, percentile_ms(seen.refused, 99)
                each = len(seen.refused) / max(1, len(seen.good))
                refusal = 1e6 * (cpu - len(seen.good) / by_cpu) / max(1, len(seen.refused))
                what = f"{kind} at {factor} × {capacity:.0f} a second"
                yield Outcome(
                    f"{what}: good answers a CPU second, of those at capacity",
                    f"{share:.0%}: {1e6 / by_cpu:.0f} µs an answer at capacity, {refusal:.0f} µs more for each of "
                    f"{each:.1f} refusals; sent in {seen.sending:.1f} s instead of {seconds:.0f}, "
                    f"{seen.held_up} found no connection free",
                    share >= 0.9,
                )
                yield Outcome(
                    f"{what}: 99% of 503 within 10 ms of being read (service's clock)",
                    f"{soon['took']:.1%}; {soon['lay']:.1%} had lain up to 10 ms in the socket before; by the client's "
                    f"clock {percentile_ms(seen.refused, 50):.1f} ms at the median, {no:.1f} at p99",
                    soon["took"] >= 0.99,
                )
                others = ", ".join(f"{count} × {status}" for status, count in seen.others.items())
                yield Outcome(
                    f"{what}: no 200 after its deadline, every request answered",
                    f"{len(seen.good)} × 200 (p99 {percentile_ms(seen.good, 99):.0f} ms), {len(seen.refused)} × 503, "
                    f"{others or 'no others'}; {seen.late} late, {seen.unanswered} unanswered",
                    seen.late == 0 and seen.unanswered == 0,
                )
                slowest = max(checks.seconds)
                yield Outcome(
                    f"{what}: health checks on new connections are answered in {CHECK_SECONDS:.0f} s",
                    f"{len(checks.seconds)} asked, the slowest {1000 * slowest:.0f} ms, {checks.failed} failed",
                    checks.failed == 0 and slowest <= CHECK_SECONDS,
                )
                yield Outcome(
                    f"{what}: p99 right after it, one client",
                    f"{after:.0f} ms; before {usual:.0f} ms",
                    after <= max(2 * usual, usual + 20),
                )
    finally:
        measured.close()


if __name__ == "__main__" and sys.argv[1:2] == ["generate"]:
    generate()
