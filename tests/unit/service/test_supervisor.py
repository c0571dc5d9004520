"""Which workers a supervisor takes to hang."""

import os
from collections.abc import Iterator

import pytest

from service.settings import Settings
from service.shared_metrics import BEAT
from service.supervisor import HUNG_SECONDS, STOOD_STILL_SECONDS, Child, Supervisor, spawn


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor(Settings(), [], 1, lambda: None)


@pytest.fixture
def waker() -> Iterator[int]:
    reader, writer = os.pipe()
    os.write(writer, b"x")  # nobody need wait
    yield reader
    os.close(reader)
    os.close(writer)


def test_a_worker_that_is_silent_hangs_but_not_after_the_whole_service_stood_still(
    supervisor: Supervisor, waker: int
) -> None:
    child = Child(0, spawn.Process(), spawn.Pipe()[0], serves=True)
    supervisor._metrics.regions[0].cells[BEAT] -= 2 * HUNG_SECONDS
    assert supervisor._hangs(child)
    supervisor._looked -= 2 * STOOD_STILL_SECONDS
    supervisor._turn(waker)
    assert not supervisor._hangs(child)
    supervisor._patient_until -= HUNG_SECONDS
    assert supervisor._hangs(child)
