"""The ASGI application: the framework serves documents and paths with ids, the edge everything hot."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi_offline import FastAPIOffline
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service.api.table import ROUTES
from service.call import ASGIApp, Call
from service.drain import draining_on_sigterm
from service.gateway import Edge
from service.openapi import describe
from service.problems import CONTENT_TYPE, problem_of_status
from service.routes import Route
from service.runtime import Service
from service.settings import Settings


class Anything(Convertor[str]):
    """The last part of a path: an id, which may hold slashes and, unlike Starlette's `path`, ends of lines."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", Anything())
UI = Path(__file__).with_name("ui") / "index.html"
log = logging.getLogger("twhin.service")


def create_app(settings: Settings) -> ASGIApp:
    """The service as an ASGI application; it opens nothing before its lifespan starts."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        with draining_on_sigterm(service):
            yield
        await service.stop()

    # /docs with its scripts from the package: many networks that run services do not reach a public one.
    app = FastAPIOffline(
        redoc_url=None,
        title="twhin",
        version=version("twhin"),
        summary="Graph embeddings, features and candidates for ranking services",
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={HTTPException: _framework_problem},
    )
    edge = Edge(app, service, ROUTES)
    for route in ROUTES:
        app.add_route(
            route.path.replace(":path}", ":anything}"),
            _endpoint(edge, route),
            methods=[route.method],
            include_in_schema=False,
        )
    app.add_route("/ui", _explorer, methods=["GET"], include_in_schema=False)
    app.openapi = lambda: describe(app.title, app.version, app.summary or "", ROUTES, settings.limits)  # type: ignore[method-assign]
    return _with_cors(edge, settings)


def _endpoint(edge: Edge, route: Route) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(request: Request) -> Response:
        call: Call = request.scope["twhin.call"]
        call.path = request.path_params
        reply = await edge.answer(route, call)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **reply.headers}
        return Response(reply.body, reply.status, headers, reply.content_type)

    return endpoint


async def _framework_problem(request: Request, error: Exception) -> Response:
    """The framework's own errors (no such path, wrong method) in the one format."""
    call: Call = request.scope["twhin.call"]
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    return Response(problem_of_status(status).body(call.request_id), status, headers, CONTENT_TYPE)


async def _explorer(request: Request) -> Response:
    return HTMLResponse(UI.read_text(encoding="utf-8"))


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout-ms"],
        expose_headers=["x-request-id", "x-twhin-version", "x-twhin-shape", "x-twhin-dtype", "x-twhin-missing"],
    )
