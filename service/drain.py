"""Leaving without dropping anyone: not ready at once, the door closed a little later, the rest finished."""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from service.runtime import Runtime

log = logging.getLogger("twhin.service")


@contextmanager
def draining_on_sigterm(runtime: Runtime) -> Iterator[None]:
    """On SIGTERM say "not ready" first and pass the signal on to the server after `drain_seconds`.

    A load balancer has that time to look elsewhere. A second signal is passed on at once.
    """
    server = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(server):
        yield
        return
    loop = asyncio.get_running_loop()

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if runtime.draining:
            server(number, frame)
            return
        runtime.draining = True
        log.info("draining")
        loop.call_soon_threadsafe(loop.call_later, runtime.settings.drain_seconds, server, number, None)

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, server)
