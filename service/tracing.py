"""Traces, off unless a collector is named: one span a request, joined to the caller's by `traceparent`.

The packages are the [otel] extra, imported here and in `otlp_metrics` alone, and only then: on a hot route they cost
more than it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bundle.errors import UsageError
from bundle.release import install_with
from service.problems import problem_of
from service.settings import Settings

# W3C Trace Context, of any version: all zeros are no trace, and a version ff is none.
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)


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
            from opentelemetry.trace import SpanKind, StatusCode
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise UsageError(
                f"TWHIN_OTLP_ENDPOINT is set and its packages are missing. Install them: {install_with('otel')}"
            ) from error
        resource = Resource.create({"service.name": "twhin"})
        self._provider: Any = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(share))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("twhin")
        self._propagator: Any = TraceContextTextMapPropagator()
        self._kind, self._error = SpanKind.SERVER, StatusCode.ERROR

    @contextmanager
    def span(
        self, route: str, method: str, request_id: str, traceparent: str | None, tracestate: str | None
    ) -> Iterator[Any]:
        """A span around one answer, whose status the caller sets; it carries the route and the request's id, never an
        entity's. Refusals have their status and code, and what is our fault is an error.
        """
        parent = self._propagator.extract({"traceparent": traceparent or "", "tracestate": tracestate or ""})
        attributes = {"http.route": route, "http.request.method": method, "twhin.request_id": request_id}
        with self._tracer.start_as_current_span(
            route,
            context=parent,
            kind=self._kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                problem = problem_of(error)
                span.set_attribute("http.response.status_code", problem.status)
                span.set_attribute("error.type", problem.code)
                if problem.status >= 500:
                    span.set_status(self._error)
                raise
            except BaseException:  # the request's time was over, or its client has gone
                span.set_attribute("error.type", "cancelled")
                span.set_status(self._error)
                raise

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def trace_of(traceparent: str | None) -> str | None:
    """The trace that a caller's request belongs to, for the log; None where it names none."""
    found = None if traceparent is None else TRACEPARENT.fullmatch(traceparent)
    return None if found is None else found[1]


def open_tracing(settings: Settings) -> Tracing | None:
    """Traces as the settings ask for: usually none."""
    endpoint = settings.otlp_endpoint
    return None if endpoint is None else Tracing(endpoint.get_secret_value(), settings.trace_share)
