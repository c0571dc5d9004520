"""How many requests are let in: fewer while answers take long here, all again when they do not."""

import time

import pytest

from service.admission import FEWEST, PERIOD_SECONDS, TARGET_SECONDS, Admission


def periods(admission: Admission, n: int, seconds: float, *, elsewhere: float = 0.0) -> None:
    """`n` periods of which every answer took so long, and waited so long for others."""
    for _ in range(n):
        admission._until = 0.0
        admission.waited_elsewhere(elsewhere)
        admission.answered(seconds)


def room(admission: Admission) -> int:
    """How many are let in."""
    admission.inflight = 0
    while not admission.full:
        admission.inflight += 1
    return admission.inflight


def test_fewer_are_let_in_while_answers_take_long_and_all_again_afterwards() -> None:
    admission = Admission(256)
    assert room(admission) == 256
    periods(admission, 3, 2 * TARGET_SECONDS)
    fewer = room(admission)
    assert FEWEST < fewer < 256
    periods(admission, 100, 2 * TARGET_SECONDS)
    assert room(admission) == FEWEST
    periods(admission, round(10 / PERIOD_SECONDS), TARGET_SECONDS / 10)
    assert room(admission) == 256


def test_the_limit_starts_from_who_is_there() -> None:
    admission = Admission(256)
    admission.inflight = 40
    periods(admission, 1, 2 * TARGET_SECONDS)
    assert room(admission) == 32


@pytest.mark.parametrize("most", [1, 4])
def test_a_small_limit_is_kept(most: int) -> None:
    admission = Admission(most)
    for seconds in (2 * TARGET_SECONDS, 0.0):
        periods(admission, 50, seconds)
        assert room(admission) == most


def test_waiting_for_others_does_not_count() -> None:
    admission = Admission(256)
    periods(admission, 50, 5 * TARGET_SECONDS, elsewhere=4.9 * TARGET_SECONDS)
    assert room(admission) == 256


def test_a_request_ages_in_its_socket_where_there_is_company_or_the_loop_is_late() -> None:
    def waited() -> float:
        return 60.0

    admission = Admission(100)
    assert time.monotonic() - admission.arrival(waited) < 30  # alone it has not waited, and nobody is asked
    admission.lag = 3.0
    assert time.monotonic() - admission.arrival(waited) > 30
    admission.lag, admission.inflight = 0.0, FEWEST
    assert time.monotonic() - admission.arrival(waited) > 30
