"""Traces, off unless a collector is named: one span a request, joined to the caller's by `traceparent`.

The packages are the [otel] extra and are imported only here, only then: on a hot route they cost more than it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bundle.errors import UsageError
from bundle.release import install_with
from service.settings import Settings


class Tracing:
    """Makes spans and sends them in the background."""

    def __init__(self, endpoint: str, share: float) -> None:
        """Raises UsageError when the [otel] extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise UsageError(
                f"TWHIN_OTLP_ENDPOINT is set and the packages for it are missing. Install them: {install_with('otel')}"
            ) from error
        resource = Resource.create({"service.name": "twhin"})
        self._provider: Any = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(share))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("twhin")
        self._propagator: Any = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, route: str, method: str, request_id: str, traceparent: str | None) -> Iterator[None]:
        """A span around one answer; it carries the route and the request's id, never an entity's."""
        parent = self._propagator.extract({"traceparent": traceparent or ""})
        attributes = {"http.route": route, "http.request.method": method, "twhin.request_id": request_id}
        with self._tracer.start_as_current_span(route, context=parent, attributes=attributes):
            yield

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def open_tracing(settings: Settings) -> Tracing | None:
    """Traces as the settings ask for: usually none."""
    endpoint = settings.otlp_endpoint
    return None if endpoint is None else Tracing(endpoint.get_secret_value(), settings.trace_share)
