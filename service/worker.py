"""One serving process: uvicorn's server, listening once the service has started, ended without dropping anyone."""

import asyncio
import gc
import heapq
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from socket import socket
from types import FrameType
from typing import NoReturn

import uvicorn

from bundle.errors import BundleError
from bundle.versions import current_path
from service.http_protocol import HttpProtocol
from service.listener import doors, most_connections, queued, refused, turn_away, waiting
from service.main import create_app
from service.runtime import Runtime

log = logging.getLogger("twhin.service")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A handshake that has begun is over after a round trip; nobody who has connected waits longer with a first request.
HANDSHAKE_SECONDS = 0.2
# A client that keeps a connection busy asks again within this time, and hears that it is to leave.
SILENT_SECONDS = 1.0
# How often a worker that has shut its doors looks whether it may open them, and for how long it says so once.
LOOK_SECONDS = 0.01
TOLD_SECONDS = 60.0
# How often it looks through all of its connections for idle ones, and which part of them it closes then at most.
ROOM_SECONDS = 0.1
ROOM_SHARE = 16
# What the end may take beyond the time that requests have: closing files, sending the last traces.
CLOSING_SECONDS = 3.0


class Worker(uvicorn.Server):
    """The server of `runtime` on `listeners`. `run` returns when a signal has ended it.

    SIGTERM: not ready at once, the door closed after `drain_seconds`, what was accepted is answered. A second SIGTERM,
    or SIGINT, closes the door at once. SIGHUP: look at CURRENT now. Raises TwhinError or OSError when it cannot start,
    and then nothing has listened. `others_stay` is asked at the end: whether other processes go on taking those in who
    come to `listeners`.
    """

    def __init__(
        self,
        runtime: Runtime,
        listeners: Sequence[socket],
        started: Callable[[], None],
        *,
        others_stay: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(runtime.settings, runtime),
                loop="uvloop",
                http=HttpProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=runtime.settings.keep_alive_seconds,
            )
        )
        self._runtime = runtime
        self._listeners = listeners
        self._say_started = started
        self._others_stay = others_stay
        self._loop: asyncio.AbstractEventLoop | None = None
        self._most = 0
        self._told = -math.inf
        self._looks_for_room_at = -math.inf
        self._opening: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's, which ends the process by the signal once more when all is done."""
        handlers = (self._on_sigterm, self._on_sigint, self._on_sighup)
        before = [signal.signal(number, handler) for number, handler in zip(SIGNALS, handlers, strict=True)]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))  # see Supervisor._start
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                # Ended by one, it hears no other: that would be in the middle of the end, and the exit status.
                signal.signal(number, signal.SIG_IGN if self.should_exit else handler)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._runtime.draining:
            self.stop_at_once()
        else:
            self._drain(self._runtime.settings.drain_seconds)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second time
        self.stop_at_once()

    def _on_sighup(self, number: int, frame: FrameType | None) -> None:
        if self.started and self._loop is not None and not self._runtime.draining:
            self._loop.call_soon_threadsafe(self._runtime.look_at_current)

    def stop_at_once(self) -> None:
        """Close the door now; may be called from any thread."""
        self._drain(0.0)
        self.should_exit = True

    def _drain(self, seconds: float) -> None:
        if not self.started or self._loop is None:
            leave()  # nobody was served yet, and loading a version cannot be interrupted
        if not self._runtime.draining:
            log.info("draining")
        self._runtime.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, setattr, self, "should_exit", True)
        last = threading.Timer(seconds + self._runtime.settings.shutdown_seconds + CLOSING_SECONDS, leave)
        last.daemon = True
        last.start()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start the service, then listen."""
        self._loop = asyncio.get_running_loop()
        await self._runtime.start()
        if self._runtime.versions.active is None:
            raise _nothing_to_serve(self._runtime)
        for listener in self._listeners:
            try:
                listener.listen(self.config.backlog)
            except OSError as error:
                host, port = listener.getsockname()[:2]
                raise refused(host, port, error) from error
        await super().startup([])
        await self._open_doors()
        self._most = most_connections()
        collect_rarely()
        # Threads that store or add up engagements give Python's lock back to the event loop after a millisecond.
        sys.setswitchinterval(0.001)
        self._say_started()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Take in whoever is at the door, close it, answer what was asked, end the service. Where others stay, the door
        is theirs, and so is who waits there.
        """
        loop = asyncio.get_running_loop()
        last = loop.time() + self._runtime.settings.shutdown_seconds
        others_stay = self._others_stay()
        if not others_stay:
            turn_away(self._listeners)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        for listener in self._listeners:
            for connection in () if others_stay else waiting(listener):
                await loop.connect_accepted_socket(self._protocol, connection)
            listener.close()
        await self._see_off(loop.time() + SILENT_SECONDS, last)
        if self.server_state.tasks:
            log.warning("%d requests are not answered: their time is over", len(self.server_state.tasks))
        for task in self.server_state.tasks:
            task.cancel()
        await self._runtime.stop()
        log.info("stopped")

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(self.config, self.server_state, app_state={})

    def _let_in(self) -> HttpProtocol:
        """The protocol of a connection that was just taken, which may be the last one for now.

        The loop would take further ones and close them where no file is left, while other workers have some.
        """
        if self.servers and len(self.server_state.connections) + 1 >= self._most:
            asyncio.get_running_loop().call_soon(self._shut_doors)
        return self._protocol()

    async def _open_doors(self) -> None:
        # uvloop closes what it is given, and the queue of waiting connections is needed to the end.
        loop, backlog = asyncio.get_running_loop(), self.config.backlog
        for door in doors(self._listeners):
            self.servers.append(await loop.create_server(self._let_in, sock=door, backlog=backlog))

    def _shut_doors(self) -> None:
        """Leave those who come to other workers, or in the queue, until some have gone."""
        loop = asyncio.get_running_loop()
        if not self.servers:  # shut already, by another one of the same turn
            return
        for server in self.servers:
            server.close()
        self.servers.clear()
        if loop.time() - self._told > TOLD_SECONDS:
            self._told = loop.time()
            log.warning("as many connections as there are files for", extra={"count": self._most})
        self._look_later()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_at_doors)

    def _look_at_doors(self) -> None:
        if self.should_exit:
            return
        if len(self.server_state.connections) < self._most:
            self._opening = asyncio.get_running_loop().create_task(self._open_again())
        else:
            self._make_room()
            self._look_later()

    async def _open_again(self) -> None:
        try:
            await self._open_doors()
        except Exception as error:
            if not isinstance(error, OSError):  # of which the reason is known: the files were needed for something else
                log.exception("the doors cannot be opened")
            if not self.servers:
                self._make_room()
                self._look_later()

    def _make_room(self) -> None:
        """Close the connections that are idle longest, for those who wait to be let in, whom no other worker has taken.

        One on which something came a moment ago is spared: its client may be sending the next request.
        """
        now, connections = asyncio.get_running_loop().time(), self.server_state.connections
        wanted = sum(map(queued, self._listeners))
        if not wanted or now < self._looks_for_room_at:
            return
        self._looks_for_room_at = now + ROOM_SECONDS
        idle = [(one.idle_seconds(), one) for one in connections if isinstance(one, HttpProtocol)]
        most = min(wanted, 1 + len(idle) // ROOM_SHARE)
        for seconds, connection in heapq.nlargest(most, idle, key=itemgetter(0)):
            if seconds >= SILENT_SECONDS:
                connection.close_if_silent()

    async def _see_off(self, silent: float, last: float) -> None:
        """Wait until every connection is closed, until `last` (in the loop's time) at most.

        Requests in work are answered with `connection: close`. Connections between two requests are closed only after
        `silent`: closing one on which the next request is already under way would reset it.
        """
        connections, loop = self.server_state.connections, asyncio.get_running_loop()
        while (connections or self.server_state.tasks) and loop.time() < last and not self.force_exit:
            if loop.time() >= silent:
                for connection in list(connections):
                    connection.shutdown()
            await asyncio.sleep(0.02)


def _nothing_to_serve(runtime: Runtime) -> BundleError:
    """Why no version could be opened: the reason for the one that is published, or for any."""
    reasons = runtime.versions.refused
    if not reasons:
        current_path(runtime.settings.bundles)  # raises: nothing is published
    return BundleError(reasons.get(runtime.versions.published or "") or next(iter(reasons.values())))


def leave() -> NoReturn:
    """End the process now, whatever its threads do. What is stored is stored: every write is a transaction."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def collect_rarely() -> None:
    """What was imported stays for good, and a request frees what it made without the collector's help.

    Left alone, the collector looks through it all every few requests: 4% of the CPU time of a merged slate.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
