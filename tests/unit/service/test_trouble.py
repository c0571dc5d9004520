"""What is logged of a store that is in trouble: each reason once, until it works again."""

import logging

import pytest

from service.state.trouble import Trouble


def test_reasons_that_come_by_turns_are_logged_once_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twhin.state")
    trouble = Trouble()
    for _ in range(2):
        for _ in range(50):
            for reason in ("it cannot be reached", "it does not answer in time"):
                trouble.begin("read", reason)
                assert trouble.reason == reason, "whoever asks is told the last one"
        trouble.end("read")
        assert trouble.reason is None
    assert [record.getMessage() for record in caplog.records] == 2 * [
        "engagements: read fails: it cannot be reached",
        "engagements: read fails: it does not answer in time",
        "engagements: read works again",
    ]


def test_operations_have_reasons_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble()
    for operation in ("read", "write", "read", "write"):
        trouble.begin(operation, "it cannot be reached")
    assert len(caplog.records) == 2
    trouble.end("read")
    assert not trouble.has("read")
    assert trouble.has("write")
