"""Clients that ask a service over and over, and what became of every request: for tests that stop or disturb it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.http_load import request_bytes


@dataclass
class Outcomes:
    """What became of the requests: answers by status, connections that were refused, reset or ended too early."""

    statuses: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    stale: int = 0  # the service had closed a connection between two requests, and the client saw it before it asked
    resets: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many got an answer."""
        return self.statuses.total()

    def line(self) -> str:
        """For a table."""
        statuses = ", ".join(f"{count} × {status}" for status, count in sorted(self.statuses.items()))
        return f"{statuses}; {self.refused} refused, {len(self.resets)} reset"


class Clients:
    """`n` clients, every second one with a new connection for each request; they end when the service refuses them."""

    def __init__(self, port: int, path: str, n: int, host: str = "127.0.0.1", pause: float = 0.0) -> None:
        self.outcomes = Outcomes()
        self._host, self._port = host, port
        self._path = path
        self._pause = pause
        self._stopped = False
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(n)]

    async def stop(self) -> Outcomes:
        """Let every client finish what it has asked."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
        return self.outcomes

    async def refused(self, seconds: float) -> Outcomes:
        """Wait until nobody can connect any more, `seconds` at most."""
        await asyncio.wait(self._tasks, timeout=seconds)
        return await self.stop()

    async def _ask(self, number: int) -> None:
        keeps = number % 2 == 0
        request = request_bytes("GET", self._path)
        if not keeps:
            request = request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopped:
            if connection is not None and connection[0].at_eof():
                self.outcomes.stale += 1
                connection[1].close()
                connection = None
            try:
                connection = connection or await asyncio.open_connection(self._host, self._port)
            except ConnectionRefusedError:
                self.outcomes.refused += 1
                return
            except OSError as error:
                self.outcomes.resets.append(f"connecting: {error!r}")
                continue
            try:
                connection[1].write(request)
                status, closes = await _answer(connection[0])
                self.outcomes.statuses[status] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                self.outcomes.resets.append(f"{'kept' if keeps else 'new'} connection: {error!r}")
                closes = True
            if closes:
                connection[1].close()
                connection = None
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status of an answer, and whether the service closes the connection after it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12]), b"connection: close" in head
