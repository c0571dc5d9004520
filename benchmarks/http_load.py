"""A closed-loop HTTP client over bare sockets: cheap enough not to disturb what it measures."""

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
