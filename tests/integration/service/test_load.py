"""The load tests themselves: an open loop sees what a closed one hides, thresholds decide, Locust's users work."""

import argparse
import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.http_load import request_bytes
from loadtests.open_loop import Report, open_loop
from loadtests.recall import RecallJudge
from loadtests.run import verdict
from loadtests.traffic import Shot, mixed, population

ROOT = Path(__file__).resolve().parents[3]


def test_mixed_traffic_is_answered_and_recall_is_measured(client: httpx.Client, made_bundles: Path) -> None:
    judge, port = RecallJudge(every=2), client.base_url.port or 80
    shots = mixed(population(made_bundles, 200), np.random.default_rng(1), 10)
    report = asyncio.run(open_loop(port, shots, rate=60, seconds=1.5, seen=judge.seen))
    assert report.errors == {}
    assert report.answered == 90
    assert {"recommend", "features", "embeddings", "similar", "score", "engagements", "interests"} <= set(
        report.latency
    )
    assert judge.recall(made_bundles) == pytest.approx(1.0)


async def test_a_stalled_server_is_seen_by_everyone_who_was_due() -> None:
    """One answer in the middle takes half a second; an open loop charges it to all that were due meanwhile."""
    answered = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            if next(answered) == 20:
                flowing.clear()
                await asyncio.sleep(0.5)
                flowing.set()
            await flowing.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    flowing = asyncio.Event()
    flowing.set()
    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    report = await open_loop(port, _same(), rate=100, seconds=1)
    server.close()
    assert report.answered == 100
    assert report.percentile_ms("one", 70) > 50, "a third of the requests were due during the stall"


async def test_the_load_goes_on_until_it_is_enough() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port, answers = server.sockets[0].getsockname()[1], [0]

    def count(shot: Shot, body: bytes) -> None:
        answers[0] += 1

    more = await open_loop(
        port, _same(), rate=200, seconds=0.1, seen=count, enough=lambda: answers[0] >= 40, patience=30
    )
    assert 40 <= more.answered < 4000
    never = await open_loop(port, _same(), rate=200, seconds=0.1, enough=lambda: False, patience=0.2)
    assert never.answered == 60
    server.close()


def _same() -> Iterator[Shot]:
    return itertools.repeat(Shot("one", request_bytes("GET", "/"), "1"))


def test_thresholds_decide() -> None:
    report = Report()
    report.took("recommend", 0.05)
    options = argparse.Namespace(p99_ms=100, recall=0.9)
    assert verdict(report, 0.95, {"a", "b"}, options) == []
    assert len(verdict(report, 0.5, {"a", "b"}, options)) == 1
    assert len(verdict(report, 0.95, {"a"}, options)) == 1
    report.took("recommend", 0.5)
    report.errors["recommend: 503"] += 2
    assert len(verdict(report, 0.95, {"a", "b"}, options)) == 2


@pytest.mark.slow
def test_locust_users_find_no_fault(client: httpx.Client, made_bundles: Path) -> None:
    environment = {**os.environ, "TWHIN_LOAD_BUNDLES": str(made_bundles), "TWHIN_LOAD_P99_MS": "10000"}
    command = ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "-u", "6", "-r", "6", "-t", "6s"]
    done = subprocess.run(
        [sys.executable, *command, "--host", str(client.base_url).rstrip("/")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for path in ("/recommend", "/v1/features", "/v1/engagements"):
        assert path in done.stdout + done.stderr
