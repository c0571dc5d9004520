"""Heads that were seen before: most clients send the same one with each request, and what it says need not be made out
again.

What a parser makes of a head follows from its bytes alone. Where one was followed by just the body that it announces,
the same bytes with as long a body are such a request too.
"""

from collections.abc import Mapping
from typing import Any

# Of every request another, so that they would be kept for nothing; or more than a head: not for the like of this.
NOT_KEPT = frozenset((b"x-request-id", b"traceparent", b"transfer-encoding", b"upgrade", b"expect"))
LONGEST = 2048
KEPT = 256


class Head:
    """A head, the same for many requests, and what has been made of it. Nothing of one request is kept here."""

    __slots__ = ("by_name", "json", "length", "passed", "scope")

    def __init__(self, scope: Mapping[str, Any], length: int) -> None:
        self.scope = {key: scope[key] for key in ("method", "path", "raw_path", "query_string", "headers")}
        self.by_name: dict[bytes, bytes] = dict(scope["headers"])
        self.length = length  # of the body, in bytes
        self.passed: Any = None  # what the application has found the head to be fit for
        self.json = False  # whether it has found that the body may be JSON


class Heads:
    """The heads of requests that keep their connection and have their body's length, if any, in the head."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of the one request that `data` is, where the head is known; else None."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._known.get(data[:end])
        return None if head is None or len(data) - end != head.length else (head, data[end:])

    def keep(self, data: bytes, scope: Mapping[str, Any], length: int) -> None:
        """Remember the head of `data`, which the parser took for a whole request and nothing else, of a body of
        `length`.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end > LONGEST or len(data) - end != length or scope["http_version"] != "1.1":
            return
        if not NOT_KEPT.isdisjoint(name for name, _ in scope["headers"]):
            return
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[data[:end]] = Head(scope, length)
