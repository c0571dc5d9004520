"""Refusals are counted as they are made, and told to the metrics and the log together."""

import logging

import pytest

from service.metrics import Metrics
from service.refusals import SAMPLED, Refusals


def value(metrics: Metrics, start: str) -> float:
    lines = metrics.exposition().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


@pytest.mark.parametrize("logged", [True, False])
def test_refusals_are_told_together(logged: bool, caplog: pytest.LogCaptureFixture) -> None:
    metrics, asked = Metrics(), list[float]()
    refusals, route = Refusals(metrics, logged=logged), metrics.route("/recommend", "POST")

    def waited() -> float:
        asked.append(0.02)
        return asked[-1]

    with caplog.at_level(logging.INFO, logger="twhin.access"):
        for number in range(3 * SAMPLED):
            refusals.count(route, "concurrency" if number % 3 else "search_queue", waited)
        refusals.tell()
        refusals.tell()  # has nothing new to say
    assert len(asked) == 3
    assert value(metrics, "twhin_shed_wait_seconds_count") == 3
    assert value(metrics, 'twhin_shed_wait_seconds_bucket{le="0.025"}') == 3
    assert value(metrics, 'twhin_shed_wait_seconds_bucket{le="0.015"}') == 0
    assert value(metrics, 'twhin_shed_total{reason="concurrency"}') == 2 * SAMPLED
    assert value(metrics, 'twhin_shed_total{reason="search_queue"}') == SAMPLED
    assert value(metrics, 'twhin_http_requests_total{method="POST",route="/recommend",status_class="5xx"}') == 48
    lines = [(one.route, one.reason, one.count, one.status) for one in caplog.records]  # type: ignore[attr-defined]
    told = [("/recommend", "search_queue", SAMPLED, 503), ("/recommend", "concurrency", 2 * SAMPLED, 503)]
    assert lines == (told if logged else [])
