"""Services started as an operator starts them: a process, a port, signals."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle.versions import publish
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import write_toy_bundle

Begin = Callable[..., ServiceProcess]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """Versions v1 (published) and v2."""
    path = tmp_path / "bundles"
    write_toy_bundle(path, "v1")
    write_toy_bundle(path, "v2", seed=2)
    publish(path, "v1")
    return path


@pytest.fixture
def begin(bundles: Path) -> Iterator[Begin]:
    """Start the service with arguments and environment; it is ready when this returns, and ended after the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, files: str = "", **environment: str) -> ServiceProcess:
            defaults = {"TWHIN_WATCH_SECONDS": "0.1", "TWHIN_DRAIN_SECONDS": "0", "TWHIN_TIMEOUT_MS": "10000"}
            process = ServiceProcess(bundles, *arguments, files=files, **{**defaults, **environment})
            stack.callback(process.stop)
            return process.wait_until_ready()

        yield start
