"""Work within a deadline: what waits for nothing, what waits, what takes too long, what is cancelled from outside."""

import asyncio

import pytest

from service.deadline import by


def test_work_that_waits_for_nothing_is_done_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_timer(deadline: float | None) -> None:
        raise AssertionError("a timer was made")

    async def work() -> int:
        return 5

    monkeypatch.setattr(asyncio, "timeout_at", no_timer)
    assert asyncio.run(by(0.0, work())) == 5


def test_work_that_waits_gets_what_it_waits_for_and_its_errors() -> None:
    async def work() -> list[object]:
        loop = asyncio.get_running_loop()
        good, bad = loop.create_future(), loop.create_future()
        loop.call_soon(good.set_result, "good")
        found: list[object] = [await good]
        loop.call_soon(bad.set_exception, KeyError("bad"))
        try:
            await bad
        except KeyError as error:
            found.append(error.args[0])
        await asyncio.sleep(0)
        return found

    async def asked() -> list[object]:
        return await by(asyncio.get_running_loop().time() + 60, work())

    assert asyncio.run(asked()) == ["good", "bad"]


def test_an_error_of_the_work_is_raised_before_and_after_it_waits() -> None:
    async def work(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise KeyError("its own")

    for turns in (0, 1, 2):
        with pytest.raises(KeyError, match="its own"):
            asyncio.run(by(None, work(turns)))


def test_what_waits_past_its_deadline_is_cancelled_and_puts_its_things_away() -> None:
    put_away = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            put_away.append(True)

    async def asked() -> None:
        await by(asyncio.get_running_loop().time(), work())

    with pytest.raises(TimeoutError):
        asyncio.run(asked())
    assert put_away == [True]


def test_whoever_is_cancelled_from_outside_is_cancelled_and_not_out_of_time() -> None:
    begun = []

    async def work() -> None:
        begun.append(True)
        await asyncio.get_running_loop().create_future()

    async def asked() -> None:
        task = asyncio.create_task(by(asyncio.get_running_loop().time() + 60, work()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asked())
    assert begun == [True]
