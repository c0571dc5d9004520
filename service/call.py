"""One request and one answer, between the ASGI server and the handlers: the least that both need."""

import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from bundle.space import Bundle
from service.heads import Head, by_name
from service.problems import Problem, invalid, overloaded, problem_of_decoding, too_large
from service.runtime import Runtime
from service.wire.common import MAX_ID_CHARACTERS, is_id

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

# The query parameters that hold a list: given again, they add up.
REPEATED = ("exclude", "spaces")
# Where a server's `extensions` have the function that takes whole answers: see HttpProtocol.
WHOLE_ANSWER = "twhin.whole_answer"
JSON = "application/json"
OCTETS = "application/octet-stream"


class Reply(msgspec.Struct):
    """An answer: bytes, and what they are."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: dict[str, str] = {}


class Call:
    """A request on its way through the service. Made by the gateway, read by the handlers."""

    __slots__ = (
        "_headers",
        "_repeated",
        "body",
        "deadline",
        "head",
        "ids",
        "method",
        "parameters",
        "receive",
        "request_id",
        "route",
        "runtime",
        "scope",
        "seconds",
        "since",
        "trace",
    )

    def __init__(self, scope: Scope, receive: Receive, runtime: Runtime) -> None:
        head: Head | None
        self.head = head = scope.get("twhin.head")
        self._headers: dict[bytes, bytes]
        self._repeated: frozenset[bytes]
        if head is None:
            self._headers, self._repeated = by_name(scope["headers"])
        else:
            self._headers, self._repeated = head.by_name, head.repeated
        self.scope = scope
        self.receive = receive
        self.runtime = runtime
        asked = self.header(b"x-request-id") if head is None else None  # no head of that kind is remembered
        self.request_id = asked if asked is not None and REQUEST_ID.match(asked) else new_request_id()
        self.body = b""
        self.deadline = 0.0
        self.seconds = 0.0  # that the answer may take
        self.since = 0.0  # when it was whole, by the monotonic clock
        self.method: str = scope["method"]
        self.ids: Mapping[str, str] = {}
        self.parameters: Mapping[str, str] = {}
        self.route = "unmatched"
        self.trace: str | None = None  # where this service makes a span of it

    def header(self, name: bytes) -> str | None:
        """What the headers called `name` (lower case) say, as one list where there are several."""
        found = self._headers.get(name)
        return None if found is None else found.decode("latin-1")

    def only(self, name: bytes) -> str | None:
        """What the one header called `name` says. Raises Problem 400 where there are several: whoever stands in between
        may have heeded another one.
        """
        if name in self._repeated:
            raise Problem("malformed", f"{name.decode().title()} is given more than once")
        return self.header(name)

    def key(self) -> str | None:
        """The API key that was presented: `Authorization: Bearer …`, else `X-Api-Key`. Raises Problem 400 for two."""
        authorization, key = self.only(b"authorization"), self.only(b"x-api-key")
        if authorization is not None and authorization[:7].lower() == "bearer ":
            return authorization[7:].strip()
        return key

    async def bundle(self, version: str | None) -> Bundle:
        """The version of that name, the serving one by default. Raises BundleNotFound where it is not kept, Problem 403
        where it was never published and the key is no administrator's."""
        return await self.runtime.versions.named(version, unpublished=lambda: self._administers)

    @property
    def _administers(self) -> bool:
        return self.runtime.keys.reaches(self.key(), "admin")

    def user(self) -> str:
        """The user in the path. Raises Problem 422 for what is no id, as a client writes that has none at hand."""
        if not is_id(self.ids["id"]):
            raise invalid("/", f"the user in the path is no id: it has 1 to {MAX_ID_CHARACTERS} characters")
        return self.ids["id"]

    def query(self) -> dict[str, str]:
        """The query parameters of one value. Raises Problem 422 for one given twice, or that the route has not."""
        given = self._parsed_query()
        for name, values in given.items():
            if name not in self.parameters:
                raise invalid("/", f"an unknown parameter; there are: {', '.join(self.parameters) or 'none'}")
            if len(values) > 1 and name not in REPEATED:
                raise invalid(f"/{name}", "given more than once")
        return {name: values[0] for name, values in given.items() if name not in REPEATED}

    def values(self, name: str) -> list[str]:
        """The values of a query parameter that may be repeated, in the order given."""
        return self._parsed_query().get(name, [])

    def _parsed_query(self) -> dict[str, list[str]]:
        raw: bytes = self.scope.get("query_string", b"")
        try:
            return parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise Problem("malformed", "the query string is not URL-encoded UTF-8") from error

    def take_body(self) -> bool:
        """Take the JSON body, where it was whole when the request began and its client is still there. Whether it was.
        Raises as `read_body` does.
        """
        whole: bytearray | None = self.scope.get("twhin.body")
        if whole is None:
            return False
        if self.head is None or not self.head.json:
            self._require_json()
            if self.head is not None:
                self.head.json = True
        if len(whole) > self.runtime.settings.limits.body_max_bytes:
            raise too_large(self.runtime.settings.limits.body_max_bytes)
        self.body = bytes(whole)
        whole.clear()
        return True

    async def read_body(self) -> None:
        """Read the JSON body to its end, into `body`. Raises Problem: for another media type, or as soon as it is more
        than the limit allows.

        All bodies that are still arriving share the memory of as many whole ones as may be in work: whoever sends
        slowly takes no more of it than they would.
        """
        self._require_json()
        runtime, limits = self.runtime, self.runtime.settings.limits
        declared = int(self.header(b"content-length") or 0)
        if declared > limits.body_max_bytes:  # or a client that asks would be told to go on
            raise too_large(limits.body_max_bytes)
        parts, size = [], 0
        try:
            while True:
                message = await self._next()
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                runtime.arriving_bytes += len(part)
                if size > limits.body_max_bytes:
                    raise too_large(limits.body_max_bytes)
                if not message.get("more_body"):
                    self.body = b"".join(parts)
                    return
                if runtime.arriving_bytes > limits.concurrency_max * limits.body_max_bytes:
                    runtime.metrics.shed("bodies")
                    raise overloaded("too many bodies are arriving")
        finally:
            runtime.arriving_bytes -= size

    async def _next(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def _require_json(self) -> None:
        # A web page may send a body of no type, or of three others, anywhere without asking: it is refused here.
        media = self.only(b"content-type")
        if media != JSON and (media or "").partition(";")[0].strip().lower() != JSON:
            raise Problem("unsupported_media_type", f"the body must be {JSON}")
        coding = self.header(b"content-encoding") or "identity"
        framing = self.header(b"transfer-encoding") or "chunked"
        if coding.lower() != "identity" or framing.lower() != "chunked":
            raise Problem("unsupported_media_type", "the body must not be compressed")

    def json(self, decoder: "msgspec.json.Decoder[Body]") -> Body:
        """The body as `decoder`'s type. Raises Problem for no JSON, or an unfit value."""
        try:
            return decoder.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise problem_of_decoding(error, decoder.type) from None


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def new_request_id() -> str:
    """An id that no other request has."""
    return f"{_PROCESS}-{next(_numbers):x}"
