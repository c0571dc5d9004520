"""Prometheus metrics: names and buckets in one place, children bound once, right under several workers."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import Metric

from recommend.types import Fallback
from service.answer_metrics import AnswerMetrics, ExperimentMetrics
from service.bound import Times, adding_to
from service.process_metrics import ProcessMetrics
from service.shared_metrics import SharedMetrics, value_class

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 1.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The reasons and kinds that are counted, each from 0 on.
SHED = ("bodies", "concurrency", "deadline", "search_queue", "state_connections", "state_queue")
FALLBACKS = get_args(Fallback)
REDIS_ERRORS = ("connection", "garbage", "mixed_up", "refused", "timeout")


class RouteMetrics:
    """The children of one route, bound once so that a request pays for no look-up by label."""

    def __init__(self, requests: Counter, duration: Histogram, route: str, method: str) -> None:
        self.label = route
        by_class = [requests.labels(route=route, method=method, status_class=f"{number}xx") for number in (2, 3, 4, 5)]
        self._by_class = [adding_to(one) for one in by_class]
        self._times = Times(duration.labels(route=route), SECONDS)

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self._by_class[min(5, max(2, status // 100)) - 2](1)
        self._times.observe(seconds)

    def refused(self, number: int) -> None:
        """Count answers of 503 that took no time: among the times of answers they would hide how long those took."""
        self._by_class[3](number)


class RedisMetrics:
    """What the shared store costs, and how it fails."""

    def __init__(self, registry: CollectorRegistry) -> None:
        duration = Histogram(
            "twhin_redis_op_duration_seconds", "Redis operations", ["op"], registry=registry, buckets=SECONDS
        )
        self._durations = {operation: duration.labels(op=operation) for operation in ("read", "write", "upkeep")}
        self._errors = Counter("twhin_redis_errors", "Failed Redis operations", ["kind"], registry=registry)
        for kind in REDIS_ERRORS:
            self._errors.labels(kind=kind)
        self._breaker = Gauge(
            "twhin_redis_breaker_state", "1 while Redis is not asked", registry=registry, multiprocess_mode="livemax"
        )
        self._breaker.set(0)
        self._open: set[str] = set()

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Measure one operation."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._durations[operation].observe(time.perf_counter() - started)

    def failed(self, kind: str) -> None:
        """Count one failure."""
        self._errors.labels(kind=kind).inc()

    def opened(self, is_open: bool, node: str = "") -> None:
        """Say whether the breaker is open, of this node where there are several."""
        (self._open.add if is_open else self._open.discard)(node)
        self._breaker.set(bool(self._open))


class VersionMetrics:
    """Which version serves, since when, and how many were refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "twhin_index_info",
            "1 for the serving version",
            ["version", "metric"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._serving = self._gauge(
            "twhin_index_serving_timestamp_seconds", "When the serving version was made", registry
        )
        self._swapped = self._gauge(
            "twhin_index_swap_timestamp_seconds", "When the serving version took over", registry
        )
        self._behind = Gauge(
            "twhin_index_behind",
            "1 while the published version is refused and another serves",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._recall = self._gauge("twhin_canary_recall", "Lowest recall of the last self-test", registry)
        self._entities = Gauge(
            "twhin_entities",
            "Entities of the serving version",
            ["space", "type"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._loads = Counter("twhin_index_load", "Versions loaded or refused", ["outcome"], registry=registry)
        for outcome in ("loaded", "refused"):
            self._loads.labels(outcome=outcome)
        self._duration = Histogram(
            "twhin_index_load_duration_seconds",
            "Time to load a version",
            registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self._last: tuple[str, str] | None = None
        self._counted: set[tuple[str, str]] = set()

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        return Gauge(name, text, registry=registry, multiprocess_mode="livemin")

    def serving(
        self,
        version: str,
        metric: str,
        *,
        created: float,
        now: float,
        recall: float,
        load_seconds: float,
        entities: Mapping[tuple[str, str], int],
    ) -> None:
        """`version` took over at `now`; times are seconds since 1970, `entities` counts by (space, type)."""
        labels = (version, metric)
        if self._last is not None and self._last != labels:
            self._info.labels(*self._last).set(0)
        self._info.labels(*labels).set(1)
        self._last = labels
        self._serving.set(created)
        self._swapped.set(now)
        self._recall.set(recall)
        for gone in self._counted - entities.keys():
            self._entities.labels(*gone).set(math.nan)  # which is what is forgotten where workers share their metrics
            self._entities.remove(*gone)
        self._counted = set(entities)
        for (space, entity_type), count in entities.items():
            self._entities.labels(space=space, type=entity_type).set(count)
        self._loads.labels(outcome="loaded").inc()
        self._duration.observe(load_seconds)

    def behind(self, is_behind: bool) -> None:
        """Say whether another version serves than the published one, which was refused."""
        self._behind.set(is_behind)

    def refused(self) -> None:
        """A version was refused."""
        self._loads.labels(outcome="refused").inc()


class Metrics:
    """All metrics of one application, or of one worker of several: of number `worker` of those that `shared` is for."""

    def __init__(self, shared: SharedMetrics | None = None, worker: int = 0) -> None:
        # The library has one such class a process, and would choose its own with files by an environment variable.
        values.ValueClass = values.MutexValue if shared is None else value_class(shared.regions[worker])
        self._shared = shared
        self._worker = worker
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "twhin_http_requests", "Answers", ["route", "method", "status_class"], registry=registry
        )
        self._duration = Histogram(
            "twhin_http_request_duration_seconds", "Time to answer", ["route"], registry=registry, buckets=SECONDS
        )
        self.inflight = Gauge(
            "twhin_http_inflight_requests", "Requests in work", registry=registry, multiprocess_mode="livesum"
        )
        self._shed_by_reason: dict[str, Counter] = {}
        self._shed = Counter("twhin_shed", "Requests refused under load", ["reason"], registry=registry)
        self.refused_after = Histogram(
            "twhin_shed_wait_seconds",
            "Time that requests had waited when they were refused at once, of one in 16",
            registry=registry,
            buckets=SECONDS,
        )
        self.refused_in = Histogram(
            "twhin_shed_seconds",
            "Time from reading a request to refusing it at once, of one in 16",
            registry=registry,
            buckets=SECONDS,
        )
        self.held_back = Counter(
            "twhin_held_back", "Times that a refused connection was not read for a while", registry=registry
        )
        self.held_back_now = Gauge(
            "twhin_held_back_connections",
            "Refused connections that are not read just now",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._fallback = Counter("twhin_fallback", "Answers below the strategy's own", ["kind"], registry=registry)
        self.short = Counter("twhin_ann_short_results", "Answers with fewer than k", registry=registry)
        stages = Histogram(
            "twhin_stage_duration_seconds", "Time in one stage", ["stage"], registry=registry, buckets=SECONDS
        )
        self.searched = Times(stages.labels(stage="ann"), SECONDS)
        self.together = Histogram(
            "twhin_search_batch", "Requests searched in one call", registry=registry, buckets=(1, 2, 4, 8, 16, 32)
        )
        self.quality = Gauge(
            "twhin_quality_factor", "Share of the search depth in use", registry=registry, multiprocess_mode="livemin"
        )
        self.lag = Gauge(
            "twhin_event_loop_lag_seconds", "How late the event loop is", registry=registry, multiprocess_mode="livemax"
        )
        self.quality.set(1)
        # What has not happened is 0 and not missing: a rate of it is a line, and its first increase is seen.
        for reason in SHED:
            self._shed_by_reason[reason] = self._shed.labels(reason=reason)
        for kind in FALLBACKS:
            self._fallback.labels(kind=kind)
        self.store_degraded = Gauge(
            "twhin_store_degraded",
            "1 while the store of live engagements fails",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.store_degraded.set(0)
        self.process = ProcessMetrics(registry, worker)
        self.answers = AnswerMetrics(registry)
        self.experiments = ExperimentMetrics(registry)
        self.redis = RedisMetrics(registry)
        self.versions = VersionMetrics(registry)

    def route(self, route: str, method: str) -> RouteMetrics:
        """The metrics of one route."""
        return RouteMetrics(self._requests, self._duration, route, method)

    def shed(self, reason: str, number: int = 1) -> None:
        """Count requests that were refused to protect the others."""
        # Bound once: under overload it is called for most requests.
        child = self._shed_by_reason.get(reason)
        if child is None:
            child = self._shed_by_reason[reason] = self._shed.labels(reason=reason)
        child.inc(number)

    def fallback(self, kind: str) -> None:
        """Count an answer from a lower rung."""
        self._fallback.labels(kind=kind).inc()

    def beat(self) -> None:
        """Say that the event loop turns."""
        if self._shared is not None:
            self._shared.regions[self._worker].beat()

    def exposition(self) -> bytes:
        """Everything in the text format; of all workers, where there are several."""
        return generate_latest(self._of_all)

    def collect(self) -> Iterable[Metric]:
        """The same as families."""
        return self._of_all.collect()

    @property
    def _of_all(self) -> CollectorRegistry | SharedMetrics:
        return self._registry if self._shared is None else self._shared
