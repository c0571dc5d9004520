"""One request and one answer, between the ASGI server and the handlers: the least that both need."""

import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from service.problems import Problem, problem_of_decoding
from service.runtime import Runtime

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Body = TypeVar("Body")

# New ids: one random part a process and a number, since asking the system for randomness each time costs more.
_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z", re.ASCII)

JSON = "application/json"
OCTETS = "application/octet-stream"
# How many times the limit is read and thrown away from a body that is too large, before the connection is closed.
DISCARDED_LIMITS = 4


class Reply(msgspec.Struct):
    """An answer: bytes, and what they are."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: dict[str, str] = {}


class Call:
    """A request on its way through the service. Made by the gateway, read by the handlers."""

    __slots__ = ("_headers", "deadline", "ids", "method", "receive", "request_id", "route", "runtime", "scope")

    def __init__(self, scope: Scope, receive: Receive, runtime: Runtime) -> None:
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.scope = scope
        self.receive = receive
        self.runtime = runtime
        self.request_id = _request_id(self.header(b"x-request-id"))
        self.deadline = 0.0
        self.method: str = scope["method"]
        self.ids: Mapping[str, str] = {}
        self.route = "unmatched"

    def header(self, name: bytes) -> str | None:
        """The last header called `name` (lower case)."""
        found = self._headers.get(name)
        return None if found is None else found.decode("latin-1")

    def key(self) -> str | None:
        """The API key that was presented: `Authorization: Bearer …`, else `X-Api-Key`."""
        authorization = self.header(b"authorization")
        if authorization is not None and authorization[:7].lower() == "bearer ":
            return authorization[7:].strip()
        return self.header(b"x-api-key")

    def query(self) -> dict[str, str]:
        """The query parameters; of one given twice, the last."""
        raw: bytes = self.scope.get("query_string", b"")
        if not raw:
            return {}
        try:
            parsed = parse_qs(raw.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
        except ValueError as error:
            raise Problem("malformed", "the query string is not URL-encoded UTF-8") from error
        return {name: values[-1] for name, values in parsed.items()}

    async def body(self) -> bytes:
        """The request body, refused as soon as it is larger than the limit. Raises Problem."""
        limit = self.runtime.settings.limits.body_max_bytes
        message = await self._next()
        if not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            _check_size(len(whole), limit)
            return whole
        parts, size = [], 0
        while True:
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                await self._discard(message, DISCARDED_LIMITS * limit)
                _check_size(size, limit)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self._next()

    async def _discard(self, message: Message, most: int) -> None:
        """Read on, up to `most` bytes, and keep nothing: a client that is still sending would miss the answer."""
        size = 0
        while message.get("more_body") and size < most:
            message = await self._next()
            size += len(message.get("body", b""))

    async def _next(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def json(self, decoder: "msgspec.json.Decoder[Body]") -> Body:
        """The body as `decoder`'s type. Raises Problem for another media type, no JSON, or an unfit value."""
        self._require_json()
        body = await self.body()
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise problem_of_decoding(error) from None

    def _require_json(self) -> None:
        media = self.header(b"content-type")
        if media not in (None, JSON) and media.partition(";")[0].strip().lower() != JSON:
            raise Problem("unsupported_media_type", f"the body must be {JSON}")
        if self.header(b"content-encoding") not in (None, "identity"):
            raise Problem("unsupported_media_type", "the body must not be compressed")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def _request_id(given: str | None) -> str:
    """The client's id where it is a plain one, else a new one."""
    if given is not None and REQUEST_ID.match(given):
        return given
    return f"{_PROCESS}-{next(_numbers):x}"


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise Problem("body_too_large", f"the body may have {limit} bytes at most", headers={"connection": "close"})
