"""Real servers for the service's tests: the application under uvicorn on a free port, and a Redis."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bundle.versions import publish
from service.settings import Limits, Settings
from tests.support.servers import RedisServer, running
from tests.support.service_bundle import write_toy_bundle

Start = Callable[..., httpx.Client]
# The deadline of a request in these tests: what they are about is not how busy the machine is.
PATIENT_MS = 10_000


@pytest.fixture(scope="session")
def made_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions v1 (published) and v2, made once; tests that change the directory use `bundles`."""
    path = tmp_path_factory.mktemp("made")
    write_toy_bundle(path, "v1")
    write_toy_bundle(path, "v2", seed=2)
    publish(path, "v1")
    return path


@pytest.fixture
def bundles(made_bundles: Path, tmp_path: Path) -> Path:
    """A copy of the directory of versions, for this test alone."""
    return Path(shutil.copytree(made_bundles, tmp_path / "bundles"))


@pytest.fixture
def start(bundles: Path) -> Iterator[Start]:
    """Start the service over `bundles` with given settings; returns a client of it."""
    with contextlib.ExitStack() as stack:

        def begin(**settings: object) -> httpx.Client:
            patient = {
                "watch_seconds": 0.1,
                "warm_up_queries": 4,
                "self_test_queries": 4,
                "limits": Limits(timeout_ms=PATIENT_MS),
                **settings,
            }
            made = Settings(bundles=bundles, **patient)  # type: ignore[arg-type]
            url = stack.enter_context(running(made))
            return stack.enter_context(
                httpx.Client(base_url=url, timeout=20, headers={"content-type": "application/json"})
            )

        yield begin


@pytest.fixture(scope="session")
def client(made_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one service shared by the tests that only ask."""
    state = tmp_path_factory.mktemp("state") / "events.db"
    patient = Limits(timeout_ms=PATIENT_MS)
    settings = Settings(bundles=made_bundles, state=state, limits=patient, cors_origins=("https://ranker.example",))  # type: ignore[call-arg]
    with running(settings) as url, httpx.Client(base_url=url, timeout=20) as made:
        made.headers["content-type"] = "application/json"
        yield made


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of this test's own."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory)
    yield server
    server.kill()
