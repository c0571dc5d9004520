"""What works in the background: its end is told, and does not keep the service from ending in order."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from service import runtime as module
from service.main import create_app
from service.runtime import Runtime
from service.settings import Settings
from service.versions.versions import Versions


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """One whose watch over versions is to end by a fault."""

    async def faulty(versions: Versions, seconds: float) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, "watch", faulty)
    made = Runtime(Settings(bundles=tmp_path))  # type: ignore[call-arg]
    await made.start()
    return made


def _told(runtime: Runtime, refusals: int) -> bool:
    """Whether the metrics have been told of so many."""
    return f'twhin_shed_total{{reason="concurrency"}} {refusals}.0' in runtime.metrics.exposition().decode()


async def test_what_ended_is_named_and_the_service_ends_in_order(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.sleep(0.01)
    assert runtime.ended == ["the watch over versions"]
    assert "the watch over versions has ended" in caplog.text
    assert "a fault of ours" in caplog.text
    transport = httpx.ASGITransport(create_app(runtime.settings, runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["detail"] == "ended by a fault: the watch over versions"
    assert "internal error" not in caplog.text
    await runtime.stop()
    assert not runtime.search.alive


async def test_a_figure_that_cannot_be_measured_ends_neither_beats_nor_the_others(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime.state, "describe", dict)  # has no "healthy"
    monkeypatch.setattr(module, "TURNS_A_SECOND", 1)
    route = runtime.metrics.route("/recommend", "POST")
    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(20):
            for number in range(1, 4):
                runtime.refusals.count(route, "concurrency", lambda: 0.0)
                while not _told(runtime, number):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    assert caplog.text.count("a figure cannot be measured") == 1
    assert "the measurement of the load" not in runtime.ended
    await runtime.stop()
