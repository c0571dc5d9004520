"""A store behind a network that misbehaves on request, and versions that fit it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from storage import store as store_module
from storage.store import Store, open_store
from tests.support.fault_proxy import FaultProxy
from tests.support.object_store import BUCKET, S3Server
from tests.support.service_bundle import write_toy_bundle

URL = f"s3://{BUCKET}/some/folder"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One for all tests: it takes seconds to start."""
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An empty store, which the environment leads to."""
    s3_server.reset()
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def store(s3: S3Server) -> Store:
    return open_store(URL)


@pytest.fixture
def raw(store: Store) -> object:
    """The store as the library has it, to damage what is there."""
    return obstore.store.from_url(URL)


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A network before the store, which `far` goes through; what fails is soon given up."""
    monkeypatch.setattr(store_module, "ATTEMPTS", 2)
    monkeypatch.setattr(store_module, "_RETRIES", {"max_retries": 0})
    made = FaultProxy(s3.port)
    yield made
    made.close()


@pytest.fixture
def far(proxy: FaultProxy, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store through the network."""
    for name, value in s3.environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    return open_store(URL)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the versions `one` and `two`, not to be changed."""
    path = tmp_path_factory.mktemp("built")
    for seed, name in enumerate(("one", "two"), start=1):
        write_toy_bundle(path, name, seed=seed)
    return path


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A directory of the versions `one` and `two`, as a builder leaves them."""
    shutil.copytree(built_once, tmp_path / "built")
    return tmp_path / "built"
