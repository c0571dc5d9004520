"""The service's processes: how it ends when it cannot start, at signals under load, and when one of them is killed."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from faults.load import Clients, Outcomes
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids

USER = user_ids()[3]
Begin = Callable[..., ServiceProcess]


def test_what_keeps_the_service_from_starting_is_one_line_and_its_status_for_any_workers(
    bundles: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundles, damaged)
    for vectors in damaged.glob("v*/spaces/*/vectors/user.npy"):
        vectors.write_bytes(b"nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = {
            "Nothing is published": (5, tmp_path / "none", (), {}),
            "user.npy": (5, damaged, (), {}),
            "Address already in use": (2, bundles, ("--port", str(taken.getsockname()[1])), {}),
            "no.such.host": (2, bundles, ("--host", "no.such.host"), {}),
            "TWHIN_WATCH_SECONDS": (2, bundles, (), {"TWHIN_WATCH_SECONDS": "often"}),
            "Redis URL": (2, bundles, ("--redis", "http://nowhere"), {}),
            "redis.url": (2, bundles, ("--redis-file", str(tmp_path / "redis.url")), {}),
            "cannot be opened as the store": (6, bundles, (), {"TWHIN_STATE": str(bundles / "v1" / "manifest.json")}),
        }
        in_the_worker = ("user.npy", "cannot be opened as the store")
        started = [
            (said, case[0], ServiceProcess(case[1], "--workers", workers, *case[2], **case[3]))
            for said, case in cases.items()
            for workers in (("1", "2") if said in in_the_worker else ("2",))
        ]
        for said, status, service in started:
            assert service.process.wait(60) == status, service.log.read_text()
            lines = service.log.read_text().splitlines()
            assert len(lines) == 1, lines
            assert lines[0].startswith("twhin: ")
            assert said in lines[0]


async def _stopped_under_load(service: ServiceProcess) -> tuple[Outcomes, float]:
    """Sixteen clients, SIGHUP, then SIGTERM: what became of their requests, and how long the end took."""
    clients = Clients(service.port, f"/recommend/{USER}?k=5", 16)
    await asyncio.sleep(0.5)
    service.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.5)
    before = clients.outcomes.answered
    service.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    await asyncio.to_thread(service.process.wait, 30)
    seconds = time.monotonic() - started
    outcomes = await clients.refused(5)
    assert outcomes.answered > before > 0
    return outcomes, seconds


@pytest.mark.parametrize("workers", [1, 2])
def test_no_connection_is_reset_by_sighup_and_sigterm_under_load(begin: Begin, workers: int) -> None:
    service = begin("--workers", str(workers))
    if workers > 1:
        service.wait_for_workers(workers)
    outcomes, seconds = asyncio.run(_stopped_under_load(service))
    assert outcomes.resets == []
    assert outcomes.refused == 16, "every client ends by being refused"
    assert set(outcomes.statuses) <= {200, 503}  # a busy machine turns some away
    assert seconds < 5
    assert service.process.wait(1) == 0
    assert "Traceback" not in service.log.read_text()


def test_a_connection_that_waits_to_be_accepted_is_answered_at_the_end(begin: Begin) -> None:
    service = begin("--host", "::")  # which is every address of both families
    os.kill(service.process.pid, signal.SIGSTOP)  # nobody accepts
    addresses = ["127.0.0.1", "::1"] * 25
    waiting = [socket.create_connection((address, service.port), timeout=10) for address in addresses]
    for connection in waiting:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
    service.process.send_signal(signal.SIGTERM)
    os.kill(service.process.pid, signal.SIGCONT)
    for connection in waiting:
        with connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert service.process.wait(10) == 0


def test_workers_follow_sighup_survive_a_lost_version_and_end_with_the_first_process(
    begin: Begin, bundles: Path
) -> None:
    state = str(bundles.parent / "events.db")
    service = begin("--workers", "2", TWHIN_WATCH_SECONDS="1000", TWHIN_STATE=state).wait_for_workers(2)
    (bundles / "CURRENT").write_text("v2\n")
    service.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while {httpx.get(f"{service.url}/v1/info").json()["version"] for _ in range(10)} != {"v2"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # A worker that cannot start again does not end the others.
    for version in bundles.glob("v*"):
        version.rename(version.with_name(f"away-{version.name}"))
    os.kill(service.worker_pids()[0], signal.SIGKILL)
    while "'v2' is no version" not in (said := service.log.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    for _ in range(10):
        assert httpx.get(f"{service.url}/recommend/{USER}").status_code == 200
    everybody = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    service.process.wait()
    _, left = psutil.wait_procs(everybody, timeout=10)
    assert left == []
    with socket.create_server(("127.0.0.1", service.port)):
        pass


def test_ctrl_c_ends_all_workers_at_once_with_status_0(begin: Begin) -> None:
    service = begin("--workers", "2", TWHIN_DRAIN_SECONDS="60")
    while len(service.worker_pids()) < 2:  # the second has just been started, and knows no answer to a signal
        time.sleep(0.01)
    for pid in (service.process.pid, *service.worker_pids()):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    assert service.process.wait(10) == 0
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_come_again_and_again_change_nothing_of_the_end(begin: Begin, workers: int, again: int) -> None:
    service = begin("--workers", str(workers))
    service.process.send_signal(signal.SIGINT if again == signal.SIGINT else signal.SIGTERM)
    while service.process.poll() is None:
        time.sleep(0.003)
        service.process.send_signal(again)
    assert service.process.returncode == 0
    assert "Traceback" not in service.log.read_text()


def test_what_is_cut_off_at_the_end_is_told_so_or_closed_without_a_traceback(begin: Begin) -> None:
    service = begin(TWHIN_SHUTDOWN_SECONDS="1")
    asking = (
        b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    document = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as sends_slowly, socket.socket() as takes_nothing:
        takes_nothing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for client, sent in ((sends_slowly, asking), (takes_nothing, document * 1000)):
            client.settimeout(20)
            client.connect(("127.0.0.1", service.port))
            client.sendall(sent)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        answered = http.client.HTTPResponse(sends_slowly)
        answered.begin()
        assert answered.status == 503
        assert answered.headers["connection"] == "close"
        problem = json.loads(answered.read())
        assert (problem["code"], problem["detail"]) == ("not_ready", "the service ends")
        assert service.process.wait(20) == 0
    log = service.log.read_text()
    assert "requests are not answered: their time is over" in log
    assert "Traceback" not in log
    assert "Exception in ASGI application" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_part_that_cannot_be_closed_at_the_end_is_a_line_of_the_log_and_the_status(
    begin: Begin, tmp_path: Path, workers: str, number: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import concurrent.futures as pools\n"
        "shutdown = pools.ThreadPoolExecutor.shutdown\n"
        "def faulty(self, *given, **named):\n"
        "    shutdown(self, *given, **named)\n"
        "    if self._thread_name_prefix == 'twhin-state-reader':\n"
        "        raise OSError('no such disk')\n"
        "pools.ThreadPoolExecutor.shutdown = faulty\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    service = begin("--workers", workers, PYTHONPATH=path).wait_for_workers(int(workers) if workers != "1" else 0)
    service.process.send_signal(number)
    assert service.process.wait(20) == 1
    log = service.log.read_text()
    assert log.count('"the store of live engagements cannot be closed","reason":"OSError: no such disk"') == int(
        workers
    )
    assert log.splitlines()[-1].startswith("twhin: A ")
    assert "The log says" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_worker_that_is_told_to_end_alone_leaves_the_door_to_the_others(begin: Begin) -> None:
    service = begin("--workers", "2", TWHIN_DRAIN_SECONDS="0.2").wait_for_workers(2)
    first, second = service.worker_pids()
    os.kill(first, signal.SIGTERM)
    psutil.Process(first).wait(30)
    for _ in range(20):  # each on a connection of its own, well before the client would try to connect again
        assert httpx.get(f"{service.url}/livez", timeout=0.9).status_code == 200
    service.wait_for_workers(2)
    assert second in service.worker_pids()
    assert httpx.get(f"{service.url}/readyz", timeout=5).status_code == 200
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0


def test_workers_that_are_all_killed_even_while_they_start_are_replaced(begin: Begin) -> None:
    service = begin("--workers", "2").wait_for_workers(2)
    killed = [*service.worker_pids()]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(killed) < 4:
        assert time.monotonic() < deadline
        for pid in {*service.worker_pids()} - {*killed}:  # as soon as it is there, long before it serves
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.02)
    service.wait_until_ready()
    assert service.process.poll() is None


@pytest.mark.parametrize("workers", [1, 2])
def test_signals_that_mean_something_to_other_servers_end_nothing(begin: Begin, workers: int) -> None:
    service = begin("--workers", str(workers))
    if workers > 1:
        service.wait_for_workers(workers)
    processes = [service.process.pid, *service.worker_pids()]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        for pid in processes:
            os.kill(pid, number)
    time.sleep(0.3)
    assert [service.process.pid, *service.worker_pids()] == processes
    assert service.process.poll() is None
    assert httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200
