"""What does not go into the store: told by its place, counted by its code, set aside, and never echoed."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bundle.errors import ConfigError, IngestError, UsageError
from cli.main import app
from ingest.kafka import LetterTopic, properties, topic_of
from ingest.message import Message, Refused
from ingest.sender import Sender, Stopped
from service.settings import Limits, Settings
from tests.integration.ingest.conftest import USERS, event, stored
from tests.support.kafka_broker import KafkaBroker
from tests.support.servers import RedisServer, free_port, running
from twhin_client import Client
from twhin_client.types import EngagementEvent

SECRET = "s3cret-w0rds"
BAD = [f'{{"user": "{SECRET}"', f'["{SECRET}"]', f'{{"user": "{SECRET}", "target": null}}']


@pytest.fixture
def service(bundles: Path) -> Iterator[str]:
    limits = Limits(engagements_max=40, body_max_bytes=4096, timeout_ms=10_000)
    with running(Settings(bundles=bundles, limits=limits, warm_up_queries=4, self_test_queries=4)) as url:
        yield url


def ingest(*words: object, status: int = 0, standard_input: str | None = None, **environment: str) -> Any:
    """The counts, and what else was said; or of a failure the error and what else was said."""
    done = CliRunner().invoke(
        app, ["ingest", *map(str, words), "--json"], input=standard_input, env=environment, catch_exceptions=True
    )
    if status == 0:
        assert done.exception is None, (done.exception, done.output)
        return json.loads(done.stdout), done.stderr
    assert done.exception is not None
    return done.exception, done.output


def test_lines_of_a_file_are_stored_once_however_often_it_is_read(service: str, bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [event(number, at=1_700_000_000 + number).decode() for number in range(100)]
    file.write_text("\n\n".join(lines))  # blank lines, and none at the end
    told, said = ingest(file, "--to", service)
    assert told == {"stored": 100, "duplicates": 0, "set_aside": {}}
    assert "100 events" in said
    assert ingest(file, "--to", service)[0] == {"stored": 0, "duplicates": 100, "set_aside": {}}
    file.write_text("\n".join([event(7, at=1).decode(), *lines]))
    assert ingest(file, "--to", service, "--batch", 7)[0]["stored"] == 1
    assert stored(bundles).total() == 101


def test_a_message_that_is_refused_ends_the_work_unless_it_may_be_set_aside(
    service: str, bundles: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    unknown = json.dumps({"id": "u", "user": USERS[0], "target": USERS[1], "relation": f"no{SECRET}"})
    large = json.dumps({"id": "l", "user": USERS[0], "target": "9" * 5000})
    lines = [event(1, id="a").decode(), *BAD, unknown, event(2).decode(), large, event(3, id="b").decode()]
    file.write_text("\n".join(lines))
    error, said = ingest(file, "--to", service, status=6)
    assert isinstance(error, IngestError)
    assert str(error).startswith(f"{file}, line 2: message_no_json. Name a file by --dead-letters")
    assert SECRET not in said + str(error)

    letters = tmp_path / "letters.jsonl"
    told, said = ingest(file, "--to", service, "--dead-letters", letters)
    codes = dict.fromkeys(("message_no_json", "query_invalid", "message_unnamed", "body_too_large"), 1)
    codes["message_no_event"] = 2
    assert told == {"stored": 0, "duplicates": 2, "set_aside": codes}
    assert f"{file}, line 5: query_invalid, set aside" in said
    assert SECRET not in said
    read = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [one["value"] for one in read] == [lines[n] for n in (1, 2, 3, 5, 4, 6)]

    # What was mended is sent again from the letters.
    letters.write_text(letters.read_text().replace(f"no{SECRET}", "follows"))
    told, _ = ingest(letters, "--to", service, "--dead-letters", tmp_path / "again.jsonl")
    assert told["stored"] == 1
    assert sum(told["set_aside"].values()) == 5
    assert {id for _, _, id in stored(bundles)} == {"a", "b", "u"}


def test_messages_of_a_topic_are_set_aside_by_their_offset_in_a_file_or_a_topic(
    broker: KafkaBroker, topic: str, service: str, bundles: Path, tmp_path: Path
) -> None:
    letters = f"{topic}-letters"
    for name in (topic, letters):
        broker.make(name, 1)
    mapped = json.dumps({"actor": {"id": USERS[3]}, "object": USERS[4]}).encode()
    broker.fill(topic, [(0, mapped), (0, b"\xff" + SECRET.encode()), (0, None), (0, mapped)])
    words = [broker.url(topic), "--to", service, "--until-end", "--kafka-config", broker.config]
    words += ["--field", "user=actor.id", "--field", "target=object", "--relation", "follows"]
    told, said = ingest(*words, "--group", f"{topic}-1", "--dead-letters", tmp_path / "letters.jsonl")
    assert told == {"stored": 2, "duplicates": 0, "set_aside": {"message_no_json": 1, "message_empty": 1}}
    assert f"{topic}/0/1: message_no_json, set aside" in said
    assert SECRET not in said
    kept = [json.loads(line) for line in (tmp_path / "letters.jsonl").read_text().splitlines()]
    assert [one["place"] for one in kept] == [f"{topic}/0/1", f"{topic}/0/2"]
    assert kept[0]["value"].encode("utf-8", "surrogateescape") == b"\xff" + SECRET.encode()

    told, _ = ingest(*words, "--group", f"{topic}-2", "--dead-letters", broker.url(letters))
    assert told["duplicates"] == 2
    assert broker.all_of(letters) == [
        (b"\xff" + SECRET.encode(), {"code": b"message_no_json", "place": f"{topic}/0/1".encode()}),
        (b"", {"code": b"message_empty", "place": f"{topic}/0/2".encode()}),
    ]
    assert stored(bundles).total() == 2


def test_a_store_that_is_away_is_waited_for(bundles: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    """The service says 503 meanwhile, with Retry-After."""
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(event(number, id=str(number)).decode() for number in range(30)))
    settings = Settings(bundles=bundles, redis_url=redis_server.url, redis_retry_seconds=0.1, warm_up_queries=4)  # type: ignore[arg-type]
    with running(settings) as url:
        redis_server.kill()
        error, said = ingest(file, "--to", url, "--patience", 3, status=6)
        assert isinstance(error, IngestError)
        assert "has not taken engagements for" in str(error)
        assert "state_unavailable. It is tried again." in said
        back = threading.Timer(1.0, redis_server.start)
        back.start()
        told, _ = ingest(file, "--to", url, "--batch", 10)
        back.join()
        assert told["stored"] + told["duplicates"] == 30


def test_lines_that_come_slowly_are_stored_as_they_come(service: str, bundles: Path) -> None:
    command = [sys.executable, "-m", "twhin_command", "ingest", "-", "--to", service, "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(event(1, id="a").decode() + "\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not stored(bundles) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert stored(bundles).total() == 1  # and nothing has ended yet
        out, _ = process.communicate(event(2, id="b").decode(), timeout=60)
    assert json.loads(out)["stored"] == 2


def test_what_cannot_work_is_told_before_anything_is_read(
    broker: KafkaBroker, service: str, bundles: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(event(1, id="a").decode())
    nobody = f"http://127.0.0.1:{free_port()}"
    for words, kind, what in (
        ((file, "--to", "ftp://x"), UsageError, "--to: "),
        ((file, "--to", nobody, "--patience", 0), IngestError, "nobody answers"),
        ((file, "--to", f"{service}/elsewhere"), IngestError, "not_found"),
        ((tmp_path / "none", "--to", service), OSError, "No such file"),
        ((broker.url("none-such"), "--to", service), IngestError, "cannot be read"),
        ((f"kafka://127.0.0.1:{free_port()}", "--to", service), UsageError, "kafka://broker:9092"),
        (("kafka://user:secret@b/t", "--to", service), UsageError, "kafka://broker:9092"),
        ((file, "--to", service, "--field", "user"), UsageError, "WORD=PLACE"),
    ):
        error, _ = ingest(*words, status=1)
        assert isinstance(error, kind), words
        assert what in str(error), (words, error)
    for line, what in (("acks", "name=value"), ("group.id=x", "decides itself"), ("# fine\nno.such=secret", "no.such")):
        config = tmp_path / "kafka.properties"
        config.write_text(line)
        error, _ = ingest(broker.url("t"), "--to", service, "--kafka-config", config, status=2)
        assert isinstance(error, ConfigError), line
        assert what in str(error)
        assert "secret" not in str(error)
    assert properties(None) == {}
    assert topic_of("kafka://a:1,b:2/t%20u") == ("a:1,b:2", "t u")
    assert stored(bundles).total() == 0


def test_a_name_that_the_service_does_not_know_is_no_fault_of_the_events(bundles: Path, tmp_path: Path) -> None:
    file, letters = tmp_path / "events.jsonl", tmp_path / "letters.jsonl"
    file.write_text(event(1, id="a").decode())
    with running(Settings(bundles=bundles, hosts="api.example", warm_up_queries=4)) as url:  # type: ignore[arg-type]
        elsewhere = url.replace("127.0.0.1", "localhost")
        error, _ = ingest(file, "--to", elsewhere, "--dead-letters", letters, status=6)
        assert isinstance(error, IngestError)
        assert "host_unknown" in str(error)
        with Client(elsewhere) as client, pytest.raises(IngestError, match="host_unknown"):
            Sender(client, patience=1.0, say=lambda words: None).send([EngagementEvent(user="1", target="2", id="a")])
    assert letters.read_text() == ""


def test_brokers_that_do_not_answer_are_named_with_what_is_known_of_the_reason(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.kafka.FIRST_ANSWER_SECONDS", 1.0)
    address = f"127.0.0.1:{free_port()}"
    error, said = ingest(f"kafka://{address}/t", "--to", service, status=6)
    assert isinstance(error, IngestError)
    assert str(error).startswith(f"The brokers {address} do not answer: ")
    assert "The brokers: " in said
    assert "refused" in said


def test_keys_are_of_a_file_or_the_environment(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(event(1, id="a").decode())
    (tmp_path / "key").write_text("w-key\n")
    with running(Settings(bundles=bundles, write_keys="w-key", read_keys="r-key", warm_up_queries=4)) as url:  # type: ignore[arg-type]
        for environment in ({}, {"TWHIN_KEY": "r-key"}):
            error, _ = ingest(file, "--to", url, status=6, **environment)
            assert isinstance(error, IngestError)
            assert "--key-file" in str(error)
        assert ingest(file, "--to", url, "--key-file", tmp_path / "key")[0]["stored"] == 1
        assert ingest(file, "--to", url, TWHIN_KEY="w-key")[0]["duplicates"] == 1


@pytest.mark.parametrize("key", [f"{SECRET}\u00e9", f"{SECRET}\nmore"])
def test_a_key_that_no_header_can_hold_is_told_and_not_repeated(key: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key, encoding="utf-8")
    for words, environment in ((("--key-file", tmp_path / "key"), {}), ((), {"TWHIN_KEY": key})):
        error, said = ingest("-", *words, status=2, standard_input="", **environment)
        assert isinstance(error, UsageError)
        assert "printable ASCII" in str(error)
        assert SECRET not in said + str(error)


@pytest.mark.parametrize("few", ["message.max.bytes=1000", "queue.buffering.max.messages=10"])
def test_a_topic_of_dead_letters_that_takes_no_more_is_told(few: str) -> None:
    letters = LetterTopic(topic_of("kafka://127.0.0.1:9/letters"), dict([few.split("=")]))
    refused = Refused(Message(SECRET.encode() * 100, "topic/0/3", "id", 1.0), "message_no_json")
    with pytest.raises(IngestError, match="'letters' does not take topic/0/3: ") as raised:
        letters.put([refused] * 20)
    assert SECRET not in str(raised.value)


def test_whoever_asks_it_to_stop_does_not_wait_for_a_service_that_is_away() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client:
        sender = Sender(client, patience=1000.0, say=lambda words: None)
        threading.Timer(0.5, sender.stopping.set).start()
        with pytest.raises(Stopped):
            sender.batch_max()
