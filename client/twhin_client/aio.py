"""The client that is awaited, for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any

import httpx

from twhin_client.client import Received
from twhin_client.errors import ServiceFailed, TwhinError, Unreachable
from twhin_client.features import FeatureDecoder
from twhin_client.operation import Operation, Plain, Request, answer_of, problem_of
from twhin_client.operations import CODEBOOK, AsyncOperations
from twhin_client.policy import Attempts, Hedge, over
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


class AsyncClient(AsyncOperations):
    """`Client`, awaited: see there for what the arguments are. Close it with `aclose`, or use it in an `async with`."""

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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._shared = Shared.of(url, key, timeout, retries, hedge, version, lookup_max, headers)
        self._given = http
        self._http = http or httpx.AsyncClient(limits=LIMITS, verify=trust(url))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    @property
    def version(self) -> str | None:
        """The version that look-ups are of; None for whatever serves."""
        return self._shared.version

    async def pin(self, version: str | None = None) -> AsyncClient:
        """A client on the same connections whose look-ups are of `version`; by default of the one that serves now."""
        pinned = AsyncClient.__new__(AsyncClient)
        pinned._http, pinned._given = self._http, self._given
        pinned._shared = self._shared.pinned(version or str((await self.info())["version"]))
        return pinned

    async def decoder(
        self, type: str, *, version: str | None = None, space: str | None = None, timeout: float | None = None
    ) -> FeatureDecoder:
        """The codebook of a type, to decode codes here. It is kept, and asked for again by its ETag."""
        key = type, space, version or self._shared.version
        decoders = self._shared.decoders
        fresh = decoders.fresh(key)
        if fresh is not None:
            return fresh
        request = self._shared.request(CODEBOOK, (type,), {"version": key[2], "space": space}, None)
        received = await self._send(request, timeout, decoders.headers(key))
        return decoders.answered(key, None if received.status == 304 else answer_of(request, *received))

    async def decode(self, type: str, codes: Vectors, *, space: str | None = None) -> Vectors:
        """The vectors of codes that `features(…, representation="codes")` gave."""
        return (await self.decoder(type, version=codes.version, space=space)).decode_vectors(codes)

    async def ids(self, type: str, *, version: str | None = None, space: str | None = None) -> AsyncIterator[str]:
        """Every id of a type, in the order of the version's rows; all of one version."""
        cursor = None
        while True:
            page = await self.entities(type, cursor=cursor, version=version, space=space)
            for one in page.ids:
                yield one
            if (cursor := page.next) is None:
                return
            version = page.version

    async def recommend_many(
        self,
        users: Iterable[str | int] | AsyncIterable[str | int],
        *,
        batch: int = 64,
        concurrency: int = 4,
        timeout: float | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[UserResult, None]:
        """Candidates for any number of users, in their order: see `Client.recommend_many`."""
        turns = asyncio.Semaphore(concurrency)
        waiting: deque[tuple[list[str], asyncio.Task[Any]]] = deque()

        async def ask(part: list[str]) -> Any:
            async with turns:
                return await self.recommend_batch(part, timeout=timeout, **parameters)

        try:
            async for part in _batches(users, batch):
                if len(waiting) >= 2 * concurrency:
                    for one in await _taken(*waiting.popleft()):
                        yield one
                waiting.append((part, asyncio.ensure_future(ask(part))))
            while waiting:
                for one in await _taken(*waiting.popleft()):
                    yield one
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)

    async def _call(
        self,
        operation: Operation,
        path: tuple[str | int, ...],
        query: Plain | None,
        body: Any,
        timeout: float | None,
    ) -> Any:
        if operation.vectors and body is not None:
            return await self._vectors(operation, body, timeout)
        request = self._shared.request(operation, path, query, body)
        received = await self._send(request, timeout)
        return answer_of(request, *received, ids=[str(path[-1])] if operation.vectors else ())

    async def _vectors(self, operation: Operation, body: Any, timeout: float | None) -> Vectors:
        parts = []
        for ids in self._shared.parts(body):
            body.ids = ids
            request = self._shared.request(operation, (), None, body)
            vectors = answer_of(request, *(await self._send(request, timeout)), ids=ids)
            body.version = vectors.version  # what follows is of the same
            parts.append(vectors)
        return Vectors.joined(parts)

    async def _send(
        self, request: Request, timeout: float | None, headers: Mapping[str, str] | None = None
    ) -> Received:
        """What came back in the end, of any status but one that is tried again. Raises TwhinError."""
        attempts = self._shared.attempts(request, timeout, time.monotonic())
        sent = {**self._shared.headers, **self._shared.kind(request), **trace_context(), **(headers or {})}
        while True:
            try:
                received = await self._hedged(request, sent, attempts)
                if received.status < 500:
                    return received
                raise problem_of(*received)
            except TwhinError as error:
                await asyncio.sleep(attempts.pause(error, time.monotonic()))

    async def _hedged(self, request: Request, headers: Mapping[str, str], attempts: Attempts) -> Received:
        """One try, and where the client hedges a second one beside it when it is slow."""
        began = time.monotonic()
        delay = self._shared.hedging.delay(request.operation)
        if delay is None:
            received = await self._exchange(request, headers, attempts)
        else:
            received = await self._raced(request, headers, attempts, delay)
        self._shared.hedging.answered(request.operation, time.monotonic() - began)
        return received

    async def _raced(self, request: Request, headers: Mapping[str, str], attempts: Attempts, delay: float) -> Received:
        tasks = {asyncio.ensure_future(self._exchange(request, headers, attempts))}
        try:
            done, running = await asyncio.wait(tasks, timeout=delay)
            if not done and self._shared.hedging.take():
                tasks.add(asyncio.ensure_future(self._exchange(request, headers, attempts)))
                running = set(tasks)
            while True:
                if not done:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                first = done.pop()
                good = first.exception() is None and first.result().status < 500
                if good or not (done or running):
                    return first.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _exchange(self, request: Request, headers: Mapping[str, str], attempts: Attempts) -> Received:
        left = attempts.remaining(time.monotonic())
        built = self._shared.built(request, headers, left, self._given)
        try:
            async with asyncio.timeout(left):
                response = await self._http.send(built)
        except httpx.HTTPError as error:
            raise error_of(error, attempts.seconds) from error
        except TimeoutError as error:
            raise over(attempts.seconds) from error
        return Received(response.status_code, headers_of(response, request.operation), response.content)


async def _taken(users: list[str], task: asyncio.Task[Any]) -> list[UserResult]:
    """The results of one batch. Raises what is no failure of this batch alone."""
    try:
        answer = await task
    except (ServiceFailed, Unreachable) as error:
        answer = error
    return list(results(users, answer))


async def _batches(users: Iterable[str | int] | AsyncIterable[str | int], size: int) -> AsyncIterator[list[str]]:
    """The users, `size` at a time."""
    if not isinstance(users, AsyncIterable):
        for batch in batches(users, size):
            yield batch
        return
    waiting: list[str] = []
    async for user in users:
        waiting.append(str(user))
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
