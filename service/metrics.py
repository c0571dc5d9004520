"""Prometheus metrics: names and buckets in one place, children bound once, right under several workers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values

from service.shared_metrics import SharedMetrics, value_class

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 1.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# How many series one worker makes of names that are others' to choose.
ANSWER_SERIES_MAX, ARM_SERIES_MAX = 256, 128
OTHER = "other"


class RouteMetrics:
    """The children of one route, bound once so that a request pays for no look-up by label."""

    def __init__(self, requests: Counter, duration: Histogram, route: str, method: str) -> None:
        self._by_class = {
            number: requests.labels(route=route, method=method, status_class=f"{number}xx") for number in (2, 3, 4, 5)
        }
        self._duration = duration.labels(route=route)

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self._by_class[min(5, max(2, status // 100))].inc()
        self._duration.observe(seconds)


class RedisMetrics:
    """What the shared store costs, and how it fails."""

    def __init__(self, registry: CollectorRegistry) -> None:
        duration = Histogram(
            "twhin_redis_op_duration_seconds", "Redis operations", ["op"], registry=registry, buckets=SECONDS
        )
        self._durations = {operation: duration.labels(op=operation) for operation in ("read", "write", "upkeep")}
        self._errors = Counter("twhin_redis_errors", "Failed Redis operations", ["kind"], registry=registry)
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
        self._duration = Histogram(
            "twhin_index_load_duration_seconds",
            "Time to load a version",
            registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self._last: tuple[str, str] | None = None

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


class AnswerMetrics:
    """What candidates were answered with: by relation, strategy and source, for users of each arm of an experiment.

    `source` is the rung that an answer came down to (`fallback`), else `search`, or `stored` where it was put together
    without one; `by` is the `engine`, or `python` where the engine does not cover it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "twhin_answers",
            "Users answered with candidates",
            ["relation", "strategy", "source", "by"],
            registry=registry,
        )
        self._children: dict[tuple[str, str, str, str], Counter] = {}

    def count(self, relation: str, strategy: str, source: str, by: str) -> None:
        """Count one user's candidates."""
        labels = relation, strategy, source, by
        child = self._children.get(labels)
        if child is None:
            # Names come from versions, and a process may see many: what is beyond the room counts together.
            kept = labels if len(self._children) < ANSWER_SERIES_MAX else (OTHER,) * 4
            child = self._answers.labels(*kept)
            if kept == labels:
                self._children[labels] = child
        child.inc()


class ExperimentMetrics:
    """Answers and feedback by arm; whether the file of experiments can be read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "twhin_experiment_answers", "Users answered in an arm", ["experiment", "arm"], registry=registry
        )
        self._feedback = Counter(
            "twhin_feedback", "Impressions and clicks that were new", ["experiment", "arm", "kind"], registry=registry
        )
        self._refused = Gauge(
            "twhin_experiments_refused",
            "1 while the file of experiments cannot be read and an earlier one is in force",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._refused.set(0)
        self._arms: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}

    def begin(self, experiment: str, arms: Sequence[str]) -> None:
        """Have the series of these arms, from 0 on."""
        for arm in arms:
            self._of(experiment, arm)

    def answered(self, experiment: str, arm: str) -> None:
        """Count an answer to a user in the arm."""
        self._of(experiment, arm)[0].inc()

    def fed_back(self, experiment: str, arm: str, impressions: int, clicks: int) -> None:
        """Count what was new of a user's feedback."""
        _, shown, clicked = self._of(experiment, arm)
        shown.inc(impressions)
        clicked.inc(clicks)

    def refused(self, is_refused: bool) -> None:
        """Say whether the file of experiments cannot be read."""
        self._refused.set(is_refused)

    def _of(self, experiment: str, arm: str) -> tuple[Counter, Counter, Counter]:
        known = self._arms.get((experiment, arm))
        if known is None:
            # Experiments come and go while a process lives; those of before it was full stay apart.
            kept = (experiment, arm) if len(self._arms) < ARM_SERIES_MAX else (OTHER, OTHER)
            shown, clicked = (self._feedback.labels(*kept, kind) for kind in ("impression", "click"))
            known = self._answers.labels(*kept), shown, clicked
            if kept == (experiment, arm):
                self._arms[kept] = known
        return known


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
        self._fallback = Counter("twhin_fallback", "Answers below the strategy's own", ["kind"], registry=registry)
        self.short = Counter("twhin_ann_short_results", "Answers with fewer than k", registry=registry)
        self.searched = Histogram(
            "twhin_stage_duration_seconds", "Time in one stage", ["stage"], registry=registry, buckets=SECONDS
        ).labels(stage="ann")
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
        self.answers = AnswerMetrics(registry)
        self.experiments = ExperimentMetrics(registry)
        self.redis = RedisMetrics(registry)
        self.versions = VersionMetrics(registry)

    def route(self, route: str, method: str) -> RouteMetrics:
        """The metrics of one route."""
        return RouteMetrics(self._requests, self._duration, route, method)

    def shed(self, reason: str) -> None:
        """Count a request that was refused to protect the others."""
        # Bound once: under overload it is called for most requests.
        child = self._shed_by_reason.get(reason)
        if child is None:
            child = self._shed_by_reason[reason] = self._shed.labels(reason=reason)
        child.inc()

    def fallback(self, kind: str) -> None:
        """Count an answer from a lower rung."""
        self._fallback.labels(kind=kind).inc()

    def beat(self) -> None:
        """Say that the event loop turns."""
        if self._shared is not None:
            self._shared.regions[self._worker].beat()

    def exposition(self) -> bytes:
        """Everything in the text format; of all workers, where there are several."""
        return generate_latest(self._registry if self._shared is None else self._shared)
