"""The ASGI application: the gateway, and behind it the framework, which has the paths that nothing else has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service.call import ASGIApp, Call, Reply, Scope
from service.gateway import Gateway, Waited
from service.openapi import describe
from service.problems import CONTENT_TYPE, problem_of_status
from service.route import Route
from service.routes import PAGES, ROUTES
from service.runtime import Runtime
from service.settings import Settings


def create_app(settings: Settings, runtime: Runtime | None = None) -> ASGIApp:
    """The service as an ASGI application; it opens nothing before its lifespan starts.

    With a `runtime` the caller starts and stops that, and runs no lifespan.
    """
    runtime = runtime or Runtime(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.stop()

    framework = FastAPI(
        openapi_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={HTTPException: _framework_problem},
    )

    return _with_cors(Gateway(framework, runtime, (*ROUTES, *PAGES, _document(settings))), settings)


def _document(settings: Settings) -> Route:
    """The route of the document, which is made once: it takes as long as many answers."""

    @cache
    def written() -> bytes:
        prefix = {"servers": [{"url": settings.root_path}]} if settings.root_path else {}
        return orjson.dumps(describe(settings.limits) | prefix)

    async def document(_: Call) -> Reply:
        return Reply(written())

    return Route("GET", "/openapi.json", document, "The document itself", "pages", scope="open")


async def _framework_problem(request: Request, error: Exception) -> Response:
    """The framework's own errors (no such path, wrong method) in the one format."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    return Response(problem_of_status(status).body(request.scope["twhin.request_id"]), status, headers, CONTENT_TYPE)


class _Cors(CORSMiddleware):
    """The gateway for browsers of other origins. What no page asks for is refused as quickly as without it; a page
    needs the headers that are added here to see that it was.
    """

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(gateway, **options)
        self._gateway = gateway
        self.turns, self.heads, self.whole = gateway.turns, gateway.heads, gateway.whole
        self.held_back = gateway.held_back

    def refused(self, read: bytes, waited: Waited) -> bytes | None:
        return None if b"\norigin:" in read.lower() else self._gateway.refused(read, waited)

    def turned_away(self, scope: Scope, last: bool, waited: Waited) -> bytes | None:
        refuse = all(name != b"origin" for name, _ in scope["headers"])
        return self._gateway.turned_away(scope, last, waited, refuse=refuse)


def _with_cors(gateway: Gateway, settings: Settings) -> ASGIApp:
    if not settings.cors_origins:
        return gateway
    return _Cors(
        gateway,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout-ms"],
        expose_headers=["x-request-id", "x-twhin-version", "x-twhin-shape", "x-twhin-dtype", "x-twhin-missing"],
    )
