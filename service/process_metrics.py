"""What a worker's process takes: CPU time, memory, open files, under the names that Prometheus' clients have for them.

The library's own collector sees the process that is asked alone: of several workers each writes its own, by number.
"""

import contextlib
import resource
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

PAGE = resource.getpagesize()


class ProcessMetrics:
    """The figures of this process, as worker number `worker`; `measure` writes them anew."""

    def __init__(self, registry: CollectorRegistry, worker: int) -> None:
        self._cpu = Counter(
            "process_cpu_seconds", "CPU time of the process, of user and system", ["worker"], registry=registry
        ).labels(worker=worker)
        self._memory = self._gauge("process_resident_memory_bytes", "Memory in use, shared pages too", registry, worker)
        self._files = self._gauge("process_open_fds", "Open files and connections", registry, worker)
        self._files_max = self._gauge("process_max_fds", "How many may be open", registry, worker)
        self._gauge("process_start_time_seconds", "When the process began, since 1970", registry, worker).set(
            time.time()
        )
        self._counted = 0.0
        self.measure()

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry, worker: int) -> Gauge:
        gauge = Gauge(name, text, ["worker"], registry=registry, multiprocess_mode="livesum")
        return gauge.labels(worker=worker)

    def measure(self) -> None:
        """Look: some 50 µs."""
        cpu = time.process_time()
        self._cpu.inc(max(0.0, cpu - self._counted))
        self._counted = cpu
        self._files_max.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        with contextlib.suppress(OSError):  # no file is left to open: the figures of before stand
            self._memory.set(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
            self._files.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))
