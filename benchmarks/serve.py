"""The service's speed against what it is compared to, in one run on one machine: a table of ratios.

CPU time is the server process's own (user and system), divided by the requests it answered. The naive endpoint and
the trivial route run under the same uvicorn with the same options, on the same users, in turns: on a machine that
others use as well, only figures of one round compare.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks import serve_pgvector
from benchmarks.http_load import Measured, closed_loop, open_loop, request_bytes
from benchmarks.serve_search import RawSearch
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import current_path
from recommend.plan import strategies_of

K = 50
# A worker keeps up with a rate while 99 of 100 are answered within this time.
TAIL_SECONDS = 0.01
# Shares of the rate at which the server's core would never rest, tried from the highest down.
SHARES = tuple(share / 100 for share in range(95, 15, -5))
RATE_SECONDS = 3.0
TRIES = 3
MODES = 5
SERVICE = "from service.serve import serve; from service.settings import Settings; serve(Settings(), port={port})"
# The path before the engine: requests are planned, merged and written by NumPy and Python, around the same searcher.
PYTHON_PATH = "from recommend.recommender import Recommender; Recommender._compiled = None; " + SERVICE
NAIVE = (
    "import uvicorn; uvicorn.run('benchmarks.serve_naive:app', port={port}, loop='uvloop', http='httptools', "
    "access_log=False, log_level='warning')"
)


EXPERIMENT = """
[[experiments]]
name = "benchmark"
arms = [{name = "a", strategy = "auto", share = 0.5}, {name = "b", strategy = "auto", share = 0.5}]
"""


class Server(NamedTuple):
    """A server under measurement."""

    port: int
    process: psutil.Process
    start_seconds: float


@contextlib.contextmanager
def running(program: str, ready: str, bundles: Path, **environment: str) -> Iterator[Server]:
    """Run `program` on a free port until it answers, with `environment` besides."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    quiet = {
        "TWHIN_BUNDLES": str(bundles),
        "TWHIN_DRAIN_SECONDS": "0",
        "TWHIN_LOG_LEVEL": "warning",
        "OMP_NUM_THREADS": "1",
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program.format(port=port)],
        env={**os.environ, **quiet, "BENCH_BUNDLES": str(bundles), **environment},
    )
    try:
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield Server(port, psutil.Process(process.pid), time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of all threads of the process so far, to the nanosecond; `cpu_times` counts in hundredths."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def measure(server: Server, requests: list[bytes], connections: int) -> Measured:
    """Answer `requests`."""
    before, started = cpu_seconds(server.process), time.perf_counter()
    latencies = asyncio.run(closed_loop(server.port, requests, connections))
    seconds = time.perf_counter() - started
    return Measured(np.array(latencies), seconds, cpu_seconds(server.process) - before)


class Rate(NamedTuple):
    """Requests a second that a server keeps up with, and its CPU microseconds for each of them then."""

    rate: float
    cpu_us: float


def highest_rate(server: Server, requests: list[bytes], connections: int = 64) -> Rate:
    """The highest rate that the server keeps up with on one core in an open loop: 99 of 100 within TAIL_SECONDS.

    The client has the other cores, where there are any. What another process takes of the machine for a moment is not
    the server's: the best of several tries counts.
    """
    ours, cores = server.process.cpu_affinity(), os.sched_getaffinity(0)
    others = cores - {max(cores)} or cores
    try:
        pin(server.process, {max(cores)})
        os.sched_setaffinity(0, others)
        restless = 1e6 / measure(server, requests, 8).cpu_us
        for share in SHARES:
            rate = restless * share
            asked = [requests[i % len(requests)] for i in range(int(rate * RATE_SECONDS))]
            for seed in range(TRIES):
                before = cpu_seconds(server.process)
                try:
                    latencies = asyncio.run(open_loop(server.port, asked, rate, connections, seed))
                except RuntimeError:  # it refused one: it does not keep up
                    continue
                if np.percentile(latencies, 99) <= TAIL_SECONDS:
                    return Rate(rate, 1e6 * (cpu_seconds(server.process) - before) / len(asked))
        return Rate(0.0, float("nan"))
    finally:
        pin(server.process, set(ours))
        os.sched_setaffinity(0, cores)


def pin(process: psutil.Process, cores: set[int]) -> None:
    """Keep all threads of the process on these cores."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def recommend_requests(users: list[str], **fields: object) -> list[bytes]:
    """One /recommend for each user."""
    return [
        request_bytes("POST", "/recommend", json.dumps({"user": user, "k": K, **fields}).encode()) for user in users
    ]


def anonymous_mb(process: psutil.Process) -> float:
    """Memory that is this process's own: what no other process could share by mapping the same files."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:")) / 1024


def centroid_strategy(bundle: Bundle) -> str:
    """The name of the strategy that merges stored centroid lists."""
    strategies = strategies_of(bundle.space())
    return next(
        name for name, strategy in strategies.items() if strategy.precomputed and strategy.mode_vector == "centroid"
    )


class Figures(NamedTuple):
    """One round of measurements, all of them one after another: CPU microseconds a request, p99 in milliseconds."""

    trivial: float
    default: float
    split: float
    merged: float
    raw: float
    live: float
    naive: float
    live_p99: float
    naive_p99: float
    octets: float
    numbers: float


class Round:
    """What is asked of both servers, round after round."""

    def __init__(self, bundle: Bundle, n_requests: int) -> None:
        space = bundle.space()
        table = space.table(space.entry.default.user_type)
        # Users with interests: the others have no mixture to compare.
        interested = np.flatnonzero(space.clusters.interests[0].mixtures.degrees())
        users = table.ids.externals(np.random.default_rng(1).choice(interested, n_requests))
        batch = json.dumps({"type": table.name, "ids": table.ids.externals(np.arange(min(1000, len(table))))}).encode()
        self.raw = RawSearch(bundle, users, K, MODES)
        self.default = recommend_requests(users)
        self._centroid = recommend_requests(users, strategy=centroid_strategy(bundle))
        self._live = recommend_requests(users, strategy="mixture", modes=MODES)
        self._octets = request_bytes("POST", "/v1/embeddings", batch, "application/octet-stream")
        self._numbers = request_bytes("POST", "/v1/embeddings", batch)

    def measured(self, ours: Server, split: Server, naive: Server, part: slice) -> Figures:
        """The figures over a part of the users; `split` is ours with an experiment whose arms answer alike."""
        live, plain = self._live[part], [request_bytes("GET", "/trivial")] * len(self._live[part])
        together, naive_together = measure(ours, live, 32), measure(naive, live, 32)
        return Figures(
            trivial=measure(naive, plain, 8).cpu_us,
            default=measure(ours, self.default[part], 8).cpu_us,
            split=measure(split, self.default[part], 8).cpu_us,
            merged=measure(ours, self._centroid[part], 8).cpu_us,
            raw=self.raw.cpu_us(part),
            live=measure(ours, live, 8).cpu_us,
            naive=measure(naive, live, 8).cpu_us,
            live_p99=together.percentile_ms(99),
            naive_p99=naive_together.percentile_ms(99),
            octets=measure(ours, [self._octets] * 40, 1).cpu_us,
            numbers=measure(naive, [self._numbers] * 2, 1).cpu_us,
        )


def run(bundles: Path, n_requests: int, rounds: int) -> list[tuple[str, str, float, str]]:
    """All measurements: what, as measured, the figure, what is wanted. Medians over the rounds, ratios within each."""
    asked = Round(open_bundle(current_path(bundles)), n_requests)
    step = n_requests // rounds
    with contextlib.ExitStack() as stack:
        naive = stack.enter_context(running(NAIVE, "/trivial", bundles))
        ours = stack.enter_context(running(SERVICE, "/readyz", bundles))
        experiments = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        experiments.write(EXPERIMENT)
        experiments.flush()
        split = stack.enter_context(running(SERVICE, "/readyz", bundles, TWHIN_EXPERIMENTS=experiments.name))
        memory = anonymous_mb(ours.process)
        asked.measured(ours, split, naive, slice(0, 50))
        found = [asked.measured(ours, split, naive, slice(at * step, (at + 1) * step)) for at in range(rounds)]
        start_seconds = ours.start_seconds
        before = stack.enter_context(running(PYTHON_PATH, "/readyz", bundles))
        rates = highest_rate(ours, asked.default), highest_rate(before, asked.default)
    return [
        *table(found),
        *rate_rows(*rates),
        pgvector_row(asked.raw, statistics.median(one.live for one in found)),
        ("own memory of a worker, MB", "", memory, "≤ 150, aim 100"),
        ("start to ready, s", "", start_seconds, "≤ 3, aim 1"),
    ]


def rate_rows(ours: Rate, before: Rate) -> list[tuple[str, str, float, str]]:
    """What one worker keeps up with on one core, and beside the path without the engine."""
    return [
        (
            f"requests a second of one worker on one core, default, p99 ≤ {TAIL_SECONDS * 1000:.0f} ms, open loop",
            f"{ours.cpu_us:.0f} µs each",
            ours.rate,
            "",
        ),
        (
            "the same / by the Python path, with the same searcher",
            f"{before.rate:.0f} a second, {before.cpu_us:.0f} µs each",
            ours.rate / before.rate if before.rate else float("nan"),
            "≥ 2, aim 3",
        ),
    ]


def pgvector_row(raw: RawSearch, live_us: float) -> tuple[str, str, float, str]:
    """The same mixture in PostgreSQL, where its packages are installed."""
    name, wanted = "pgvector (HNSW, client-side merge) / live 5-mode", "≥ 8, aim 12"
    if not serve_pgvector.AVAILABLE:
        return name, "skipped: install the dependency group `postgres`", float("nan"), wanted
    found = serve_pgvector.measure(raw, K)
    settings = f"ef {found.ef_search}, recall {found.recall:.3f} / ours {found.our_recall:.3f}"
    return name, f"{found.cpu_us:.0f} / {live_us:.0f} µs, {settings}", found.cpu_us / live_us, wanted


def table(rounds: list[Figures]) -> list[tuple[str, str, float, str]]:
    """The ratios of the rounds."""
    middle = Figures(*(statistics.median(column) for column in zip(*rounds, strict=True)))

    def ratio(over: str, under: str) -> float:
        return float(statistics.median(getattr(one, over) / getattr(one, under) for one in rounds))

    return [
        ("trivial Response route, µs", "", middle.trivial, ""),
        ("default (auto) / trivial route", f"{middle.default:.0f} µs", ratio("default", "trivial"), "≤ 4, aim 3"),
        (
            "default in an experiment / outside",
            f"{middle.split:.0f} / {middle.default:.0f} µs",
            ratio("split", "default"),
            "≤ 1.03",
        ),
        ("centroid mixture / trivial route", f"{middle.merged:.0f} µs", ratio("merged", "trivial"), "≤ 1.3, aim 1.15"),
        ("live 5-mode / trivial route", f"{middle.live:.0f} µs", ratio("live", "trivial"), "≤ 3.5, aim 2.8"),
        ("raw search / live 5-mode", f"{middle.raw:.0f} / {middle.live:.0f} µs", ratio("raw", "live"), ""),
        ("naive / live 5-mode", f"{middle.naive:.0f} / {middle.live:.0f} µs", ratio("naive", "live"), "≥ 2.3, aim 3"),
        (
            "p99 at 32 connections, live / naive",
            f"{middle.live_p99:.1f} / {middle.naive_p99:.1f} ms",
            ratio("live_p99", "naive_p99"),
            "≤ .4, aim .25",
        ),
        (
            "1000 vectors, tolist JSON / octets",
            f"{middle.numbers:.0f} / {middle.octets:.0f} µs",
            ratio("numbers", "octets"),
            "≥ 200, aim 500",
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, default=Path(".demo/bundles"), help="directory of versions")
    parser.add_argument("--requests", type=int, default=2000, help="requests of each kind")
    parser.add_argument("--rounds", type=int, default=8, help="parts they are split into, each measured side by side")
    options = parser.parse_args()
    rows = run(options.bundles, options.requests, options.rounds)
    print(f"| what (k = {K}, server CPU per request) | measured | figure | wanted |\n|---|---|---|---|")
    for name, measured, figure, wanted in rows:
        print(f"| {name} | {measured} | {figure:.2f} | {wanted} |")


if __name__ == "__main__":
    main()
