"""An open-loop generator: requests leave on time whether or not the ones before are answered.

A closed loop waits for a slow server and so never sees how long others would have waited (coordinated
omission). Here every latency counts from the moment the request was due.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator

from hdrh.histogram import HdrHistogram

from benchmarks.http_load import read_answer
from loadtests.traffic import Shot

LONGEST_US = 60_000_000
Seen = Callable[[Shot, bytes], None]


class Report:
    """Latencies by kind of request in microseconds, and what went wrong."""

    def __init__(self) -> None:
        self.latency: dict[str, HdrHistogram] = {}
        self.errors: Counter[str] = Counter()
        self.answered = 0

    def took(self, name: str, seconds: float) -> None:
        """Note one answer."""
        self.answered += 1
        histogram = self.latency.setdefault(name, HdrHistogram(1, LONGEST_US, 3))
        histogram.record_value(max(1, min(LONGEST_US, int(seconds * 1e6))))

    def percentile_ms(self, name: str, percent: float) -> float:
        """A percentile of one kind's latency, in milliseconds."""
        return float(self.latency[name].get_value_at_percentile(percent)) / 1000

    def lines(self) -> list[str]:
        """A table, one line for each kind."""
        head = ["| request | answers | p50 ms | p90 | p99 | p99.9 | max |", "|---|---|---|---|---|---|---|"]
        return head + [self._line(name) for name in sorted(self.latency)]

    def _line(self, name: str) -> str:
        figures = [f"{self.percentile_ms(name, percent):.2f}" for percent in (50, 90, 99, 99.9, 100)]
        return f"| {name} | {self.latency[name].get_total_count()} | {' | '.join(figures)} |"


class Connections:
    """Open connections to the service: one for every request in flight, kept for the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, request: bytes) -> bytes:
        """The body of the answer. Raises RuntimeError for an error status, OSError for a lost connection."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            _, body = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return body

    async def close(self) -> None:
        """Close what is open."""
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def open_loop(
    port: int,
    shots: Iterator[Shot],
    *,
    rate: float,
    seconds: float,
    seen: Seen = lambda *_: None,
    enough: Callable[[], bool] = lambda: True,
    patience: float = 0.0,
) -> Report:
    """Send `rate` requests a second for `seconds`, and for `patience` seconds more while it is not `enough`.

    `seen` gets every answer.
    """
    report, connections = Report(), Connections(port)
    started = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(rate * (seconds + patience))):
        if number >= rate * seconds and enough():
            break
        due = started + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_one(connections, next(shots), due, report, seen))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    await connections.close()
    return report


async def _one(connections: Connections, shot: Shot, due: float, report: Report, seen: Seen) -> None:
    try:
        body = await connections.send(shot.request)
    except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
        report.errors[f"{shot.name}: {str(error)[:80]}"] += 1
        return
    report.took(shot.name, time.perf_counter() - due)
    seen(shot, body)
