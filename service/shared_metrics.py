"""Metrics of several workers in memory that they share, added up by whichever of them is asked.

The memory is an anonymous file (memfd): it has no name, so that nobody can remove, fill or protect it, and it is
allocated before it is mapped, so that a write to it cannot fail. Every worker has a region of its own, and one that
takes a dead worker's place goes on counting where that one stopped.
"""

import fcntl
import json
import math
import mmap
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing.reduction import DupFd
from threading import Lock
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

# Some 600 values of 160 bytes are in use; a version that is swapped in adds two or three.
REGION_BYTES = 1 << 20
# The words of a region's header.
USED, LIVE, BEAT, ENDING = 0, 1, 2, 3
HEADER_BYTES = 32
GAUGES: dict[str, Callable[[Iterable[float]], float]] = {"livemin": min, "livemax": max, "livesum": sum}


class Region:
    """One worker's values: entries of a number, the length of its key and the key, appended and never moved."""

    def __init__(self, memory: memoryview) -> None:
        self._bytes = memory
        self._words = memory.cast("q")
        self.cells = memory.cast("d")
        self._known: dict[str, int] = {}
        self._read = HEADER_BYTES

    def take_over(self) -> None:
        """Begin as the region's worker: counters go on, gauges were the former worker's and are forgotten."""
        for key, cell in list(self._entries().items()):
            if _parsed(key)[0] == "gauge":
                self.cells[cell] = math.nan
        self._words[LIVE], self._words[ENDING] = 1, 0
        self.beat()

    def retire(self) -> None:
        """The worker has ended: its gauges count no more, its counters still do."""
        self._words[LIVE] = 0

    @property
    def ending(self) -> bool:
        """Whether all workers are to end, not its own alone."""
        return bool(self._words[ENDING])

    def end(self) -> None:
        """Note that all workers are to end."""
        self._words[ENDING] = 1

    def beat(self) -> None:
        """Say that the worker's event loop turns."""
        self.cells[BEAT] = time.monotonic()

    def silent_for(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self.cells[BEAT]

    def cell_of(self, key: str) -> int | None:
        """The place of the value called `key`, made where there is none; None when the region is full."""
        known = self._entries().get(key)
        if known is not None:
            return known
        encoded = key.encode()
        start = max(HEADER_BYTES, self._words[USED])
        end = start + 16 + -(-len(encoded) // 8) * 8
        if end > len(self._bytes):
            return None
        self.cells[start // 8] = 0.0
        self._words[start // 8 + 1] = len(encoded)
        self._bytes[start + 16 : start + 16 + len(encoded)] = encoded
        # Last, so that a reader in another process never meets half an entry.
        self._words[USED] = end
        return start // 8

    def values(self) -> Iterator[tuple[str, float]]:
        """(key, value) of everything that counts now."""
        live = bool(self._words[LIVE])
        for key, cell in list(self._entries().items()):  # a copy: another thread may add one meanwhile
            value = self.cells[cell]
            if _parsed(key)[0] != "gauge" or (live and not math.isnan(value)):
                yield key, value

    def _entries(self) -> dict[str, int]:
        """The place of every key; what was seen before is not read again."""
        used = self._words[USED]
        while self._read < used:
            start, length = self._read, self._words[self._read // 8 + 1]
            self._known[bytes(self._bytes[start + 16 : start + 16 + length]).decode()] = start // 8
            self._read = start + 16 + -(-length // 8) * 8
        return self._known


class SharedMetrics:
    """The regions of all workers. It may be handed to a process that is being started."""

    def __init__(self, workers: int, descriptor: int | None = None) -> None:
        """Raises OSError when the system has not the memory."""
        size = workers * REGION_BYTES
        self.descriptor = os.memfd_create("twhin-metrics") if descriptor is None else descriptor
        os.posix_fallocate(self.descriptor, 0, size)
        memory = memoryview(mmap.mmap(self.descriptor, size))
        self.regions = [Region(memory[start : start + REGION_BYTES]) for start in range(0, size, REGION_BYTES)]

    def __reduce__(self) -> tuple[object, ...]:
        return _received, (len(self.regions), DupFd(self.descriptor))

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Let one worker of the service be inside. The lock is the file's: a worker that is killed lets it go."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def collect(self) -> Iterable[Metric]:
        """The metrics of all workers together, as prometheus_client's registries ask for them."""
        return merged(self.regions)


def _received(workers: int, descriptor: Any) -> SharedMetrics:
    return SharedMetrics(workers, descriptor.detach())


def value_class(region: Region) -> type:
    """What prometheus_client keeps a number in (see its `values.MutexValue`): here a cell of `region`."""
    lock = Lock()  # one for all: an event loop and a search thread share it, and hold it for a microsecond

    class SharedValue:
        _multiprocess = True

        def __init__(
            self,
            kind: str,
            metric: str,
            name: str,
            label_names: Sequence[str],
            label_values: Sequence[str],
            text: str,
            multiprocess_mode: str = "",
            **_: object,
        ) -> None:
            labels = dict(zip(label_names, label_values, strict=True))
            with lock:
                cell = region.cell_of(json.dumps([kind, multiprocess_mode, metric, name, labels, text]))
            # A full region: the value counts on where nobody sees it, which is better than a request that fails.
            self._cells: memoryview[float] = memoryview(array("d", [0.0])) if cell is None else region.cells
            self._cell = cell or 0
            if kind == "gauge":
                self._cells[self._cell] = 0.0

        def inc(self, amount: float | int) -> None:
            with lock:
                self._cells[self._cell] += amount

        def set(self, value: float | int, timestamp: float | None = None) -> None:
            with lock:
                self._cells[self._cell] = value

        def get(self) -> float:
            with lock:
                return self._cells[self._cell]

        def set_exemplar(self, exemplar: object) -> None:
            """Exemplars are not kept."""

        def get_exemplar(self) -> None:
            return None

    return SharedValue


def merged(regions: Sequence[Region]) -> Iterable[Metric]:
    """Counters and histograms of all regions added up, gauges of the live ones by their mode."""
    together: dict[str, list[float]] = {}
    for region in regions:
        for key, value in region.values():
            together.setdefault(key, []).append(value)
    metrics: dict[str, Metric] = {}
    buckets: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
    for key, values in together.items():
        kind, mode, name, sample, labels, text = _parsed(key)
        metric = metrics.setdefault(name, Metric(name, text, kind))
        if sample.endswith("_bucket") and kind == "histogram":
            series = tuple((label, value) for label, value in labels if label != "le")
            buckets.setdefault((name, series), {})[float(dict(labels)["le"])] = sum(values)
        else:
            metric.add_sample(sample, dict(labels), GAUGES.get(mode, sum)(values))
    for (name, series), counts in buckets.items():
        count = 0.0
        for bound in sorted(counts):
            count += counts[bound]
            le = floatToGoString(bound)  # type: ignore[no-untyped-call]
            metrics[name].add_sample(f"{name}_bucket", {**dict(series), "le": le}, count)
        metrics[name].add_sample(f"{name}_count", dict(series), count)
    return metrics.values()


@cache
def _parsed(key: str) -> tuple[str, str, str, str, tuple[tuple[str, str], ...], str]:
    """kind, gauge mode, metric, sample, labels, help text."""
    kind, mode, metric, sample, labels, text = json.loads(key)
    return kind, mode, metric, sample, tuple(labels.items()), text
