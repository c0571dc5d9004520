"""Refusals take no more than their share of the time: who asks again sooner is not read for a while."""

import asyncio
import itertools
import random

import pytest

from service import held_back
from service.admission import FEWEST, Admission
from service.held_back import (
    KEPT_SECONDS,
    KNOWN_SECONDS,
    LONGEST_SECONDS,
    SHARE,
    TOGETHER_SECONDS,
    UNSEEN,
    Allowance,
    HeldBack,
)
from service.metrics import Metrics


class Clock:
    """The time and the CPU time, as the module reads them."""

    def __init__(self) -> None:
        self.now, self.used = 1000.0, 500.0
        self.asked = 0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        self.asked += 1
        return self.used

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.used += seconds


class Connection:
    """Notes that it is read again."""

    def __init__(self) -> None:
        self.read = 0

    def read_again(self) -> None:
        self.read += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(held_back, "time", clock)
    return clock


@pytest.fixture
def draining() -> list[bool]:
    return [False]


@pytest.fixture
def admission() -> Admission:
    admission = Admission(256)
    admission.inflight = 256
    return admission


@pytest.fixture
def searches_full() -> list[bool]:
    return [False]


@pytest.fixture
def held(admission: Admission, draining: list[bool], searches_full: list[bool]) -> HeldBack:
    return HeldBack(admission, Metrics(), lambda: draining[0], lambda: searches_full[0])


def refuse(held: HeldBack, clock: Clock, seconds: float) -> list[Connection]:
    """Refuse one connection after the other, each in so many seconds, until one is held back: that and those before."""
    refused = []
    for _ in itertools.count():
        refused.append(Connection())
        clock.work(seconds)
        if held.refused(refused[-1], clock.now - seconds):
            return refused
    raise AssertionError


def test_who_asks_again_as_soon_as_it_may_takes_no_more_than_the_share() -> None:
    rng, allowance, now, spent = random.Random(1), Allowance(), 0.0, 0.0
    for _ in range(20_000):
        cost = rng.uniform(5e-6, 100e-6)
        now, spent = max(now, allowance.spend(now, cost)), spent + cost
    assert SHARE * now <= spent <= SHARE * (now + KEPT_SECONDS) + 100e-6


def test_what_was_not_used_is_kept_for_a_moment_and_no_longer() -> None:
    allowance = Allowance()
    at_once = [allowance.spend(1000.0, 23e-6) <= 1000.0 for _ in range(2000)].count(True)
    assert at_once == int(SHARE * KEPT_SECONDS / 23e-6)
    assert [allowance.spend(2000.0, 23e-6) <= 2000.0 for _ in range(2000)].count(True) == at_once


def test_nobody_waits_longer_than_a_refusal_says_and_none_for_what_others_spent_before() -> None:
    allowance = Allowance()
    ends = [allowance.spend(1000.0, 0.001) for _ in range(2000)]
    assert ends == sorted(ends)
    assert ends[-1] == 1000.0 + LONGEST_SECONDS
    later = 1000.0 + LONGEST_SECONDS + KEPT_SECONDS
    assert allowance.spend(later, 20e-6) <= later


async def test_the_first_to_be_refused_is_the_first_to_be_read_again(held: HeldBack, clock: Clock) -> None:
    *_, first = refuse(held, clock, 200e-6)
    second, third = Connection(), Connection()
    assert held.refused(second, clock.now - 200e-6)
    clock.work(2 * UNSEEN * 200e-6 / SHARE)
    assert held.refused(third, clock.now - 200e-6)
    held._look()
    assert (first.read, second.read, third.read) == (1, 1, 0)
    clock.now += LONGEST_SECONDS  # others had the processor
    held._look()
    held._look()
    assert (first.read, second.read, third.read) == (1, 1, 1)


async def test_those_whose_time_is_over_are_read_again_together(held: HeldBack, clock: Clock) -> None:
    *_, first = refuse(held, clock, 200e-6)
    second = Connection()
    assert held.refused(second, clock.now - 200e-6)
    held._look()
    clock.work(2 * UNSEEN * 200e-6 / SHARE)
    held._look()
    assert (first.read, second.read) == (0, 0)
    clock.work(TOGETHER_SECONDS)
    held._look()
    assert (first.read, second.read) == (1, 1)


async def test_the_cpu_time_is_not_asked_for_at_every_refusal_of_many(held: HeldBack, clock: Clock) -> None:
    refuse(held, clock, 20e-6)
    asked = clock.asked
    for _ in range(50):
        held.refused(Connection(), clock.now)
    assert clock.asked == asked
    clock.work(KNOWN_SECONDS)
    held.refused(Connection(), clock.now)
    assert clock.asked == asked + 1


async def test_where_hardly_anything_is_in_work_as_many_are_read_as_it_takes(
    held: HeldBack, clock: Clock, admission: Admission
) -> None:
    *_, first = refuse(held, clock, 20e-6)
    others = [Connection() for _ in range(2 * FEWEST)]
    for one in others:
        assert held.refused(one, clock.now)
    held._look()
    assert first.read == 0
    admission.inflight = FEWEST - 3
    held._look()
    assert [one.read for one in (first, *others)] == [1] * 3 + [0] * (2 * FEWEST - 2)


async def test_where_few_are_in_work_but_as_many_searches_as_there_is_room_for_nobody_is_read_to_be_refused(
    held: HeldBack, clock: Clock, admission: Admission, searches_full: list[bool]
) -> None:
    *_, first = refuse(held, clock, 20e-6)
    admission.inflight, searches_full[0] = FEWEST - 3, True
    held._look()
    assert first.read == 0
    searches_full[0] = False
    held._look()
    assert first.read == 1


async def test_what_ends_is_forgotten(held: HeldBack, clock: Clock, admission: Admission) -> None:
    *_, first = refuse(held, clock, 20e-6)
    held.lost(first)
    clock.now += 1
    held._look()
    assert first.read == 0
    assert not admission.behind


async def test_a_service_that_ends_hears_everybody(held: HeldBack, clock: Clock, draining: list[bool]) -> None:
    *_, first = refuse(held, clock, 20e-6)
    draining[0] = True
    held._look()
    assert first.read == 1
    assert not held.refused(Connection(), clock.now - 1)


async def test_it_is_looked_again_as_long_as_anybody_is_held_back(held: HeldBack, admission: Admission) -> None:
    held._allowance._paid = 1e12
    first = Connection()
    assert held.refused(first, held_back.time.monotonic())
    assert admission.behind
    admission.inflight = 0
    await asyncio.sleep(0.1)
    assert first.read == 1
    assert not admission.behind


async def test_an_interruption_is_no_cost_of_a_refusal(held: HeldBack, clock: Clock) -> None:
    assert not held.refused(Connection(), clock.now - 1)
    assert not held.refused(Connection(), clock.now - 20e-6)


async def test_who_is_refused_often_in_one_read_pays_for_each(held: HeldBack, clock: Clock) -> None:
    refusals = int(SHARE * KEPT_SECONDS / UNSEEN / 20e-6)
    assert not held.refused(Connection(), clock.now - refusals * 20e-6, refusals)
    assert held.refused(Connection(), clock.now - refusals * 20e-6, refusals)
