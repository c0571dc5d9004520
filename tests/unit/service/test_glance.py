"""What is refused at a glance is exactly one whole request, whatever is read before and after it."""

import random

import pytest

from faults.http import CONFLICTS, OFFERS, PLANTED
from service.glance import Glance

BODY = b'{"user": "1"}'
HEAD = b"POST /recommend?k=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
WHOLE = {
    "length": HEAD + LENGTH + BODY,
    "chunked": HEAD + CHUNKED,
    "no body": b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture
def glance() -> Glance:
    return Glance()


def test_one_whole_request_is_seen(glance: Glance) -> None:
    for _ in range(2):
        assert glance.target(WHOLE["length"]) == ("POST", b"/recommend?k=1")
        assert glance.target(WHOLE["chunked"]) == ("POST", b"/recommend?k=1")
        assert glance.target(WHOLE["no body"]) == ("GET", b"/livez")


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_less_and_nothing_more_is(glance: Glance, name: str) -> None:
    request = WHOLE[name]
    for end in range(len(request)):
        assert glance.target(request[:end]) is None
        assert glance.target(request + request[: end + 1]) is None
        assert glance.target(request) is not None, "what was read before leaves no trace"


@pytest.mark.parametrize("offer", [offer for offer in OFFERS if b"upgrade" in offer.partition(b"\r\n")[0].lower()])
def test_an_offer_of_another_protocol_is_looked_at_closely(glance: Glance, offer: bytes) -> None:
    assert glance.target(HEAD + offer + LENGTH + BODY) is None


@pytest.mark.parametrize("last", [b"Connection: close\r\n", b"Connection: CLOSE, x\r\n"])
def test_so_is_the_last_request_of_a_connection(glance: Glance, last: bytes) -> None:
    assert glance.target(HEAD + last + LENGTH + BODY) is None
    assert glance.target(WHOLE["length"].replace(b"HTTP/1.1", b"HTTP/1.0")) is None


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_so_is_framing_that_is_ambiguous(glance: Glance, conflict: bytes) -> None:
    framing = conflict % ((len(PLANTED),) * conflict.count(b"%d"))
    assert glance.target(HEAD + framing + b"\r\n" + PLANTED) is None


def test_bytes_of_any_kind_are_no_fault(glance: Glance) -> None:
    rng = random.Random(1)
    for _ in range(2000):
        request = bytearray(WHOLE[rng.choice(list(WHOLE))])
        for _ in range(rng.randrange(1, 4)):
            request[rng.randrange(len(request))] = rng.randrange(256)
        glance.target(bytes(request))
    assert glance.target(WHOLE["length"]) is not None
