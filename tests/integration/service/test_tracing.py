"""Traces and metrics reach a collector, joined to the caller's, and name no entity; the log is joined to them."""

import inspect
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.metrics_core import Metric

from bundle.errors import UsageError
from bundle.release import install_with
from service import otlp_metrics
from service.logs import JsonLines, configure_logs
from service.metrics import Metrics
from service.otlp_metrics import MetricsExport, histograms
from service.settings import Limits, Settings
from service.tracing import Tracing, trace_of
from tests.support.servers import ServiceProcess, running
from tests.support.service_bundle import user_ids
from twhin_client import AsyncClient, Client
from twhin_client.tracing import trace_context

pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import TracerProvider

USERS = user_ids()
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = f"00-{'c' * 32}-00f067aa0ba902b7-01"
Collector = tuple[str, dict[str, list[bytes]]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """An OTLP/HTTP collector that keeps what it gets, by path; its URL and that."""
    bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies[self.path].append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def _traced(bundles: Path, url: str, **settings: Any) -> Settings:
    patient = Limits(timeout_ms=10_000)
    return Settings(bundles=bundles, otlp_endpoint=f"{url}/v1/traces", trace_share=1.0, limits=patient, **settings)  # type: ignore[arg-type]


def _spans(bodies: dict[str, list[bytes]]) -> list[Any]:
    return [
        span
        for body in bodies["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_span_a_request_joined_to_the_callers(collector: Collector, bundles: Path) -> None:
    url, bodies = collector
    with running(_traced(bundles, url)) as service:
        headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
        assert httpx.get(f"{service}/recommend/{USERS[5]}", headers=headers).status_code == 200
        assert httpx.get(f"{service}/recommend/{USERS[5]}?k=100000", headers=headers).status_code == 422
    good, refused = _spans(bodies)
    assert (good.name, good.trace_id.hex(), good.parent_span_id.hex()) == (
        "/recommend/{user}",
        TRACE,
        "00f067aa0ba902b7",
    )
    assert (good.kind, good.trace_state) == (good.SPAN_KIND_SERVER, "vendor=1")
    assert _attributes(good)["http.response.status_code"] == 200
    assert _attributes(refused) | {"http.response.status_code": 422, "error.type": "invalid"} == _attributes(refused)
    assert refused.status.code == refused.status.STATUS_CODE_UNSET, "it is the caller's fault"
    assert USERS[5].encode() not in b"".join(bodies["/v1/traces"])


async def test_a_call_of_the_client_is_in_the_trace_that_it_is_made_in(collector: Collector, bundles: Path) -> None:
    url, bodies = collector
    tracer = TracerProvider().get_tracer("test")
    with running(_traced(bundles, url)) as service, Client(service) as client:
        with tracer.start_as_current_span("blocking") as one:
            client.recommend(USERS[5], k=3)
            assert len(list(client.recommend_many(USERS[:4], batch=2, k=3))) == 4
        async with AsyncClient(service) as awaited:
            with tracer.start_as_current_span("awaited") as two:
                await awaited.recommend(USERS[5], k=3)
        assert trace_context() == {}
        client.recommend(USERS[5], k=3)
    parents = [(span.trace_id.hex(), span.parent_span_id.hex()) for span in _spans(bodies)]
    joined = [
        (f"{span.get_span_context().trace_id:032x}", f"{span.get_span_context().span_id:016x}") for span in (one, two)
    ]
    assert parents[:4] == [joined[0]] * 3 + [joined[1]]
    assert parents[4][1] == ""
    assert parents[4][0] not in {trace_id for trace_id, _ in joined}


def test_the_state_of_a_trace_goes_along_and_a_span_that_is_none_does_not() -> None:
    state = trace.TraceState([("vendor", "1")])
    span = trace.NonRecordingSpan(trace.SpanContext(int(TRACE, 16), 0xF067AA0BA902B7, True, trace.TraceFlags(1), state))
    token = context.attach(trace.set_span_in_context(span))
    assert trace_context() == {"traceparent": PARENT, "tracestate": "vendor=1"}
    context.detach(token)
    token = context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
    assert trace_context() == {}
    context.detach(token)


def test_neither_a_collectors_address_nor_a_callers_state_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    configure_logs("info", "json")
    try:
        url = "http://127.0.0.1:9/v1/metrics?key=s3cret"
        OTLPMetricExporter(endpoint=url).export(MetricsData([]), timeout_millis=200)
        tracing = Tracing("http://127.0.0.1:9/v1/traces?key=s3cret", 1.0)
        with tracing.span("/x", "GET", "r", f"{PARENT[:-1]}0", "vendor=1, s3cret of a caller"):
            pass
        tracing.close()
    finally:
        root.setLevel(before)
    told = capsys.readouterr().err
    assert "s3cret" not in told
    lines = [json.loads(line) for line in told.splitlines()]
    assert any("ConnectionError" in line["message"] or "Failed to export" in line["message"] for line in lines)
    assert all(line["logger"].startswith("opentelemetry.exporter") for line in lines)


@pytest.mark.parametrize("tracing", [True, False])
def test_lines_of_the_log_have_the_trace_whether_or_not_spans_are_sent(
    collector: Collector, bundles: Path, caplog: pytest.LogCaptureFixture, tracing: bool
) -> None:
    url, bodies = collector
    caplog.set_level(logging.INFO, "twhin.access")
    plain = Settings(bundles=bundles, access_log="all")  # type: ignore[call-arg]
    with running(_traced(bundles, url, access_log="all") if tracing else plain) as service:
        httpx.get(f"{service}/recommend/{USERS[5]}", headers={"traceparent": PARENT})
        httpx.get(f"{service}/recommend/{USERS[5]}", headers={"traceparent": "nonsense"})
        httpx.get(f"{service}/recommend/{USERS[5]}", headers=[("traceparent", OTHER), ("traceparent", PARENT)])
    lines = [json.loads(JsonLines().format(one)) for one in caplog.records if one.name == "twhin.access"]
    assert [line["route"] for line in lines] == ["/recommend/{user}"] * 3
    assert lines[0]["trace_id"] == TRACE
    for number in (1, 2):
        assert lines[number].get("trace_id") == (_spans(bodies)[number].trace_id.hex() if tracing else None)
    assert lines[2].get("trace_id") not in (TRACE, OTHER[3:35])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (PARENT, TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-00-what comes later", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (PARENT.upper(), None),
        (f"{PARENT}\n", None),
        ("", None),
        (None, None),
    ],
)
def test_only_a_well_formed_traceparent_names_a_trace(header: str | None, found: str | None) -> None:
    assert trace_of(header) == found


def test_figures_that_cannot_be_made_once_are_sent_the_next_time(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, bodies = collector
    monkeypatch.setattr(otlp_metrics, "SECONDS", 0.05)
    collects, metrics = 0, Metrics()

    def collect() -> Iterable[Metric]:
        nonlocal collects
        collects += 1
        if collects == 1:
            raise ValueError("secret")
        return metrics.collect()

    export = MetricsExport(f"{url}/v1/metrics", collect)
    deadline = time.monotonic() + 20
    while not bodies.get("/v1/metrics"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    export.close()
    assert "the metrics cannot be sent" in caplog.text
    assert "secret" not in caplog.text


def _points(bodies: dict[str, list[bytes]]) -> dict[str, Any]:
    """The metrics that were sent last, by name."""
    last = ExportMetricsServiceRequest.FromString(bodies["/v1/metrics"][-1])
    [resource] = last.resource_metrics
    assert {one.key for one in resource.resource.attributes} >= {"service.name", "service.instance.id"}
    return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


def _counted(found: Any, /, **labels: str) -> float:
    points = found.sum.data_points or found.gauge.data_points or found.histogram.data_points
    [point] = [p for p in points if {one.key: one.value.string_value for one in p.attributes} == labels]
    return float(point.count if found.HasField("histogram") else point.as_double)


def test_metrics_reach_a_collector_of_all_workers_together(collector: Collector, bundles: Path) -> None:
    url, bodies = collector
    asked = ServiceProcess(
        bundles, "--workers", "2", TWHIN_DRAIN_SECONDS="0", TWHIN_OTLP_METRICS_ENDPOINT=f"{url}/v1/metrics"
    ).wait_until_ready()
    try:
        asked.wait_for_workers(2)
        for user in USERS[:20]:  # a new connection each
            assert httpx.get(f"{asked.url}/recommend/{user}?k=3", timeout=20).status_code == 200
    finally:
        asked.stop()
    sent = _points(bodies)
    assert sent["twhin_http_requests"].sum.is_monotonic
    assert _counted(sent["twhin_http_requests"], route="/recommend/{user}", method="GET", status_class="2xx") == 20
    assert _counted(sent["twhin_http_request_duration_seconds"], route="/recommend/{user}") == 20
    assert _counted(sent["twhin_index_info"], version="v1", metric="inner_product") == 1


def test_a_collector_gets_what_the_exposition_says(collector: Collector, bundles: Path) -> None:
    url, bodies = collector
    with running(Settings(bundles=bundles, otlp_metrics_endpoint=f"{url}/v1/metrics")) as service:  # type: ignore[arg-type, call-arg]
        for user in USERS[:5]:
            httpx.get(f"{service}/recommend/{user}?k=3&strategy=unimodal")
    sent = _points(bodies)
    assert _counted(sent["twhin_answers"], relation="follows", strategy="unimodal", source="search", by="engine") == 5
    [point] = [
        one for one in sent["twhin_http_request_duration_seconds"].histogram.data_points
        if one.attributes[0].value.string_value == "/recommend/{user}"
    ]  # fmt: skip
    assert sum(point.bucket_counts) == point.count == 5
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1


def test_cumulative_buckets_are_taken_apart() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.003, 0.003, 7.0):
        metrics.route("/r", "GET").answered(200, seconds)
    [family] = [one for one in metrics.collect() if one.name == "twhin_http_request_duration_seconds"]
    [(labels, count, total, each, bounds)] = list(histograms(family.samples))
    assert (labels, count, total) == ((("route", "/r"),), 4, pytest.approx(7.0065))
    assert each[0] == 1
    assert each[bounds.index(0.005)] == 2
    assert each[-1] == 1
    assert len(each) == len(bounds) + 1


def test_nothing_of_opentelemetry_is_imported_while_it_is_off(bundles: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from service.runtime import Runtime; from service.settings import Settings;"
        "from twhin_client.tracing import trace_context; import twhin_client;"
        f"Runtime(Settings(bundles=Path({str(bundles)!r}))); assert trace_context() == {{}};"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, env={"PYTHONPATH": f"{root}:client"}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "make"), [("TWHIN_OTLP_ENDPOINT", Tracing), ("TWHIN_OTLP_METRICS_ENDPOINT", MetricsExport)]
)
def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    setting: str, make: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, module, None)
    arguments = {"endpoint": "http://127.0.0.1:1", "share": 1.0, "collect": list}
    named = {name: arguments[name] for name in inspect.signature(make).parameters}
    with pytest.raises(UsageError, match=setting) as refused:
        make(**named)
    assert str(refused.value).endswith(install_with("otel"))
