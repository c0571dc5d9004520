"""A real service over the toy's versions, and clients of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bundle.versions import publish
from service.settings import Limits, Settings
from tests.support.servers import running
from tests.support.service_bundle import write_toy_bundle
from twhin_client import AsyncClient, Client


@pytest.fixture(scope="session")
def toy_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions v1 and v2, published one after the other: v2 serves."""
    path = tmp_path_factory.mktemp("client")
    for seed, name in enumerate(("v1", "v2"), start=1):
        write_toy_bundle(path, name, seed=seed)
        publish(path, name)
    return path


@pytest.fixture(scope="session")
def service(toy_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service with keys of every kind."""
    state = tmp_path_factory.mktemp("state") / "events.db"
    keys = {"read_keys": "r-key", "write_keys": "w-key", "admin_keys": "a-key"}
    limits = Limits(timeout_ms=10_000)
    settings = Settings(
        bundles=toy_bundles,
        state=state,
        limits=limits,
        warm_up_queries=4,
        self_test_queries=4,
        watch_seconds=0.2,
        **keys,
    )  # type: ignore[call-arg]
    with running(settings) as url:
        yield url


@pytest.fixture
def client(service: str) -> Iterator[Client]:
    """A client that may do everything."""
    with Client(service, key="a-key", timeout=20) as made:
        yield made


@pytest.fixture
async def awaited(service: str) -> AsyncIterator[AsyncClient]:
    """The same, awaited."""
    async with AsyncClient(service, key="a-key", timeout=20) as made:
        yield made
