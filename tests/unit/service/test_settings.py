"""Settings that no timer takes are refused before anything starts."""

import os

import pytest
from pydantic import ValidationError

from bundle.errors import ConfigError
from bundle.records import is_whole
from service.settings import Limits, Settings, Variables

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


@pytest.mark.parametrize("made", [Settings, Limits])
def test_no_number_is_too_large_for_what_counts_with_it(made: type[Variables]) -> None:
    largest = 2**63 - 1  # of SQLite; the documents in JSON have a bit more
    with pytest.raises(ValidationError) as refused:
        made(**dict.fromkeys(WHOLE & made.model_fields.keys(), largest + 1))
    assert {error["loc"][0] for error in refused.value.errors()} == WHOLE & made.model_fields.keys()


@pytest.mark.parametrize("made", [Settings, Limits])
def test_what_is_set_to_nothing_is_not_set(made: type[Variables], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in made.model_fields.items():
        if name != "limits" and not isinstance(field.default, tuple):  # an empty list is refused
            monkeypatch.setenv(f"TWHIN_{name.upper()}", "")
    assert made() == made.model_construct()


@pytest.mark.parametrize(
    "name", ["read_keys", "redis_prefix", "redis_url", "otlp_endpoint", "hosts", "cors_origins", "k_max", "verify"]
)
def test_a_text_that_is_no_utf8_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, f"TWHIN_{name.upper()}".encode(), b"redis://caf\xe9")
    with pytest.raises(ConfigError, match=f"^TWHIN_{name.upper()} is not UTF-8$"):
        Settings()


def test_a_file_may_be_called_by_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"TWHIN_STATE", b"caf\xe9.db")
    assert bytes(Settings().state_path) == b"caf\xe9.db"


WHOLE = {name for made in (Settings, Limits) for name, field in made.model_fields.items() if is_whole(field.annotation)}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_whole_number_is_written_in_digits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("10.0", "1e3", "1_000", "0x10", "+5", "ten", "\u0661", "inf"):
        monkeypatch.setenv(f"TWHIN_{name.upper()}", text)
        with pytest.raises(ValidationError, match="Input should be a whole number, in digits"):
            Settings()


def test_digits_are_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_K_MAX", "10\n")  # as a file of variables may have it
    monkeypatch.setenv("TWHIN_WATCH_SECONDS", "1e1")
    made = Settings()
    assert (made.limits.k_max, made.watch_seconds) == (10, 10.0)
    monkeypatch.setenv("TWHIN_K_MAX", "-1")
    with pytest.raises(ValidationError, match="greater than 0"):
        Settings()
    with pytest.raises(ValidationError, match="in digits"):
        Limits(k_max=10.0)


@pytest.mark.parametrize(
    "text", ["http://api.example", "api.example:8443", "*.example", "api.example/x", "a:80", "zoë", ".", "a.."]
)
def test_a_host_that_no_request_has_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_HOSTS", f"localhost,{text}")
    with pytest.raises(ConfigError, match=r"TWHIN_HOSTS: a name stands alone, as api\.example"):
        Settings()


def test_names_and_addresses_are_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_HOSTS", "*,API.example, my_host,10.0.0.1,[::1],fd00::2")
    assert Settings().hosts == ("*", "API.example", "my_host", "10.0.0.1", "::1", "fd00::2")


@pytest.mark.parametrize(
    "text",
    [
        "a.example",
        "https://a.example/x",
        "https://*.example",
        "https://u@a.example",
        "a:80",
        "https://zoë.example",
        "http://[::1",
        "http://[x]",
        "http://[1:2]",
        "https://a.example:",
        "https://a.example:0443",
        "https://a.example:65536",
        "https://a.example:x",
        "https://[::1]:0080",
        "https://:80",
        "https://exa|mple",
        "https://127.1",
        "https://a.1",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_CORS_ORIGINS", f"https://b.example,{text}")
    with pytest.raises(ConfigError, match="TWHIN_CORS_ORIGINS: an origin is a scheme and a host"):
        Settings()


def test_origins_are_taken_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TWHIN_CORS_ORIGINS",
        "HTTPS://A.example:443/,http://b.example:80,http://[0:0::1]:8000,https://c:80,*,"
        "http://10.0.0.7:65535,chrome-extension://abc,null,https://my_host.",
    )
    written = ("https://a.example", "http://b.example", "http://[::1]:8000", "https://c:80", "*")
    written += ("http://10.0.0.7:65535", "chrome-extension://abc", "null", "https://my_host.")
    assert Settings().cors_origins == written
