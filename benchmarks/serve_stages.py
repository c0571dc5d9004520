"""Where the microseconds of a request go: a service in this process, asked over its own protocol without a socket.

Every stage is timed where it runs, by the wall clock, and what it calls is taken off: medians over all requests, so
that what others take of the machine for a moment does not count. The protocol's row has uvicorn's part and the loop's.
Requests come one by one: what several of one turn of the loop spare each other is not seen here.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks.serve import MODES, centroid_strategy, recommend_requests
from service.api import recommend
from service.call import ASGIApp, Receive, Scope, Send
from service.http_protocol import HttpProtocol
from service.main import create_app
from service.runtime import Runtime
from service.settings import Settings
from service.worker import collect_rarely

WHOLE = "the protocol, the loop"


class Stages:
    """Nanoseconds of each stage without those inside it, request by request."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)
        self._inside = [0]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        self._inside.append(0)
        began = time.perf_counter_ns()
        try:
            yield
        finally:
            took = time.perf_counter_ns() - began
            self.seen[name].append(took - self._inside.pop())
            self._inside[-1] += took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **named)

        return call

    def timed_coroutine(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A coroutine function that waits for nothing, timed."""

        async def call(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return await function(*arguments, **named)

        return call


class Timed:
    """An object of which some methods are timed."""

    def __init__(self, of: object, **methods: Callable[..., Any]) -> None:
        self._of = of
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


class TimedApp:
    """An ASGI application, timed."""

    def __init__(self, stages: Stages, app: ASGIApp) -> None:
        self._app, self._stages = app, stages
        self.turned_away, self.whole = app.turned_away, app.whole  # type: ignore[attr-defined]
        self.turns, self.heads = app.turns, app.heads  # type: ignore[attr-defined]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stages.stage("the gateway, the question"):
            await self._app(scope, receive, send)


class Client(asyncio.Transport):
    """The other end of a connection: what is written answers the request."""

    answered: "asyncio.Future[bytes]"

    def write(self, data: Any) -> None:
        self.answered.set_result(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""

    def resume_reading(self) -> None:
        """Nothing is ever paused."""


def time_stages(stages: Stages, runtime: Runtime) -> None:
    """Time the parts of a service that has started."""
    recommender: Any = runtime.versions.serving().recommender
    compiled = recommender._compiled
    native = {name: stages.timed("engine", getattr(compiled._native, name)) for name in ("answer", "begin", "finish")}
    compiled._native = Timed(compiled._native, **native)
    recommender.prepared = stages.timed("around the engine's call", recommender.prepared)
    recommender.asked = stages.timed("around the engine's call", recommender.asked)
    route: Any = recommend
    route.answer_of = stages.timed("the answer's frame and JSON", route.answer_of)
    route._encode = stages.timed("the answer's frame and JSON", route._encode)
    route._count = stages.timed("counters of answers", route._count)
    changed: Any = runtime
    changed.since = stages.timed_coroutine("store of live engagements", runtime.since)


async def measured(bundles: Path, n_users: int, rounds: int) -> dict[str, dict[str, float]]:
    """By kind of request and stage: microseconds."""
    with tempfile.TemporaryDirectory() as directory:
        runtime = Runtime(Settings(bundles=bundles, state=Path(directory) / "events.db"))
        await runtime.start()
        stages = Stages()
        time_stages(stages, runtime)
        app = TimedApp(stages, create_app(runtime.settings, runtime))
        config = Config(app, log_config=None, access_log=False, server_header=False, proxy_headers=False)
        config.load()
        protocol, client = HttpProtocol(config, ServerState(), app_state={}), Client()
        protocol.connection_made(client)
        collect_rarely()
        space = runtime.versions.serving().bundle.space()
        interested = np.flatnonzero(space.clusters.interests[0].mixtures.degrees())
        users = np.random.default_rng(1).choice(interested, n_users)
        ids = space.table(space.entry.default.user_type).ids.externals(users)
        kinds = {
            "default": recommend_requests(ids),
            "stored lists": recommend_requests(ids, strategy=centroid_strategy(runtime.versions.serving().bundle)),
            f"live, {MODES} modes": recommend_requests(ids, strategy="mixture", modes=MODES),
        }
        found = {}
        for kind, requests in kinds.items():
            stages.seen.clear()
            for request in requests * rounds:
                client.answered = asyncio.get_running_loop().create_future()
                with stages.stage(WHOLE):
                    protocol.data_received(request)
                    answer = await client.answered
                assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
            found[kind] = {name: statistics.median(seen) / 1000 for name, seen in stages.seen.items()}
        protocol.connection_lost(None)
        await runtime.stop()
        return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, default=Path(".demo/bundles"), help="directory of versions")
    parser.add_argument("--users", type=int, default=300, help="users asked for")
    parser.add_argument("--rounds", type=int, default=5, help="how often each")
    options = parser.parse_args()
    found = uvloop.run(measured(options.bundles, options.users, options.rounds))
    names = list(dict.fromkeys(name for stages in found.values() for name in stages))
    print(f"| µs, warm, without a socket | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for name in names:
        print(f"| {name} | {' | '.join(f'{stages.get(name, 0):.1f}' for stages in found.values())} |")
    print(f"| together | {' | '.join(f'{sum(stages.values()):.1f}' for stages in found.values())} |")


if __name__ == "__main__":
    main()
