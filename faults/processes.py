"""The service's processes under signals and losses: what becomes of the requests of clients that never stop asking."""

import asyncio
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from bundle.versions import publish
from faults.load import Clients, Outcomes
from faults.outcome import Outcome
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

WORKERS = (1, 2, 4)
CLIENTS = 32


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Exit statuses, SIGHUP and SIGTERM under load, kill -9 of the first process and of workers."""
    bundles = scratch / "bundles"
    for version, number in (("v1", seed), ("v2", seed + 1)):
        write_toy_bundle(bundles, version, seed=number)
    publish(bundles, "v1")
    yield _statuses(scratch, bundles)
    for workers in WORKERS:
        for round_number in range(5 if long else 1):
            yield asyncio.run(_signals(bundles, workers, round_number))
        yield _killed(bundles, workers)
    yield asyncio.run(_a_worker_killed(bundles))


def _statuses(scratch: Path, bundles: Path) -> Outcome:
    damaged = scratch / "damaged"
    shutil.copytree(bundles, damaged)
    for vectors in damaged.glob("v*/spaces/*/vectors/user.npy"):
        vectors.write_bytes(b"nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = [
            (5, scratch / "none", (), {}),
            (5, damaged, (), {}),
            (2, bundles, ("--port", str(taken.getsockname()[1])), {}),
            (2, bundles, (), {"TWHIN_WATCH_SECONDS": "often"}),
            (2, bundles, ("--redis", "http://nowhere"), {}),
            (6, bundles, (), {"TWHIN_STATE": str(bundles / "v1" / "manifest.json")}),
        ]
        wrong = 0
        for status, directory, arguments, environment in cases:
            for workers in WORKERS[:2]:
                service = ServiceProcess(directory, "--workers", str(workers), *arguments, **environment)
                ended = service.process.wait(60)
                wrong += ended != status or len(service.log.read_text().splitlines()) != 1
    return Outcome(
        "a service that cannot start ends with one line and its status, for 1 and 2 workers",
        f"{wrong} of {2 * len(cases)} otherwise",
        wrong == 0,
    )


def _start(bundles: Path, workers: int) -> ServiceProcess:
    service = ServiceProcess(bundles, "--workers", str(workers), TWHIN_DRAIN_SECONDS="0.5").wait_until_ready()
    return service.wait_for_workers(workers) if workers > 1 else service


async def _signals(bundles: Path, workers: int, round_number: int) -> Outcome:
    service = _start(bundles, workers)
    clients = Clients(service.port, f"/recommend/{user_ids()[3]}?k=5", CLIENTS)
    await asyncio.sleep(1.0)
    for version in ("v2", "v1"):
        publish(bundles, version)
        service.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.5 + 0.1 * round_number)
    service.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    await asyncio.to_thread(service.process.wait, 40)
    seconds = time.monotonic() - started
    seen: Outcomes = await clients.refused(5)
    good = not seen.resets and set(seen.statuses) <= {200, 503} and service.process.returncode == 0 and seconds < 10
    return Outcome(
        f"SIGHUP and SIGTERM with {workers} workers under {CLIENTS} clients: no connection is reset",
        f"{seen.line()}; status {service.process.returncode} after {seconds:.1f} s",
        good,
    )


def _killed(bundles: Path, workers: int) -> Outcome:
    service = _start(bundles, workers)
    everybody = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    service.process.wait()
    started = time.monotonic()
    _, left = psutil.wait_procs(everybody, timeout=20)
    seconds = time.monotonic() - started
    with socket.create_server(("127.0.0.1", service.port)):
        pass
    return Outcome(
        f"kill -9 of the first process with {workers} workers leaves nothing, and frees the port",
        f"{len(left)} of {len(everybody)} processes left after {seconds:.1f} s",
        not left,
    )


async def _a_worker_killed(bundles: Path) -> Outcome:
    service = _start(bundles, 2)
    path = f"/recommend/{user_ids()[3]}?k=5"
    clients = Clients(service.port, path, 8)
    await asyncio.sleep(1.0)
    psutil.Process(service.worker_pids()[0]).kill()
    await asyncio.to_thread(service.wait_for_workers, 2)
    seen = await clients.stop()
    async with httpx.AsyncClient() as client:
        exposed = (await client.get(f"{service.url}/metrics")).text
    route = 'twhin_http_requests_total{method="GET",route="/recommend/{user}",status_class="2xx"} '
    counted = sum(float(line.removeprefix(route)) for line in exposed.splitlines() if line.startswith(route))
    answered = seen.statuses[200]
    service.stop()
    return Outcome(
        "a worker killed under load: only its own connections are lost, and no answer is uncounted in /metrics",
        f"{seen.line()}; {counted:.0f} counted",
        set(seen.statuses) <= {200, 503} and len(seen.resets) <= 8 and answered <= counted <= answered + 8,
    )
