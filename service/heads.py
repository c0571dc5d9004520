"""Heads that were seen before: most clients send the same one with each request, and what it says need not be made out
again.

What a parser makes of a head follows from its bytes alone. Where one was followed by just the body that it announces,
the same bytes with as long a body are such a request too.

Whatever in a head is another with each request, a trace's number or a user in the path, it does not come again: a head
is kept when it comes for the second time, and of those that came once there is no more than a number.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

# The request's own name, which is not looked for where a head is known; or more than a head: not for the like of this.
NOT_KEPT = frozenset((b"x-request-id", b"transfer-encoding", b"upgrade", b"expect"))
LONGEST = 2048
KEPT = 256
# Places for the numbers of heads that came once; a number gives way to the next one of its place.
SEEN_ONCE = 1024


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """What each header says, and which came more than once: these say what their lines say one after another, as one
    list (RFC 9110, 5.3).
    """
    found = dict(headers)
    if len(found) == len(headers):
        return found, frozenset()
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value)
    joined = {name: b", ".join(values) for name, values in lines.items()}
    return joined, frozenset(name for name, values in lines.items() if len(values) > 1)


class Head:
    """A head, the same for many requests, and what has been made of it. Nothing of one request is kept here."""

    __slots__ = ("by_name", "json", "length", "passed", "repeated", "scope")

    def __init__(self, scope: Mapping[str, Any], length: int) -> None:
        self.scope = {key: scope[key] for key in ("method", "path", "raw_path", "query_string", "headers")}
        self.by_name, self.repeated = by_name(scope["headers"])
        self.length = length  # of the body, in bytes
        self.passed: Any = None  # what the application has found the head to be fit for
        self.json = False  # whether it has found that the body may be JSON


class Heads:
    """The heads of requests that keep their connection and have their body's length, if any, in the head."""

    def __init__(self) -> None:
        # When the newer ones are many, the older ones go: those that were not found meanwhile.
        self._newer: dict[bytes, Head] = {}
        self._older: dict[bytes, Head] = {}
        self._once = array("q", bytes(8 * SEEN_ONCE))

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of the one request that `data` is, where the head is known; else None."""
        end = data.find(b"\r\n\r\n") + 4
        text = data[:end]
        head = self._newer.get(text) or self._found_among_older(text)
        return None if head is None or len(data) - end != head.length else (head, data[end:])

    def keep(self, data: bytes, scope: Mapping[str, Any], length: int) -> None:
        """Remember the head of `data`, which the parser took for a whole request and nothing else, of a body of
        `length`, where it has come before.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end > LONGEST or len(data) - end != length or scope["http_version"] != "1.1":
            return
        if not NOT_KEPT.isdisjoint(name for name, _ in scope["headers"]):
            return
        text = data[:end]
        number = hash(text)
        if self._once[number % SEEN_ONCE] == number:
            self._add(text, Head(scope, length))
        self._once[number % SEEN_ONCE] = number

    def _found_among_older(self, text: bytes) -> Head | None:
        head = self._older.pop(text, None)
        if head is not None:
            self._add(text, head)
        return head

    def _add(self, text: bytes, head: Head) -> None:
        if len(self._newer) >= KEPT // 2:
            self._older, self._newer = self._newer, {}
        self._newer[text] = head
