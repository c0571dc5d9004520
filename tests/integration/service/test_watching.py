"""What watches the service, with the real tools: alert rules under promtool, every panel of the dashboards in a real
Prometheus, the figures of every worker's process."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from service.settings import Settings
from tests.support.servers import RedisServer, ServiceProcess, free_port, running

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = [json.loads(path.read_text()) for path in sorted((ROOT / "deploy" / "grafana").glob("*.json"))]
Panel = dict[str, Any]
PANELS: list[Panel] = [panel for board in DASHBOARDS for panel in board["panels"] if panel["type"] != "row"]
# Like Grafana's variables with everything chosen.
VARIABLES = {"$job": "twhin", "$__rate_interval": "15s", "$instance": ".*", "$route": ".*", "$relation": ".*"}
VARIABLES["$experiment"] = ".*"
SERIES = re.compile(r'^(\w+)\{worker="(\d)"\} (\S+)$', re.M)


def tool(name: str) -> str:
    """A program of Debian's package prometheus."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def test_rules_are_well_formed_and_fire_when_they_should_and_only_then() -> None:
    promtool = tool("promtool")
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_to_keep_still() -> None:
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    tested: dict[str, set[bool]] = {}
    for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]:
        for case in test.get("alert_rule_test", []):
            tested.setdefault(case["alertname"], set()).add(bool(case.get("exp_alerts")))
    assert tested == {rule["alert"]: {True, False} for rule in group["rules"]}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_has_rows_and_variables_and_one_axis_a_panel(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert panels[0]["type"] == "row"
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    variables = {one["name"] for one in board["templating"]["list"]}
    assert {"datasource", "job", "instance"} <= variables
    used = {name for name in re.findall(r"\$\{?(\w+)", json.dumps(panels)) if not name.startswith("__")}
    assert used == variables
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["overrides"] == [], "a second axis"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    for upper, lower in pairwise(panels):
        assert (upper["gridPos"]["y"], upper["gridPos"]["x"]) < (lower["gridPos"]["y"], lower["gridPos"]["x"])


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[httpx.Client]:
    """A real Prometheus that has looked at `target` some times."""
    program, port = tool("prometheus"), free_port()
    for name in ("alerts.yml", "recording.yml"):
        (directory / name).write_text((PROMETHEUS / name).read_text().replace("interval: 30s", "interval: 1s"))
    scrape = [{"job_name": "twhin", "static_configs": [{"targets": [target]}]}]
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": scrape}
    config["rule_files"] = ["alerts.yml", "recording.yml"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = [f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, f"--config.file={directory / 'prometheus.yml'}", *options], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            deadline = time.monotonic() + 60
            while not _seen(client, "count_over_time(twhin_http_inflight_requests[1m]) >= 4"):
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.2)
            yield client
    finally:
        server.terminate()
        server.wait(30)


def _seen(client: httpx.Client, query: str) -> list[Any]:
    """The series of a query; none while nobody answers."""
    try:
        answer = client.get("/api/v1/query", params={"query": query}).json()
    except (httpx.TransportError, ValueError):
        return []
    assert answer["status"] == "success", (query, answer)
    found: list[Any] = answer["data"]["result"]
    return found


def test_every_panel_of_a_service_that_nobody_has_asked_yet_has_data(
    bundles: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = Settings(bundles=bundles, redis_url=redis_server.url, warm_up_queries=4, self_test_queries=4)  # type: ignore[call-arg]
    with running(settings) as url, prometheus(tmp_path, url.removeprefix("http://")) as client:
        empty = []
        for panel in PANELS:
            for target in panel["targets"]:
                query = target["expr"]
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                assert "$" not in query
                values = [float(series["value"][1]) for series in _seen(client, query)]
                if not values or any(value != value for value in values):  # NaN
                    empty.append(panel)
        # What has no figure before the first request says so in words.
        assert [panel["title"] for panel in empty if "noValue" not in panel["fieldConfig"]["defaults"]] == []
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) > 15
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


def test_the_processes_of_all_workers_are_measured(bundles: Path) -> None:
    service = ServiceProcess(bundles, "--workers", "2", TWHIN_DRAIN_SECONDS="0").wait_until_ready()
    try:
        service.wait_for_workers(2)
        first = _of_workers(service)
        workers = [psutil.Process(pid) for pid in service.worker_pids()]
        memory = [process.memory_info().rss for process in workers]
        for name in ("process_resident_memory_bytes", "process_open_fds", "process_max_fds"):
            assert set(first[name]) == {"0", "1"}
        assert sum(first["process_resident_memory_bytes"].values()) == pytest.approx(sum(memory), rel=0.3)
        deadline = time.monotonic() + 30  # a worker that is ready still opens files
        while sum(_of_workers(service)["process_open_fds"].values()) != pytest.approx(
            sum(p.num_fds() for p in workers), abs=10
        ):
            assert time.monotonic() < deadline, "what /metrics says of open files is not what the processes have"
            time.sleep(0.2)
        httpx.get(f"{service.url}/openapi.json", timeout=20)
        deadline = time.monotonic() + 60
        while True:
            spent = sum(sum(process.cpu_times()[:2]) for process in workers)
            later = _of_workers(service)["process_cpu_seconds_total"]
            if sum(later.values()) > sum(first["process_cpu_seconds_total"].values()):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert 0.3 * spent < sum(later.values()) < 3 * spent + 1
    finally:
        service.stop()


def _of_workers(service: ServiceProcess) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, worker, value in SERIES.findall(httpx.get(f"{service.url}/metrics", timeout=20).text):
        found.setdefault(name, {})[worker] = float(value)
    return found


def test_a_store_that_fails_is_seen_in_the_metrics(bundles: Path, redis_server: RedisServer) -> None:
    settings = Settings(bundles=bundles, redis_url=redis_server.url, warm_up_queries=4, self_test_queries=4)  # type: ignore[call-arg]
    with running(settings) as url, httpx.Client(base_url=url, timeout=20) as client:
        assert client.get("/recommend/1?k=3").json()["degraded"] == []
        assert "\ntwhin_store_degraded 0.0" in client.get("/metrics").text
        redis_server.kill()
        assert client.get("/recommend/1?k=3").json()["degraded"] == ["engagements_unavailable"]
        assert "\ntwhin_store_degraded 1.0" in client.get("/metrics").text
