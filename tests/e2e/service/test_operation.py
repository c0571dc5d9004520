"""The service as an operator meets it: workers, signals, keys, logs, overload."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.servers import ServiceProcess, free_port
from tests.support.service_bundle import user_ids

USERS = user_ids()
Begin = Callable[..., ServiceProcess]
JSON = {"content-type": "application/json"}


def _total(text: str, start: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


def test_metrics_are_right_under_several_workers_and_a_dead_one_is_replaced(begin: Begin, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    service = begin("--workers", "2", TMPDIR=str(scratch), PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "nowhere"))
    service.wait_for_workers(2)
    assert list(scratch.iterdir()) == []  # nothing lies where it could be removed, filled or protected
    scratch.rmdir()
    for _ in range(60):  # each on its own connection, so that both workers get some
        assert httpx.get(f"{service.url}/recommend/{USERS[1]}").status_code == 200
    name = 'twhin_http_requests_total{method="GET",route="/recommend/{user}",status_class="2xx"}'
    assert _total(httpx.get(f"{service.url}/metrics").text, name) == 60
    os.kill(service.worker_pids()[0], signal.SIGKILL)
    service.wait_for_workers(2)
    assert httpx.get(f"{service.url}/recommend/{USERS[1]}").json()["version"] == "v1"
    assert _total(httpx.get(f"{service.url}/metrics").text, name) == 61
    assert USERS[1] not in service.log.read_text()  # no line a request, and no ids, from workers either


def test_workers_share_live_engagements(begin: Begin) -> None:
    service = begin("--workers", "2")
    url = f"{service.url}/recommend/{USERS[5]}?strategy=centroids&k=5"
    target = httpx.get(url).json()["candidates"][0]["id"]
    body = json.dumps({"events": [{"user": USERS[5], "target": target}]})
    assert httpx.post(f"{service.url}/v1/engagements", content=body, headers=JSON).json()["stored"] == 1
    for _ in range(20):
        assert target not in httpx.get(url).text


def test_sigterm_drains(begin: Begin) -> None:
    service = begin(TWHIN_DRAIN_SECONDS="1.5")
    stop, failures = threading.Event(), []

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=10) as client:
            while not stop.is_set():
                try:
                    response = client.get(f"/recommend/{USERS[3]}")
                    if response.status_code != 200:
                        failures.append(response.text)
                except httpx.TransportError as error:
                    failures.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    not_ready = httpx.get(f"{service.url}/readyz")
    assert (not_ready.status_code, not_ready.json()["detail"]) == (503, "draining")
    assert httpx.get(f"{service.url}/livez").status_code == 200
    stop.set()
    asking.join()
    assert failures == []
    assert service.process.wait(10) in (0, -signal.SIGTERM)


def test_kill_9_loses_no_engagement_that_was_answered(begin: Begin) -> None:
    service = begin()
    targets = [str(int(user)) for user in USERS[100:120]]
    for target in targets:
        body = json.dumps({"events": [{"user": USERS[5], "target": target}]})
        assert httpx.post(f"{service.url}/v1/engagements", content=body, headers=JSON).json()["stored"] == 1
    service.process.kill()
    service.process.wait()
    again = begin()
    candidates = httpx.get(f"{again.url}/recommend/{USERS[5]}?k=400").text
    assert not any(f'"{target}"' in candidates for target in targets)


def test_keys_and_scopes(begin: Begin) -> None:
    secrets = {"read": "r-planted-secret", "write": "w-planted-secret", "admin": "a-planted-secret"}
    service = begin(
        TWHIN_READ_KEYS=f"old-key,{secrets['read']}",
        TWHIN_WRITE_KEYS=secrets["write"],
        TWHIN_ADMIN_KEYS=secrets["admin"],
        TWHIN_METRICS_OPEN="false",
        TWHIN_ACCESS_LOG="all",
    )
    event = json.dumps({"events": [{"user": USERS[5], "target": USERS[9]}]})
    seen = []

    def status(method: str, path: str, key: str | None, content: str | None = None) -> int:
        headers = JSON | ({"authorization": f"Bearer {key}"} if key else {})
        response = httpx.request(method, service.url + path, headers=headers, content=content)
        seen.append(response.text)
        return response.status_code

    expected = {None: (401, 401, 401), "wrong": (401, 401, 401), "old-key": (200, 403, 403)}
    expected |= {secrets["read"]: (200, 403, 403), secrets["write"]: (200, 200, 403), secrets["admin"]: (200, 200, 200)}
    for key, (read, write, admin) in expected.items():
        assert status("GET", "/v1/info", key) == read
        assert status("GET", "/metrics", key) == read
        assert status("POST", "/v1/engagements", key, event) == write
        assert status("GET", "/admin/v1/versions", key) == admin
    assert [status("GET", path, None) for path in ("/livez", "/readyz", "/startupz")] == [200] * 3
    assert status("GET", f"/v1/info?key={secrets['read']}", None) == 401
    everything = service.log.read_text() + "".join(seen)
    assert "planted-secret" not in everything
    assert '"request_id"' in everything


def test_listening_to_everyone_without_keys_warns_loudly(bundles: Path) -> None:
    service = ServiceProcess(bundles, "--host", "0.0.0.0")
    try:
        service.wait_until_ready()
        assert "ANYONE WHO REACHES" in service.log.read_text()
    finally:
        service.stop()


def test_overload_is_shed_and_says_when_to_return(begin: Begin) -> None:
    service = begin(TWHIN_CONCURRENCY_MAX="4", TWHIN_SEARCH_QUEUE_MAX="4")
    with httpx.Client(base_url=service.url, timeout=20, limits=httpx.Limits(max_connections=64)) as client:
        with ThreadPoolExecutor(32) as pool:
            body = json.dumps({"users": USERS[:64], "k": 300, "strategy": "mixture"})
            asked = [pool.submit(client.post, "/recommend:batch", content=body, headers=JSON) for _ in range(64)]
            responses = [future.result() for future in asked]
        statuses = {response.status_code for response in responses}
        assert statuses <= {200, 503, 504}
        assert {200, 503} <= statuses
        assert all(response.headers["retry-after"] for response in responses if response.status_code == 503)
        assert client.get("/livez").status_code == 200
        assert client.post("/recommend:batch", content=body, headers=JSON).status_code in (200, 504)


def test_a_deadline_ends_the_work(begin: Begin) -> None:
    service = begin()
    body = json.dumps({"users": USERS[:64], "k": 300, "strategy": "mixture"})
    started = time.perf_counter()
    late = httpx.post(f"{service.url}/recommend:batch", content=body, headers=JSON | {"x-request-timeout-ms": "1"})
    assert time.perf_counter() - started < 5
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


def test_nothing_published_is_said_before_anything_is_bound(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "none")
    assert service.process.wait(30) == 5
    assert "Nothing is published" in service.log.read_text()
    assert free_port()


def test_head_and_body_leave_in_one_write(begin: Begin) -> None:
    service = begin()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        for _ in range(5):
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            first = connection.recv(65536)
            assert first.startswith(b"HTTP/1.1 200 OK")
            assert first.endswith(b'{"status":"ok"}')
