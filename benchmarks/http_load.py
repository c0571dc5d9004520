"""HTTP clients over bare sockets, closed and open loop: cheap enough not to disturb what they measure."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of requests took: seconds each, and the server's CPU seconds in all."""

    latencies: "np.ndarray[tuple[int], np.dtype[np.float64]]"
    seconds: float
    cpu_seconds: float

    @property
    def cpu_us(self) -> float:
        """The server's CPU time for one request, in microseconds."""
        return 1e6 * self.cpu_seconds / len(self.latencies)

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000


def request_bytes(method: str, path: str, body: bytes = b"", accept: str = "application/json") -> bytes:
    """A whole HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def closed_loop(port: int, requests: Sequence[bytes], connections: int) -> list[float]:
    """Send all `requests` over `connections` connections, each as soon as the one before is answered."""
    waiting = iter(requests)
    latencies: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            started = time.perf_counter()
            writer.write(request)
            await read_answer(reader)
            latencies.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(connections)))
    return latencies


async def open_loop(port: int, requests: Sequence[bytes], rate: float, connections: int, seed: int = 1) -> list[float]:
    """Send `requests` at random times, `rate` a second, whether or not those before are answered.

    A latency counts from when the request was due: waiting for one of the `connections` is part of it.
    """
    free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []

    async def one(request: bytes, due: float) -> None:
        reader, writer = await free.get()
        writer.write(request)
        await read_answer(reader)
        latencies.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    due, started = time.perf_counter(), []
    for request, gap in zip(requests, np.random.default_rng(seed).exponential(1 / rate, len(requests)), strict=True):
        due += float(gap)
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        started.append(asyncio.create_task(one(request, due)))
    await asyncio.gather(*started)
    while not free.empty():
        free.get_nowait()[1].close()
    return latencies


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer. Raises RuntimeError for an error of the server."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    body = await reader.readexactly(length)
    if status >= 400:
        raise RuntimeError(f"{status}: {body[:200]!r}")
    return status, body
