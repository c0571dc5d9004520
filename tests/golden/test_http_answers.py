"""The service answers as it is written down in `answers/`; floating point may differ in its last digits."""

import re
from collections.abc import Mapping

import pytest

from tests.golden.http_requests import ANSWERS, REQUESTS, Request, answer, services

DECIMAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|-?\d+e-?\d+")


@pytest.fixture(scope="module")
def answers() -> Mapping[Request, str]:
    """Every answer of the services of today, asked for in the order of the list."""
    with services() as urls:
        return {request.file: answer(urls[request.service], request) for request in REQUESTS}


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{request.service}/{request.name}")
def test_the_answer_is_as_it_was(request_: Request, answers: Mapping[Request, str]) -> None:
    now, then = answers[request_.file], request_.file.read_text(encoding="utf-8")
    assert DECIMAL.sub("…", now) == DECIMAL.sub("…", then)
    assert [float(text) for text in DECIMAL.findall(now)] == pytest.approx(
        [float(text) for text in DECIMAL.findall(then)], rel=1e-4, abs=1e-5
    )


def test_every_answer_has_its_request() -> None:
    assert sorted(ANSWERS.rglob("*.http")) == sorted(request.file for request in REQUESTS)
