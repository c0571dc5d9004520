"""Several serving processes over the same sockets: started, watched, replaced, told what the operator wants.

Between the supervisor and each worker is a pipe. Up it the worker says that it serves, or why it cannot; and its end
at the supervisor closes when the supervisor ends, however it ends, so that no worker is left behind.
"""

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import socket
from types import FrameType
from typing import Any

import orjson

from bundle.errors import TwhinError
from service.logs import configure_logs
from service.settings import Settings
from service.shared_metrics import SharedMetrics

log = logging.getLogger("twhin.service")
spawn = multiprocessing.get_context("spawn")
# A worker whose event loop has not turned for so long hangs.
HUNG_SECONDS = 30.0
# A supervisor that has not looked for so long was itself not running, nor were the workers: they get that time again.
STOOD_STILL_SECONDS = 5.0
# A worker that ends again and again is started after a pause that doubles, up to this.
LONGEST_PAUSE_SECONDS = 30.0
# What a worker's end may take beyond the time that it gives itself.
GRACE_SECONDS = 5.0


class WorkerFailed(TwhinError):
    """A worker could not start: its own error, with the code and the exit status that one has."""

    def __init__(self, message: str, code: str = "internal", exit_status: int = 1) -> None:
        super().__init__(message)
        self.code = code
        self.exit_status = exit_status


@dataclass(slots=True, eq=False)
class Child:
    """A worker as its supervisor knows it: `failure` is why it could not start."""

    number: int
    process: SpawnProcess
    pipe: Connection
    serves: bool = False
    hangs: bool = False
    failure: Exception | None = None
    since: float = field(default_factory=time.monotonic)

    def listen(self) -> None:
        """Take in what the worker has said."""
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                said = orjson.loads(self.pipe.recv_bytes())
                if "serves" in said:
                    self.serves = True
                    log.info("a worker serves", extra={"worker": self.process.pid})
                elif "system" in said:
                    self.failure = OSError(*said["system"])
                elif "error" in said:
                    self.failure = WorkerFailed(*said["error"])

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def how_it_ended(self) -> str:
        """The failure to start, or the signal or status that it ended with."""
        code = self.process.exitcode or 0
        return str(self.failure or (f"killed by signal {-code}" if code < 0 else f"status {code}"))


class Supervisor:
    """Keeps `workers` processes serving on `listeners`. `run` returns when a signal has ended them all."""

    def __init__(
        self, settings: Settings, listeners: Sequence[socket], workers: int, started: Callable[[], None]
    ) -> None:
        """`started` is called when the first worker serves. Raises OSError without memory for the metrics."""
        self._say_started = started
        self._settings = settings
        self._listeners = listeners
        self._metrics = SharedMetrics(workers)
        self._children: dict[int, Child] = {}
        self._pauses = [0.0] * workers
        self._not_before = [0.0] * workers
        self._signals: list[int] = []
        self._stop_by: float | None = None
        self._failed: Child | None = None  # at the end
        self._has_served = False
        self._looked, self._patient_until = time.monotonic(), -math.inf

    def run(self) -> None:
        """Start the first worker, then the others, and look after them until a signal ends them.

        One first: when it cannot start, nothing has listened, and its error is raised, a TwhinError or OSError.
        """
        resource_tracker.ensure_running()  # now: it would unblock what is blocked when the first worker is started
        try:
            with self._waker() as waker:
                self._start(0)
                while self._children and not self._children[0].serves:
                    self._turn(waker)
                if self._children:
                    self._has_served = True
                    self._say_started()
                while self._stop_by is None or self._children:
                    self._start_missing()
                    self._turn(waker)
                if self._failed is not None:
                    raise self._failed.failure or WorkerFailed("A worker has not ended in order. The log says why.")
        finally:
            for child in self._children.values():
                child.process.kill()
                child.process.join()

    @contextmanager
    def _waker(self) -> Iterator[int]:
        """Signals are noted, and wake whoever waits for the descriptor that this gives."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with ExitStack() as undo:
            undo.callback(os.close, reader)
            undo.callback(os.close, writer)
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                undo.callback(self._hear_no_more, number, signal.signal(number, self._note))
            yield reader

    def _hear_no_more(self, number: int, before: Any) -> None:
        """Ended by a signal, it hears no other, as that would be its exit status."""
        signal.signal(number, before if self._stop_by is None else signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _turn(self, waker: int) -> None:
        """Wait a while for something to happen, and see to it."""
        children = list(self._children.values())
        pipes = [child.pipe for child in children if not (child.pipe.closed or child.hangs)]
        if waker in wait([waker, *pipes, *(child.process.sentinel for child in children)], 0.5):
            os.read(waker, 4096)
        now = time.monotonic()
        if now - self._looked > STOOD_STILL_SECONDS:
            self._patient_until = now + HUNG_SECONDS
        self._looked = now
        while self._signals:
            self._on_signal(self._signals.pop(0))
        for child in children:
            self._look_after(child)

    def _on_signal(self, number: int) -> None:
        again = self._stop_by is not None
        if number != signal.SIGHUP:
            limit = self._settings.drain_seconds + self._settings.shutdown_seconds
            self._stop_by = time.monotonic() + limit + GRACE_SECONDS
            for region in self._metrics.regions:
                region.end()
        for child in self._children.values():
            if number == signal.SIGHUP:
                if child.serves:  # one that starts looks at CURRENT anyway
                    child.signal(number)
            elif number == signal.SIGTERM:
                child.signal(number)
            elif not again:
                child.pipe.close()  # to the worker the supervisor is gone: it stops at once
            else:
                child.process.kill()

    def _look_after(self, child: Child) -> None:
        alive = child.process.is_alive()  # or it says something after it was listened to, and ends before it is asked
        if not child.pipe.closed:
            child.listen()
        if not alive:
            self._ended(child)
        elif self._stop_by is not None and time.monotonic() > self._stop_by:
            child.process.kill()
        elif child.serves and not child.hangs and self._hangs(child):
            child.hangs = True
            log.error("a worker hangs", extra={"worker": child.process.pid})
            child.process.kill()

    def _hangs(self, child: Child) -> bool:
        """Whether its event loop stands still, and not the whole service, as when a container is paused."""
        silent = self._metrics.regions[child.number].silent_for()
        return silent > HUNG_SECONDS and time.monotonic() > self._patient_until

    def _ended(self, child: Child) -> None:
        """Another takes its place after a pause, unless all are to end, or none serves and it says why it cannot start
        (the first one: or was killed).
        """
        del self._children[child.number]
        self._metrics.regions[child.number].retire()
        child.pipe.close()
        if self._stop_by is not None:
            if (child.process.exitcode or 0) > 0:  # not killed by this process, which had waited long enough
                self._failed = child
            return
        if not (self._children or child.serves or (self._has_served and child.failure is None)):
            raise child.failure or WorkerFailed(f"A worker ended while it started: {child.how_it_ended()}.")
        log.error("a worker ended", extra={"worker": child.process.pid, "reason": child.how_it_ended()})
        lasted, pause = time.monotonic() - child.since, self._pauses[child.number]
        self._pauses[child.number] = (
            0.0 if lasted > LONGEST_PAUSE_SECONDS else min(LONGEST_PAUSE_SECONDS, 2 * pause + 0.5)
        )
        self._not_before[child.number] = time.monotonic() + self._pauses[child.number]

    def _start_missing(self) -> None:
        for number, moment in enumerate(self._not_before):
            if number not in self._children and self._stop_by is None and time.monotonic() >= moment:
                self._start(number)

    def _start(self, number: int) -> None:
        here, there = spawn.Pipe()
        arguments = (self._settings, list(self._listeners), self._metrics, number, there)
        process = spawn.Process(target=_worker_main, args=arguments, name=f"twhin-worker-{number}")
        # A terminal sends Ctrl-C and its own end to everybody. The supervisor decides, and a new process has no answer.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))
        there.close()
        self._children[number] = Child(number, process, here)


def _worker_main(
    settings: Settings, listeners: Sequence[socket], metrics: SharedMetrics, number: int, pipe: Connection
) -> None:
    """What a worker's process runs. Why it cannot start is told to the supervisor, which says it once for all."""
    configure_logs(settings.log_level, settings.log_format)
    # Imported here: the supervisor needs none of it.
    from service.runtime import Runtime
    from service.worker import Worker

    def started() -> None:
        region.beat()
        pipe.send_bytes(b'{"serves": true}')

    def follow_the_supervisor() -> None:
        with suppress(EOFError, OSError):
            pipe.recv_bytes()
        region.end()
        worker.stop_at_once()

    region = metrics.regions[number]
    region.take_over()
    try:
        worker = Worker(Runtime(settings, metrics, number), listeners, started, others_stay=lambda: not region.ending)
        threading.Thread(target=follow_the_supervisor, daemon=True).start()
        worker.run()
    except TwhinError as error:
        with suppress(OSError):  # the supervisor waits for no word any more
            pipe.send_bytes(orjson.dumps({"error": (str(error), error.code, error.exit_status)}))
        sys.exit(error.exit_status)
    except OSError as error:
        pipe.send_bytes(
            orjson.dumps({"system": (error.errno, error.strerror or str(error), error.filename)}, default=str)
        )
