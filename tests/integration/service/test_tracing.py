"""Traces reach a collector, joined to the caller's, and name no entity."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.support.servers import running
from tests.support.service_bundle import user_ids

pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

USERS = user_ids()
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP collector that keeps what it gets; its URL and that."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_span_a_request_joined_to_the_callers(collector: tuple[str, list[bytes]], bundles: Path) -> None:
    url, bodies = collector
    with running(Settings(bundles=bundles, otlp_endpoint=url, trace_share=1.0)) as service:  # type: ignore[call-arg]
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        assert httpx.get(f"{service}/recommend/{USERS[5]}", headers=headers).status_code == 200
    spans = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.name for span in spans] == ["/recommend/{user}"]
    assert spans[0].trace_id.hex() == TRACE
    assert USERS[5].encode() not in b"".join(bodies)
