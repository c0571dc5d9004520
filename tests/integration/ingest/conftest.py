"""A broker, a small version, and what its store of engagements holds in the end."""

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bundle.versions import publish
from tests.support.kafka_broker import KafkaBroker
from tests.support.servers import RedisServer
from tests.support.service_bundle import user_ids, write_toy_bundle

USERS = user_ids()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for all tests: each has a topic of its own."""
    made = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield made
    made.close()


@pytest.fixture
def topic(broker: KafkaBroker, request: pytest.FixtureRequest) -> str:
    """The name of a topic, which is also that of its group."""
    return str(request.node.originalname)[5:45].strip("_")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A directory of its own with one published version."""
    publish(tmp_path / "bundles", write_toy_bundle(tmp_path / "bundles", "v1").name)
    return tmp_path / "bundles"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server of this test's own."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


def event(number: int, **words: object) -> bytes:
    """The message of an event that no other number has."""
    return json.dumps(
        {"user": USERS[number % 400], "target": USERS[(number * 7 + number // 400) % 400], **words}
    ).encode()


def stored(bundles: Path) -> Counter[tuple[str, str, str]]:
    """User, target and id of every event in the store, as another process sees it now."""
    path = bundles / ".state" / "events.db"
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return Counter(connection.execute("SELECT user, target, id FROM events").fetchall())
        except sqlite3.OperationalError:  # it is made just now
            return Counter()


def wait_until(done: Callable[[], bool], process: "subprocess.Popen[str] | None" = None, seconds: float = 90) -> None:
    """Wait for something that must come, or for a process that must not end before it."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate() if process else None
        time.sleep(0.02)


def started(broker: KafkaBroker, topic: str, url: str, *arguments: str) -> "subprocess.Popen[str]":
    """`twhin ingest` of a topic, in a process of its own."""
    command = [sys.executable, "-m", "twhin_command", "ingest", broker.url(topic), "--to", url, "--group", topic]
    command += ["--kafka-config", str(broker.config), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]", status: int = 0) -> Any:
    """What the process told in the end: the counts, or the error."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    return json.loads(out) if status == 0 else errors
