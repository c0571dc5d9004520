"""What takes long for one request waits for others, not for ever, and not for its own kind."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import ExitStack

from service.admission import Admission
from service.low_priority import FEW, LONGEST_MS, LowPriority


async def waited(low: LowPriority) -> float:
    """For how many milliseconds a step gives way."""
    began = time.perf_counter()
    await low.give_way()
    return 1000 * (time.perf_counter() - began)


async def test_it_waits_for_others_but_not_for_ever() -> None:
    admission = Admission(256)
    low = LowPriority(lambda: admission.in_work)
    with low.request():
        admission.inflight = 2
        assert await waited(low) >= LONGEST_MS
        admission.inflight, admission.arrived = 1, 1
        assert await waited(low) >= LONGEST_MS


async def test_where_there_are_many_of_them_none_waits_long() -> None:
    low = LowPriority(lambda: 100)
    with ExitStack() as stack:
        for _ in range(LONGEST_MS * FEW + 1):
            stack.enter_context(low.request())
        turns = await turns_of(low.give_way())
    assert turns <= 1


async def test_it_goes_on_when_the_others_are_answered() -> None:
    in_work, order = [3], list[str]()
    low = LowPriority(lambda: in_work[0])

    async def others() -> None:
        order.append("others")
        in_work[0] = 2

    with low.request(), low.request():
        other = asyncio.create_task(others())
        await low.give_way()
        order.append("step")
        await other
    assert order == ["others", "step"]


async def test_its_own_kind_is_not_waited_for() -> None:
    low = LowPriority(lambda: 2)
    with low.request(), low.request():
        assert await turns_of(low.give_way()) <= 1


async def turns_of(work: Awaitable[None]) -> int:
    """How many turns the event loop takes until the work is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await work
    counting.cancel()
    return turns


async def test_parts_of_one_request_count_once() -> None:
    """A batch of twenty users, and five others in work: the batch waits for these."""
    low = LowPriority(lambda: 6)

    async def part() -> float:
        with low.request():
            return await waited(low)

    with low.one_request():
        parts = [asyncio.create_task(part()) for _ in range(20)]
    assert min(await asyncio.gather(*parts)) >= LONGEST_MS
    assert low._requests == 0
    others = [asyncio.create_task(part()) for _ in range(6)]
    await asyncio.sleep(0)
    assert low._requests == 6
    await asyncio.gather(*others)
