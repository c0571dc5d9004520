"""What /metrics has, sent to an OpenTelemetry collector: off unless one is named.

The packages are the [otel] extra and are imported only here, only then. Prometheus' families are sent as they are, of
all workers together, so that both ways lead to the same figures.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from bundle.errors import UsageError
from bundle.release import install_with
from service.settings import Settings

log = logging.getLogger("twhin.service")
SECONDS = 30.0
CLOSING_MS = 2000

Labels = tuple[tuple[str, str], ...]


class MetricsExport:
    """Sends what `collect` gives to `endpoint`, every half a minute and at the end, on a thread of its own."""

    def __init__(self, endpoint: str, collect: Callable[[], Iterable[Metric]]) -> None:
        """Raises UsageError when the [otel] extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import export
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise UsageError(
                f"TWHIN_OTLP_METRICS_ENDPOINT is set and its packages are missing. Install them: {install_with('otel')}"
            ) from error
        self._sdk: Any = export
        self._exporter: Any = OTLPMetricExporter(endpoint=endpoint)
        self._resource = Resource.create({"service.name": "twhin", "service.instance.id": str(uuid.uuid4())})
        self._scope = InstrumentationScope("twhin")
        self._collect = collect
        self._began = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twhin-otlp", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            self._send()
        self._send(timeout_millis=CLOSING_MS)
        self._exporter.shutdown(timeout_millis=CLOSING_MS)

    def _send(self, **within: int) -> None:
        try:
            self._exporter.export(self._data(), **within)
        except Exception as error:  # whose words may name the collector's address, and with it a key
            log.error("the metrics cannot be sent", extra={"reason": type(error).__name__})

    def close(self) -> None:
        """Send the last figures; waits two seconds at most for a collector that does not answer."""
        self._ended.set()
        self._thread.join(CLOSING_MS / 1000)

    def _data(self) -> Any:
        sdk, now = self._sdk, time.time_ns()
        metrics = [
            sdk.Metric(family.name, family.documentation, "", self._points(family, now))
            for family in self._collect()
            if family.samples
        ]
        scope = sdk.ScopeMetrics(self._scope, metrics, "")
        return sdk.MetricsData([sdk.ResourceMetrics(self._resource, [scope], "")])

    def _points(self, family: Metric, now: int) -> Any:
        sdk = self._sdk
        cumulative = sdk.AggregationTemporality.CUMULATIVE
        if family.type == "histogram":
            points = [
                sdk.HistogramDataPoint(dict(labels), self._began, now, *rest, None, None)
                for labels, *rest in histograms(family.samples)
            ]
            return sdk.Histogram(points, cumulative)
        numbers = [
            sdk.NumberDataPoint(dict(sample.labels), self._began, now, sample.value)
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        return sdk.Sum(numbers, cumulative, True) if family.type == "counter" else sdk.Gauge(numbers)


def histograms(samples: Iterable[Sample]) -> Iterator[tuple[Labels, int, float, list[int], list[float]]]:
    """Labels, count, sum, the count of each bucket and the bounds between them, from cumulative buckets."""
    buckets: dict[Labels, dict[float, float]] = {}
    sums: dict[Labels, float] = {}
    for sample in samples:
        labels = _without_bound(sample.labels)
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, cumulative in buckets.items():
        bounds = sorted(cumulative)
        counts = [int(cumulative[bound]) for bound in bounds]
        each = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
        yield labels, counts[-1], sums.get(labels, 0.0), each, bounds[:-1]  # the last is infinity


def _without_bound(labels: Mapping[str, str]) -> Labels:
    return tuple((name, value) for name, value in labels.items() if name != "le")


def open_metrics_export(settings: Settings, collect: Callable[[], Iterable[Metric]]) -> MetricsExport | None:
    """Metrics to a collector as the settings ask for: usually none."""
    endpoint = settings.otlp_metrics_endpoint
    return None if endpoint is None else MetricsExport(endpoint.get_secret_value(), collect)
