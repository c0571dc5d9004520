"""The client that blocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import httpx

from twhin_client.errors import ServiceFailed, TwhinError, Unreachable
from twhin_client.features import FeatureDecoder
from twhin_client.operation import Operation, Plain, Request, answer_of, problem_of
from twhin_client.operations import CODEBOOK, SyncOperations
from twhin_client.policy import Attempts, Hedge
from twhin_client.shared import (
    LIMITS,
    LOOKUP_MAX,
    RETRIES,
    TIMEOUT_S,
    Shared,
    UserResult,
    batches,
    error_of,
    headers_of,
    results,
    trust,
)
from twhin_client.tracing import trace_context
from twhin_client.vectors import Vectors


class Received(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client(SyncOperations):
    """A client of the service at `url`. Threads may share it; close it, or use it in a `with`.

    `timeout`: seconds that a call may take in all, retries and waits included. `retries`: how often a 503 is tried
    again after its `Retry-After`, with full jitter, and a request that was cut off where that is safe. `hedge`: seconds
    after which a second request is sent beside a slow first one, or "p95" for this client's own; off by default.
    `version`: look-ups are of this version for as long as it is on the service's disk. `lookup_max`: ids in one
    request of a look-up; longer ones are split, and all parts are of one version. `http`: an httpx.Client of your own.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        hedge: Hedge = None,
        version: str | None = None,
        lookup_max: int = LOOKUP_MAX,
        headers: Mapping[str, str] | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._shared = Shared.of(url, key, timeout, retries, hedge, version, lookup_max, headers)
        self._given = http
        self._http = http or httpx.Client(limits=LIMITS, verify=trust(url))
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    @property
    def version(self) -> str | None:
        """The version that look-ups are of; None for whatever serves."""
        return self._shared.version

    def pin(self, version: str | None = None) -> Client:
        """A client on the same connections whose look-ups are of `version`; by default of the one that serves now."""
        pinned = Client.__new__(Client)
        pinned._http, pinned._given, pinned._pool = self._http, self._given, None
        pinned._shared = self._shared.pinned(version or str(self.info()["version"]))
        return pinned

    def decoder(
        self, type: str, *, version: str | None = None, space: str | None = None, timeout: float | None = None
    ) -> FeatureDecoder:
        """The codebook of a type, to decode codes here. It is kept, and asked for again by its ETag."""
        key = type, space, version or self._shared.version
        decoders = self._shared.decoders
        fresh = decoders.fresh(key)
        if fresh is not None:
            return fresh
        request = self._shared.request(CODEBOOK, (type,), {"version": key[2], "space": space}, None)
        received = self._send(request, timeout, decoders.headers(key))
        return decoders.answered(key, None if received.status == 304 else answer_of(request, *received))

    def decode(self, type: str, codes: Vectors, *, space: str | None = None) -> Vectors:
        """The vectors of codes that `features(…, representation="codes")` gave."""
        return self.decoder(type, version=codes.version, space=space).decode_vectors(codes)

    def ids(self, type: str, *, version: str | None = None, space: str | None = None) -> Iterator[str]:
        """Every id of a type, in the order of the version's rows; all of one version."""
        cursor = None
        while True:
            page = self.entities(type, cursor=cursor, version=version, space=space)
            yield from page.ids
            if (cursor := page.next) is None:
                return
            version = page.version

    def recommend_many(
        self,
        users: Iterable[str | int],
        *,
        batch: int = 64,
        concurrency: int = 4,
        timeout: float | None = None,
        **parameters: Any,
    ) -> Generator[UserResult, None, None]:
        """Candidates for any number of users, in their order; `parameters` are those of `recommend_batch`.

        No more than `concurrency` batches are under way and as many wait to be taken. A batch that fails for good is
        told of each of its users (`status` "failed"); an error that all would meet is raised.
        """
        ask = partial(self.recommend_batch, timeout=timeout, **parameters)
        waiting: deque[tuple[list[str], Future[Any]]] = deque()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="twhin-many") as pool:
            try:
                for part in batches(users, batch):
                    if len(waiting) >= 2 * concurrency:
                        yield from _taken(*waiting.popleft())
                    waiting.append((part, pool.submit(copy_context().run, ask, part)))
                while waiting:
                    yield from _taken(*waiting.popleft())
            finally:
                for _, future in waiting:
                    future.cancel()

    def _call(
        self,
        operation: Operation,
        path: tuple[str | int, ...],
        query: Plain | None,
        body: Any,
        timeout: float | None,
    ) -> Any:
        if operation.vectors and body is not None:
            return self._vectors(operation, body, timeout)
        request = self._shared.request(operation, path, query, body)
        return answer_of(request, *self._send(request, timeout), ids=[str(path[-1])] if operation.vectors else ())

    def _vectors(self, operation: Operation, body: Any, timeout: float | None) -> Vectors:
        parts = []
        for ids in self._shared.parts(body):
            body.ids = ids
            request = self._shared.request(operation, (), None, body)
            vectors = answer_of(request, *self._send(request, timeout), ids=ids)
            body.version = vectors.version  # what follows is of the same
            parts.append(vectors)
        return Vectors.joined(parts)

    def _send(self, request: Request, timeout: float | None, headers: Mapping[str, str] | None = None) -> Received:
        """What came back in the end, of any status but one that is tried again. Raises TwhinError."""
        attempts = self._shared.attempts(request, timeout, time.monotonic())
        sent = {**self._shared.headers, **self._shared.kind(request), **trace_context(), **(headers or {})}
        while True:
            try:
                received = self._hedged(request, sent, attempts)
                if received.status < 500:
                    return received
                raise problem_of(*received)
            except TwhinError as error:
                time.sleep(attempts.pause(error, time.monotonic()))

    def _hedged(self, request: Request, headers: Mapping[str, str], attempts: Attempts) -> Received:
        """One try, and where the client hedges a second one beside it when it is slow."""
        began = time.monotonic()
        delay = self._shared.hedging.delay(request.operation)
        if delay is None:
            received = self._exchange(request, headers, attempts)
        else:
            received = self._raced(request, headers, attempts, delay)
        self._shared.hedging.answered(request.operation, time.monotonic() - began)
        return received

    def _raced(self, request: Request, headers: Mapping[str, str], attempts: Attempts, delay: float) -> Received:
        pool = self._pool = self._pool or ThreadPoolExecutor(64, thread_name_prefix="twhin-hedge")
        running = {pool.submit(self._exchange, request, headers, attempts)}
        done, running = wait(running, timeout=delay)
        if not done and self._shared.hedging.take():
            running.add(pool.submit(self._exchange, request, headers, attempts))
        while True:
            if not done:
                done, running = wait(running, return_when=FIRST_COMPLETED)
            first = done.pop()
            good = first.exception() is None and first.result().status < 500
            if good or not (done or running):
                return first.result()

    def _exchange(self, request: Request, headers: Mapping[str, str], attempts: Attempts) -> Received:
        left = attempts.remaining(time.monotonic())
        built = self._shared.built(request, headers, left, self._given)
        try:
            response = self._http.send(built, stream=True)
            try:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    attempts.remaining(time.monotonic())  # each chunk may be in time and all of them too late
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise error_of(error, attempts.seconds) from error
        return Received(response.status_code, headers_of(response, request.operation), b"".join(chunks))


def _taken(users: list[str], future: Future[Any]) -> Iterator[UserResult]:
    """The results of one batch. Raises what is no failure of this batch alone."""
    try:
        answer = future.result()
    except (ServiceFailed, Unreachable) as error:
        answer = error
    yield from results(users, answer)
