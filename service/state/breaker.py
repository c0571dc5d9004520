"""A circuit breaker: after a failure nothing is asked again until a probe in the background has succeeded."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable


class Breaker:
    """Closed while calls succeed. The first failure opens it: calls are refused at once, at no cost, while one
    task probes after waits of 0.5 to 1.5 times `retry_seconds`, so that many workers do not return in step.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], retry_seconds: float) -> None:
        """`probe` must raise while the other side is down, and take a bounded time."""
        self._probe = probe
        self._retry_seconds = retry_seconds
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._probing is not None

    def trip(self) -> None:
        """A call failed: open, unless it is open already."""
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_well())

    async def _probe_until_well(self) -> None:
        while True:
            await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1.5))
            try:
                await self._probe()
            except Exception:  # noqa: S112 - whatever it is, the other side is not well yet
                continue
            self._probing = None
            return

    async def close(self) -> None:
        """Stop probing."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing
