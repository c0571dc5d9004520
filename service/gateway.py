"""The gateway: one pure-ASGI layer that answers every route of the product. It names each request, checks its key,
bounds its time and its company, turns every error into a problem document, and counts.

What has no route is left to the framework behind it, whose routing alone costs more than a merge.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence

from service.call import WHOLE_ANSWER, ASGIApp, Call, ClientGone, Message, Receive, Reply, Scope, Send, new_request_id
from service.deadline import by
from service.first_step import in_a_task
from service.glance import Glance
from service.heads import Head, Heads
from service.held_back import HeldBack
from service.metrics import RouteMetrics
from service.problems import (
    CONTENT_TYPE,
    TITLES,
    Problem,
    invalid,
    is_exhaustion,
    is_refused_file,
    not_ready,
    overloaded,
    problem_of,
)
from service.route import Route, RouteTable
from service.runtime import Runtime
from service.tracing import Tracing, trace_of
from service.turns import Turns

log = logging.getLogger("twhin.access")
NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
WITHOUT_BODY = (204, 304)
# For how many seconds what was just read had waited to be.
Waited = Callable[[], float]
# The least status that is logged. None is below 0 nor above 999.
LOGGED_FROM = {"all": 0, "errors": 500, "none": 1000}
# Why there is no room, by the reason that is counted.
NO_ROOM = {"concurrency": "too many requests are in work", "search_queue": "the search queue is full"}
BUSY_BODY = {reason: overloaded(detail).body("%b") for reason, detail in NO_ROOM.items()}
RETRY_AFTER = overloaded("").headers["retry-after"]
TURNED_AWAY = (
    f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: {CONTENT_TYPE}\r\nx-request-id: %b\r\n"
    f"retry-after: {RETRY_AFTER}\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    "%bcontent-length: %d\r\n\r\n"
).encode()
# The head of an answer of 200 that has no headers of its own, after what the server adds.
PLAIN_HEAD = (
    b"x-request-id: %b\r\nx-content-type-options: nosniff\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"cache-control: no-store\r\n\r\n"
)


class Gateway:
    """Answers `routes`; every other path is the framework's."""

    def __init__(self, framework: ASGIApp, runtime: Runtime, routes: Sequence[Route]) -> None:
        self._framework = framework
        self._runtime = runtime
        self._prefix = runtime.settings.root_path
        self._table = RouteTable(routes)
        self._metrics = {route.label: runtime.metrics.route(route.label, route.method) for route in routes}
        self._logged_from = LOGGED_FROM[runtime.settings.access_log]
        self._glance = Glance()
        self.turns = Turns()
        self.heads = Heads()
        self.held_back = HeldBack(
            runtime.admission, runtime.metrics, lambda: runtime.draining, lambda: runtime.search.full
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        started = scope.get("twhin.read") or time.perf_counter()
        admission = self._runtime.admission
        scope["twhin.begun"] = True
        admission.arrived -= scope.get("twhin.whole", False)
        # What ends without an answer the server answers with 500.
        call, status = Call(scope, receive, self._runtime), 500
        try:
            try:
                route = self._passed(call)
                reply = await self._run(route, call) if isinstance(route, Route) else route
            except ClientGone:
                raise
            except asyncio.CancelledError:  # nobody cancels a request but the server, at its end
                reply = _problem_document(call, not_ready("the service ends"), started)
            except Exception as error:
                reply = _problem_document(call, error, started)
            if reply is not None and self._reply_whole(call, reply, send):
                status = 200
                return
            sender = _Sender(send, call.request_id, closing=self._runtime.draining)
            try:
                if reply is None:
                    await in_a_task()
                    scope["twhin.request_id"] = call.request_id
                    scope["root_path"], scope["path"] = self._prefix, self._prefix + self._within(scope["path"])
                    await self._framework(scope, receive, sender)
                else:
                    await sender.reply(reply)
            finally:
                status = sender.status or status
        except ClientGone:
            status = 499
        finally:
            self._observe(call, status, time.perf_counter() - started)

    def _reply_whole(self, call: Call, reply: Reply, send: Send) -> bool:
        """Hand a whole answer over to a server that takes it; False where it does not, or where `reply` is for more
        than that.

        The head has what `_Sender.reply` sends, in that order: nobody need look at each header again.
        """
        extensions = call.scope.get("extensions")
        if not extensions or reply.status != 200 or reply.headers or not reply.content_type or self._runtime.draining:
            return False
        answer_whole = extensions.get(WHOLE_ANSWER)
        if answer_whole is None:
            return False
        head = PLAIN_HEAD % (call.request_id.encode(), reply.content_type.encode(), len(reply.body))
        whole: bool = answer_whole(send, head, reply.body)
        return whole

    def refused(self, read: bytes, waited: Waited) -> bytes | None:
        """The whole answer, head and body, to what was read from a connection that waits for a request: where it is one
        whole request, and there is no room for it. None for everything else.
        """
        reason = self._why_full(queued=True)
        if reason is None or self._runtime.draining:
            return None
        found = self._glance.target(read)
        if found is None:
            return None
        method, target = found
        path = target.partition(b"?")[0]
        route = None if b"%" in path else self._route(method, path.decode("latin-1"))
        if route is None or (reason == "search_queue" and not route.queued):
            return None
        return self._no_room(route, method, reason, waited)

    def turned_away(self, scope: Scope, last: bool, waited: Waited, *, refuse: bool = True) -> bytes | None:
        """The same to a request whose head has arrived, None when it is let in. `last`: the connection is closed after
        it, and the answer says so. Without `refuse` it is let in to be refused, and takes nobody's room till then.
        `waited` tells for how many seconds it had not been read.
        """
        head: Head | None = scope.get("twhin.head")
        known = None if head is None else head.passed
        route = self._route(scope["method"], scope["path"]) if known is None else known[0]
        if route is None or route.probe:
            return None
        reason = self._why_full(queued=route.queued)
        if reason is not None:
            if refuse:
                return self._no_room(route, scope["method"], reason, waited, last)
            scope["twhin.no_room"] = reason
            return None
        scope["twhin.arrived"], scope["twhin.read"] = self._runtime.admission.arrival(waited), time.perf_counter()
        return None

    def _why_full(self, *, queued: bool) -> str | None:
        """The reason for which there is no room for a request, `queued` for the search thread or not; None where
        there is.
        """
        if self._runtime.admission.full:
            return "concurrency"
        return "search_queue" if queued and self._runtime.search.full else None

    def _route(self, method: str, path: str) -> Route | None:
        """The route that answers, where it may be refused for want of room."""
        found = self._table.find(self._within(path))
        route = None if found is None else found[0].get(method)
        return None if route is None or route.probe else route

    def _no_room(self, route: Route, method: str, reason: str, waited: Waited, last: bool = False) -> bytes:
        """Count a refusal. Returns it: head and body, the head alone to a HEAD."""
        self._runtime.refusals.count(self._metrics[route.label], reason, waited)
        request_id = new_request_id().encode()
        closing = b"connection: close\r\n" if last or self._runtime.draining else b""
        body = BUSY_BODY[reason] % request_id
        head = TURNED_AWAY % (request_id, closing, len(body))
        return head if method == "HEAD" else head + body

    def whole(self, scope: Scope) -> None:
        """Count a request that is complete before it is begun: one of many that the event loop has read in one turn.
        Once, however often it is told.
        """
        if "twhin.arrived" in scope and not ("twhin.whole" in scope or "twhin.begun" in scope):
            scope["twhin.whole"] = True
            self._runtime.admission.arrived += 1

    def _within(self, path: str) -> str:
        """The path within the service: a proxy may have left its own prefix there or taken it away."""
        return path[len(self._prefix) :] if self._prefix and path.startswith(f"{self._prefix}/") else path

    def _passed(self, call: Call) -> Route | Reply | None:
        """The route of `call`, whose head is fit for it; the answer where no route is needed; None where the framework
        has it. It follows from the head alone, so that of one that was seen before it is known. Raises Problem.
        """
        head = call.head
        if head is not None and head.passed is not None:
            passed: Route
            passed, call.ids, call.route, call.seconds = head.passed
            call.parameters = passed.query
            return passed
        found = self._table.find(self._within(call.scope["path"]))
        if found is None and call.scope["path"] == "*" and call.method == "OPTIONS":  # of no path: a balancer's check
            return Reply(b"", "", 204, {"allow": "GET, HEAD, POST, DELETE, OPTIONS"})
        if found is None:
            self._runtime.origins.check_host(call.header(b"host"))
            return None
        by_method, call.ids = found
        route = by_method.get(call.method)
        if route is not None:
            self._check_head(route, call)
            if not route.probe:
                call.seconds = self._seconds(call)
            if head is not None:
                head.passed = route, call.ids, call.route, call.seconds
            return route
        allow = {"allow": ", ".join([*sorted(by_method), "OPTIONS"])}
        if call.method == "OPTIONS":
            return Reply(b"", "", 204, allow)
        raise Problem("method_not_allowed", TITLES[405], headers=allow)

    def _check_head(self, route: Route, call: Call) -> None:
        runtime = self._runtime
        call.route, call.parameters = route.label, route.query
        if not route.for_anyone:
            runtime.origins.check_host(call.header(b"host"))
        if route.writes:
            origin, site = call.only(b"origin"), call.only(b"sec-fetch-site")
            runtime.origins.check_writer(call.header(b"host"), origin, site)
        runtime.keys.check(call.key(), route.scope_needed(runtime.settings))
        if call.scope["query_string"] and route.scope != "open" and not route.probe:
            call.query()  # raises for what the route has no use for

    async def _run(self, route: Route, call: Call) -> Reply:
        runtime = self._runtime
        if route.probe:
            return await route.handler(call)
        self._refuse_when_full(route, call)
        since = call.scope.get("twhin.arrived", time.monotonic())
        call.deadline = since + call.seconds
        try:
            reply = await by(None if route.patient else call.deadline, self._work(route, call, since))
            now = time.monotonic()
            if not (route.writes or route.patient):
                runtime.admission.answered(now - call.since)
            if now > call.deadline and not route.patient:  # a busy loop comes late to its timers too
                raise TimeoutError
            return reply
        except TimeoutError:
            runtime.metrics.shed("deadline")
            # What has not arrived by now would be taken for an answer's worth of time again: the connection ends.
            headers = {} if call.since else {"connection": "close"}
            raise Problem("deadline_exceeded", "the request's time is over", headers=headers) from None

    async def _work(self, route: Route, call: Call, since: float) -> Reply:
        """Read the body where there is one, and answer."""
        runtime = self._runtime
        if route.request is None or call.take_body():
            call.since = since
        else:
            call.since = await self._read_body(call, since)
            self._refuse_when_full(route, call)
        if time.monotonic() > call.deadline and not route.patient:
            raise TimeoutError  # while it waited to be read, or begun
        runtime.admission.inflight += 1
        try:
            if runtime.tracing is None:
                return await route.handler(call)
            return await self._traced(runtime.tracing, route, call)
        finally:
            runtime.admission.inflight -= 1

    async def _read_body(self, call: Call, since: float) -> float:
        """Read the body. Returns when the request was whole: `since`, unless its client was slower than its head."""
        before = time.monotonic()
        await call.read_body()
        now = time.monotonic()
        return since if now - before < 0.001 else now

    def _refuse_when_full(self, route: Route, call: Call) -> None:
        """Raises Problem 503. Asked before a body is read and again when it is there: a slot is a whole request's."""
        reason = call.scope.get("twhin.no_room") or self._why_full(queued=route.queued)
        if reason is not None:
            self._runtime.metrics.shed(reason)
            raise overloaded(NO_ROOM[reason])

    async def _traced(self, tracing: Tracing, route: Route, call: Call) -> Reply:
        parent, state = call.header(b"traceparent"), call.header(b"tracestate")
        with tracing.span(call.route, call.method, call.request_id, parent, state) as span:
            context = span.get_span_context()
            if context.trace_flags.sampled:
                call.trace = f"{context.trace_id:032x}"
            reply = await route.handler(call)
            span.set_attribute("http.response.status_code", reply.status)
            return reply

    def _seconds(self, call: Call) -> float:
        """The time that the answer may take: what the client asks for, within the limits."""
        limits = self._runtime.settings.limits
        asked = call.only(b"x-request-timeout-ms")
        if asked is None:
            return limits.timeout_ms / 1000
        if not re.fullmatch(r"[1-9][0-9]{0,8}", asked, re.ASCII):
            raise invalid("/", "X-Request-Timeout-Ms must be a positive whole number")
        return min(int(asked), limits.timeout_max_ms) / 1000

    def _observe(self, call: Call, status: int, seconds: float) -> None:
        metrics = self._metrics.get(call.route) or self._unmatched(call.route)
        metrics.answered(status, seconds)
        if status >= self._logged_from:
            line = {"route": call.route, "status": status, "ms": round(seconds * 1000, 3)}
            log.info("request", extra={**_named(call), **line})

    def _unmatched(self, route: str) -> RouteMetrics:
        """The metrics of what has no route, made at its first request: most services never count any."""
        self._metrics[route] = self._runtime.metrics.route("unmatched", "any")
        return self._metrics[route]


def _problem_document(call: Call, error: Exception, started: float) -> Reply:
    """The answer to a request that failed: whatever goes wrong, it is a problem document."""
    problem = problem_of(error)
    if "twhin.no_room" in call.scope and problem.code == "overloaded":
        call.scope["twhin.refused"] = started  # the server heeds it as one that was refused at once
    if problem.code == "internal" and problem is not error:  # for the log and not for the client
        log.error("internal error", exc_info=error, extra={**_named(call), "route": call.route})
        problem = Problem("internal", "the error is in the log under this request_id")
    elif problem is not error and (is_exhaustion(error) or is_refused_file(error)):
        reason = f"{type(error).__name__}: {error}"
        what = "nothing left" if is_exhaustion(error) else "a file is refused"
        log.error(what, extra={**_named(call), "route": call.route, "reason": reason})
    return Reply(problem.body(call.request_id), CONTENT_TYPE, problem.status, problem.headers)


def _named(call: Call) -> dict[str, str]:
    """What joins a line of the log to the request and to the caller's trace, where it has one."""
    trace = call.trace or trace_of(call.header(b"traceparent"))
    return {"request_id": call.request_id} if trace is None else {"request_id": call.request_id, "trace_id": trace}


class _Sender:
    """Sends one answer, with the request's id; remembers the status that went out. With `closing` the client is told
    to take its next request to another connection, and so to another replica.
    """

    def __init__(self, send: Send, request_id: str, *, closing: bool) -> None:
        self._send = send
        self._own = [(b"x-request-id", request_id.encode()), NOSNIFF]
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
        headers = [*self._own]
        if reply.content_type:
            headers.append((b"content-type", reply.content_type.encode()))
        if reply.status not in WITHOUT_BODY:  # a length would be that of the whole document
            headers.append((b"content-length", b"%d" % len(reply.body)))
        if "cache-control" not in reply.headers:
            headers.append(NO_STORE)
        headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body})
