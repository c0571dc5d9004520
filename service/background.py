"""What works in the background, and the parts of the service at its end: a fault of one is told, and keeps no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("twhin.service")


def begin(name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Begin what works in the background; an end by a fault is logged."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_log_end)
    return task


def _log_end(task: "asyncio.Task[None]") -> None:
    fault = None if task.cancelled() else task.exception()
    if fault is not None:
        log.error("%s has ended", task.get_name(), exc_info=fault)


async def closed(name: str, close: Callable[[], Awaitable[None] | None]) -> bool:
    """Close a part. Whether it could be: why not is logged, and the parts after it are closed all the same."""
    try:
        waits_for = close()
        if waits_for is not None:
            await waits_for
    except Exception as error:
        log.error("%s cannot be closed", name, extra={"reason": f"{type(error).__name__}: {error}"})
        return False
    return True
