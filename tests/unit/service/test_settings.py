"""Settings that no timer takes are refused before anything starts."""

import pytest
from pydantic import ValidationError

from service.settings import Limits, Settings

DURATIONS = ("watch_seconds", "drain_seconds", "shutdown_seconds", "keep_alive_seconds", "redis_retry_seconds")


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("text", ["inf", "nan", "1e300", "86401", "99999999999999999999"])
def test_nothing_takes_longer_than_a_day(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TWHIN_{name.upper()}", text)
    with pytest.raises(ValidationError, match=name):
        Settings()


@pytest.mark.parametrize("name", ["timeout_ms", "timeout_max_ms"])
def test_nor_does_a_deadline(name: str) -> None:
    Limits(**{name: 86_400_000})
    with pytest.raises(ValidationError, match=name):
        Limits(**{name: 9**400})
