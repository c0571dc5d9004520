"""What the client that blocks and the one that is awaited have in common: how a call becomes requests."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import httpx
import msgspec

from twhin_client.errors import TwhinError, Unreachable
from twhin_client.features import DecoderCache
from twhin_client.ids import listed
from twhin_client.operation import JSON_TYPE, OCTETS_TYPE, Operation, Plain, Request, request_of
from twhin_client.policy import Attempts, Hedge, Hedging, over
from twhin_client.types import BatchAnswer, BatchItem, EngagementEvent, ItemError

TIMEOUT_S, RETRIES, LOOKUP_MAX = 5.0, 2, 1000
PHASES = ("connect", "read", "write", "pool")
# Idle connections are kept less long than the service keeps them, so that few break under a request.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=60.0)

try:
    RELEASE = version("twhin-client")
except PackageNotFoundError:  # a checkout that is not installed
    RELEASE = "0"


class UserResult(NamedTuple):
    """One user of `recommend_many`. `item` is as in an answer to a batch, its `status` `ok`, `invalid`, or `failed`
    where the user's batch had no answer; `version` is None then.
    """

    user: str
    item: BatchItem
    version: str | None


@dataclass(frozen=True)
class Shared:
    """The settings of a client, and what it keeps."""

    url: str
    headers: Mapping[str, str]
    timeout: float
    retries: int
    hedging: Hedging
    version: str | None
    lookup_max: int
    decoders: DecoderCache = field(default_factory=DecoderCache)
    urls: dict[str, httpx.URL] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        url: str,
        key: str | None,
        timeout: float,
        retries: int,
        hedge: Hedge,
        version: str | None,
        lookup_max: int,
        headers: Mapping[str, str] | None,
    ) -> Shared:
        """Raises ValueError for what can never work."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!a:.80} is no http or https URL, such as http://127.0.0.1:8000")
        if timeout <= 0 or retries < 0 or lookup_max < 1:
            raise ValueError("timeout is a number of seconds above 0, retries at least 0, lookup_max at least 1")
        sent = {"user-agent": f"twhin-client/{RELEASE}", **(headers or {})}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        return cls(url.rstrip("/"), sent, timeout, retries, Hedging(hedge), version, lookup_max)

    def pinned(self, version: str | None) -> Shared:
        """The same, with look-ups of `version`."""
        return replace(self, version=version)

    def request(self, operation: Operation, ids: tuple[str | int, ...], query: Plain | None, body: Any) -> Request:
        """The request of a call; a pinned client names its version wherever one may be named."""
        if self.version is not None:
            if query is not None and query.get("version", self) is None and query.get("cursor") is None:
                query = {**query, "version": self.version}
            elif getattr(body, "version", self) is None:
                body.version = self.version
        if operation.name == "engagements":
            body.events = [_named(event) for event in body.events]
        return request_of(operation, ids, query, body)

    def built(
        self, request: Request, headers: Mapping[str, str], left: float, http: httpx.Client | httpx.AsyncClient | None
    ) -> httpx.Request:
        """The request as httpx sends it, with what is left of the deadline; `http` is a client of the caller's own,
        whose defaults are kept. Without one, merging defaults and parsing the URL is spared: half of the cost.
        """
        method, url = request.operation.method, self.url + request.path
        sent = {**headers, "x-request-timeout-ms": budget(left)}
        if http is not None:
            return http.build_request(method, url, content=request.content, headers=sent, extensions=extensions(left))
        known: httpx.URL | str | None = self.urls.get(request.path)
        if known is None:
            known = httpx.URL(url)
            if not request.operation.tail and "?" not in request.path:
                self.urls[request.path] = known
        return httpx.Request(method, known, content=request.content, headers=sent, extensions=extensions(left))

    def kind(self, request: Request) -> dict[str, str]:
        """The headers that depend on the operation."""
        accept = (
            OCTETS_TYPE
            if request.operation.vectors or request.operation.raw
            else "*/*"
            if request.operation.text
            else JSON_TYPE
        )
        return {"accept": accept} if request.content is None else {"accept": accept, "content-type": JSON_TYPE}

    def attempts(self, request: Request, timeout: float | None, now: float) -> Attempts:
        """The tries of one request."""
        return Attempts(request.operation, self.timeout if timeout is None else timeout, self.retries, now)

    def parts(self, body: Any) -> Iterator[list[str]]:
        """The ids of a look-up as strings, as many at a time as one request may have; at least one part."""
        ids = texts(body.ids)
        for start in range(0, max(1, len(ids)), self.lookup_max):
            yield ids[start : start + self.lookup_max]


def trust(url: str) -> ssl.SSLContext | bool:
    """What httpx verifies certificates by: over http nothing, and reading the usual authorities takes 30 ms."""
    return True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def headers_of(response: httpx.Response, operation: Operation) -> Mapping[str, str]:
    """The headers of an answer. Vectors have several that are needed, and httpx looks through all for each."""
    if not operation.vectors:
        return response.headers
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def extensions(left: float) -> dict[str, Any]:
    """httpx's time limits for one try: each phase has what is left of the whole."""
    return {"timeout": dict.fromkeys(PHASES, left)}


def budget(left: float) -> str:
    """What is left, for the service: it drops what nobody waits for any more."""
    return str(max(1, int(left * 1000)))


def error_of(error: httpx.HTTPError, seconds: float) -> TwhinError:
    """httpx's error as one of this tree."""
    if isinstance(error, httpx.TimeoutException):
        return over(seconds)
    sent = not isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.ProxyError)
    url = error.request.url  # of which netloc leaves a password out
    return Unreachable(f"{url.scheme}://{url.netloc.decode()}: {type(error).__name__}: {error}", sent=sent)


def texts(ids: Iterable[str | int]) -> list[str]:
    """Ids as strings; NumPy's arrays too. Raises TypeError for a single one."""
    return list(map(str, listed(ids)))


def _named(event: Any) -> Any:
    """The event with an id, so that it counts once however often it is sent."""
    if isinstance(event, EngagementEvent):
        return msgspec.structs.replace(event, id=secrets.token_hex(16)) if event.id is None else event
    return event if event.get("id") is not None else {**event, "id": secrets.token_hex(16)}


def batches(users: Iterable[str | int], size: int) -> Iterator[list[str]]:
    """The users, `size` at a time."""
    batch: list[str] = []
    for user in users:
        batch.append(str(user))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def results(users: list[str], answer: BatchAnswer | TwhinError) -> Iterator[UserResult]:
    """One result a user, of an answer or of why there is none."""
    if isinstance(answer, TwhinError):
        error = ItemError(code=answer.code, detail=str(answer))
        for user in users:
            yield UserResult(user, BatchItem(user=user, status="failed", error=error), None)
    else:
        for user, item in zip(users, answer.results, strict=True):
            yield UserResult(user, item, answer.version if item.version is msgspec.UNSET else item.version)
