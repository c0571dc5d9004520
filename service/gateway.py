"""The edge of the service: one pure-ASGI layer around everything. It names each request, checks its key, bounds
its time and its company, turns every error into a problem document, and counts.

Hot routes are answered here, straight from their handler: the framework's routing alone costs more than a merge.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from bundle.errors import TwhinError
from service.call import ASGIApp, Call, ClientGone, Message, Receive, Reply, Scope, Send
from service.metrics import RouteMetrics
from service.problems import CONTENT_TYPE, Problem, invalid, overloaded, problem_of, problem_of_status
from service.routes import Route
from service.runtime import Service

log = logging.getLogger("twhin.access")
NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


class Edge:
    """Wraps the framework's application; `routes` are those it may answer itself."""

    def __init__(self, app: ASGIApp, service: Service, routes: tuple[Route, ...]) -> None:
        self._app = app
        self._service = service
        self._metrics = {route.label: service.metrics.route(route.label, route.method) for route in routes}
        self._hot: Mapping[tuple[str, str], Route] = {
            (route.method, route.path): route for route in routes if "{" not in route.path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        call = Call(scope, receive, self._service)
        sender = _Sender(send, call.request_id, closing=self._service.draining)
        try:
            await self._answer(call, sender)
        except ClientGone:
            sender.status = 499
        finally:
            self._observe(call, sender.status, time.perf_counter() - started)

    async def _answer(self, call: Call, sender: "_Sender") -> None:
        route = self._hot.get((call.scope["method"], call.scope["path"]))
        if route is not None:
            await sender.reply(await self.answer(route, call))
            return
        call.scope["twhin.call"] = call
        await self._app(call.scope, call.receive, sender)

    async def answer(self, route: Route, call: Call) -> Reply:
        """The answer of `route` to `call`: whatever goes wrong, it is a problem document."""
        try:
            return await self._run(route, call)
        except ClientGone:
            raise
        except Exception as error:
            return self.problem_reply(error, call)

    async def _run(self, route: Route, call: Call) -> Reply:
        service = self._service
        call.route = route.label
        service.keys.check(call, route.scope_needed(service.settings))
        if route.probe:
            return await route.handler(call)
        if service.inflight >= service.settings.limits.concurrency_max:
            service.metrics.shed("concurrency")
            raise overloaded("too many requests are in work")
        call.deadline = asyncio.get_running_loop().time() + self._seconds(call)
        service.inflight += 1
        try:
            async with asyncio.timeout_at(call.deadline):
                if service.tracing is None:
                    return await route.handler(call)
                with service.tracing.span(call):
                    return await route.handler(call)
        except TimeoutError:
            service.metrics.shed("deadline")
            raise Problem("deadline_exceeded", "the request's time is over") from None
        finally:
            service.inflight -= 1

    def _seconds(self, call: Call) -> float:
        limits = self._service.settings.limits
        asked = call.header(b"x-request-timeout-ms")
        if asked is None:
            return limits.timeout_ms / 1000
        if not re.fullmatch(r"[1-9][0-9]{0,8}", asked, re.ASCII):
            raise invalid("/", "X-Request-Timeout-Ms must be a positive whole number")
        return min(int(asked), limits.timeout_max_ms) / 1000

    def problem_reply(self, error: Exception, call: Call) -> Reply:
        """The problem document of `error`; one that nobody expected goes to the log and not to the client."""
        problem = _as_problem(error)
        if problem.code == "internal":
            log.error("internal error", exc_info=error, extra={"request_id": call.request_id, "route": call.route})
            problem = Problem("internal", "the error is in the log under this request_id")
        return Reply(problem.body(call.request_id), CONTENT_TYPE, problem.status, problem.headers)

    def _observe(self, call: Call, status: int, seconds: float) -> None:
        metrics = self._metrics.get(call.route) or self._unmatched(call.route)
        metrics.answered(status, seconds)
        wanted = self._service.settings.access_log
        if wanted == "all" or (wanted == "errors" and status >= 500):
            log.info(
                "request",
                extra={
                    "request_id": call.request_id,
                    "route": call.route,
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                },
            )

    def _unmatched(self, route: str) -> RouteMetrics:
        self._metrics[route] = self._service.metrics.route("unmatched", "any")
        return self._metrics[route]


class _Sender:
    """Sends one answer, with the request's id; remembers the status that went out. With `closing` the client is told
    to take its next request to another connection, and so to another replica.
    """

    def __init__(self, send: Send, request_id: str, *, closing: bool) -> None:
        self._send = send
        self._own = [(b"x-request-id", request_id.encode())]
        if closing:
            self._own.append((b"connection", b"close"))
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """As ASGI's send, for the framework."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._own]
        await self._send(message)

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        self.status = reply.status
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", b"%d" % len(reply.body)),
            *self._own,
            NOSNIFF,
        ]
        if "cache-control" not in reply.headers:
            headers.append(NO_STORE)
        headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body})


def _as_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, TwhinError):
        return problem_of(error)
    if isinstance(error, HTTPException):
        return problem_of_status(error.status_code)
    return Problem("internal", "unexpected")
