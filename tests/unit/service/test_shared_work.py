"""Whoever gives up waiting for shared work hears nothing of its failing, and neither does the log."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable

import pytest

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.packed import PackedDocuments
from service.shared_turn import SharedTurn
from service.state.edge_cache import EdgeCache, Owner


def adding_up(fail: threading.Event) -> Awaitable[object]:
    async def add_up(owner: Owner) -> tuple[object, LiveEdges]:
        await asyncio.to_thread(fail.wait)
        raise StateError("the store is away")

    return EdgeCache().added_up(("user", "1"), 0, add_up)


def taking_a_turn(fail: threading.Event) -> Awaitable[object]:
    async def work() -> None:
        await asyncio.to_thread(fail.wait)
        raise StateError("the store is away")

    return SharedTurn[None]().result(work)


def packing(fail: threading.Event) -> Awaitable[object]:
    def make() -> bytes:
        fail.wait()
        raise StateError("the version is away")

    return PackedDocuments().get("etag", make)


@pytest.mark.parametrize("ask", [adding_up, taking_a_turn, packing])
async def test_a_failure_that_nobody_waits_for_is_not_reported(
    ask: Callable[[threading.Event], Awaitable[object]],
) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: reported.append(told["message"]))
    fail = threading.Event()
    asked = asyncio.ensure_future(ask(fail))
    await asyncio.sleep(0.02)
    asked.cancel()
    await asyncio.sleep(0.02)
    assert asked.cancelled()
    fail.set()
    await asyncio.sleep(0.6)  # the rest after it is over, and nothing refers to it any more
    del asked
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []
