"""The service's speed against what it is compared to, in one run on one machine: a table of ratios.

CPU time is the server process's own (user and system), divided by the requests it answered. The naive endpoint and
the trivial route run under the same uvicorn with the same options, one after another, on the same users.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import numpy as np
import psutil

from benchmarks.http_load import Measured, closed_loop, request_bytes
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import current_path
from index.search.open import open_searcher
from service.recommend.plan import Plan, strategies_of
from service.recommend.recommender import Recommender
from service.recommend.types import RecommendRequest

K = 50
MODES = 5
SERVICE = "from service.serve import serve; from service.settings import Settings; serve(Settings(), port={port})"
NAIVE = (
    "import uvicorn; uvicorn.run('benchmarks.serve_naive:app', port={port}, loop='uvloop', http='httptools', "
    "access_log=False, log_level='warning')"
)


@contextlib.contextmanager
def server(program: str, ready: str, bundles: Path) -> Iterator[tuple[int, psutil.Process, float]]:
    """Run `program` on a free port; gives the port, the process, and the seconds from start to ready."""
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
        [sys.executable, "-c", program.format(port=port)], env={**os.environ, **quiet, "BENCH_BUNDLES": str(bundles)}
    )
    try:
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield port, psutil.Process(process.pid), time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def measure(port: int, process: psutil.Process, requests: list[bytes], connections: int) -> Measured:
    """Answer `requests`, after a few to warm up."""
    asyncio.run(closed_loop(port, requests[:50], connections))
    before, started = process.cpu_times(), time.perf_counter()
    latencies = asyncio.run(closed_loop(port, requests, connections))
    after, seconds = process.cpu_times(), time.perf_counter() - started
    return Measured(np.array(latencies), seconds, after.user + after.system - before.user - before.system)


def raw_search_us(bundle: Bundle, users: list[str]) -> float:
    """CPU microseconds of the searches alone: the same queries, exclusions and depth, in this process."""
    space = bundle.space()
    candidate_type = space.entry.default.candidate_type
    searcher = open_searcher(bundle, space.name, candidate_type)
    recommender = Recommender(bundle, {(space.name, candidate_type): searcher})
    plans: list[Plan] = [
        recommender.plan(RecommendRequest(user=user, k=K, strategy="mixture", modes=MODES)) for user in users
    ]
    queries = [plan.queries() for plan in plans]
    asked = [(one, [plan.exclusions.rows()] * len(one)) for one, plan in zip(queries, plans, strict=True)]
    for one, excluded in asked[:50]:
        searcher.search(one, K, exclude=excluded)
    before = time.process_time()
    for one, excluded in asked:
        searcher.search(one, K, exclude=excluded)
    return 1e6 * (time.process_time() - before) / len(asked)


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


def run(bundles: Path, n_requests: int, vector_batches: int) -> list[tuple[str, str, float, str]]:
    """All measurements: name, what it is in words, the figure, the aim."""
    bundle = open_bundle(current_path(bundles))
    space = bundle.space()
    rng = np.random.default_rng(1)
    table = space.table(space.entry.default.user_type)
    # Users with interests: the others have no mixture to compare.
    users = table.ids.externals(rng.choice(np.flatnonzero(space.clusters.mixtures.degrees()), n_requests))
    batch = json.dumps({"type": table.name, "ids": users[:1000]}).encode()
    centroid = recommend_requests(users, strategy=centroid_strategy(bundle))
    live = recommend_requests(users, strategy="mixture", modes=MODES)
    octets = [request_bytes("POST", "/v1/embeddings", batch, "application/octet-stream")] * vector_batches * 20
    numbers = [request_bytes("POST", "/v1/embeddings", batch)] * vector_batches
    with server(NAIVE, "/trivial", bundles) as (port, process, _):
        trivial = measure(port, process, [request_bytes("GET", "/trivial")] * n_requests, 8)
        naive = measure(port, process, live, 8)
        naive_32 = measure(port, process, live, 32)
        naive_vectors = measure(port, process, numbers, 1)
    with server(SERVICE, "/readyz", bundles) as (port, process, start_seconds):
        memory = anonymous_mb(process)
        merged = measure(port, process, centroid, 8)
        searched = measure(port, process, live, 8)
        searched_32 = measure(port, process, live, 32)
        vectors = measure(port, process, octets, 1)
    raw = raw_search_us(bundle, users)
    ratio_vectors = naive_vectors.cpu_us / vectors.cpu_us
    return [
        ("trivial Response route", f"{trivial.cpu_us:.0f} µs", trivial.cpu_us, ""),
        (
            "centroid mixture / trivial route",
            f"{merged.cpu_us:.0f} µs",
            merged.cpu_us / trivial.cpu_us,
            "≤ 2.0, aim 1.4",
        ),
        (
            "raw search / live 5-mode CPU",
            f"{raw:.0f} / {searched.cpu_us:.0f} µs",
            raw / searched.cpu_us,
            "≥ .75, aim .88",
        ),
        (
            "naive / live 5-mode CPU",
            f"{naive.cpu_us:.0f} / {searched.cpu_us:.0f} µs",
            naive.cpu_us / searched.cpu_us,
            "≥ 2.3, aim 3",
        ),
        (
            "p99 at 32 connections / naive",
            f"{searched_32.percentile_ms(99):.1f} / {naive_32.percentile_ms(99):.1f} ms",
            searched_32.percentile_ms(99) / naive_32.percentile_ms(99),
            "≤ .4, aim .25",
        ),
        (
            "1000 vectors, tolist JSON / octets",
            f"{naive_vectors.cpu_us:.0f} / {vectors.cpu_us:.0f} µs",
            ratio_vectors,
            "≥ 200, aim 500",
        ),
        ("own memory of a worker, MB", "", memory, "≤ 150, aim 100"),
        ("start to ready, s", "", start_seconds, "≤ 3, aim 1"),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, default=Path(".demo/bundles"), help="directory of versions")
    parser.add_argument("--requests", type=int, default=2000, help="requests of each kind")
    parser.add_argument("--vector-batches", type=int, default=10, help="batches of 1000 vectors by the naive route")
    options = parser.parse_args()
    rows = run(options.bundles, options.requests, options.vector_batches)
    print(f"| what (k = {K}, server CPU per request) | measured | figure | wanted |\n|---|---|---|---|")
    for name, measured, figure, wanted in rows:
        print(f"| {name} | {measured} | {figure:.2f} | {wanted} |")


if __name__ == "__main__":
    main()
