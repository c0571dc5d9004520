"""What works in the background: its end is told, and does not keep the service from ending in order."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import runtime as module
from service.main import create_app
from service.runtime import NotClosed, Runtime
from service.settings import Settings
from service.state.sqlite import SqliteStore
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


PARTS = ("search", "state", "aside", "versions")


@pytest.mark.parametrize("faulty", [*PARTS, "all"])
async def test_every_part_is_closed_whatever_befalls_another(
    runtime: Runtime, faulty: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []
    for name in PARTS:
        close = getattr(runtime, name).close

        def closes(name: str = name, close: Callable[[], Any] = close) -> Any:
            tried.append(name)
            waits_for = close()
            if name == faulty or faulty == "all":
                if waits_for is not None:
                    waits_for.close()
                raise OSError("no such disk")
            return waits_for

        monkeypatch.setattr(getattr(runtime, name), "close", closes)
    caplog.clear()
    with caplog.at_level(logging.ERROR), pytest.raises(NotClosed, match="The log says which"):
        await runtime.stop()
    assert tried == list(PARTS)
    told = [one for one in caplog.records if "cannot be closed" in one.message]
    assert len(told) == (len(PARTS) if faulty == "all" else 1)
    assert all(vars(one)["reason"] == "OSError: no such disk" and not one.exc_info for one in told)


async def test_a_store_whose_thread_has_ended_is_named(runtime: Runtime) -> None:
    assert isinstance(runtime.state, SqliteStore)
    await runtime.state.close()
    assert "the thread that writes engagements" in runtime.ended
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        runtime.state._reader.execute("SELECT 1")
    await runtime.search.close()
