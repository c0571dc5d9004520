"""A topic of brokers that ask who it is: PLAIN and SCRAM, the password from a file or the environment, or refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundle.errors import ConfigError, IngestError, UsageError
from ingest.kafka import LetterTopic, topic_of
from ingest.kafka import properties as kafka_properties
from ingest.message import Message, Refused
from tests.integration.ingest.conftest import event, stored
from tests.integration.ingest.test_refusals import ingest
from tests.support.kafka_broker import CLIENT, KafkaBroker
from tests.support.sasl_gate import SaslGate
from tests.support.servers import ServiceProcess

USER, PASSWORD = "ingester", "p=a,s$s#w\N{LATIN SMALL LETTER O WITH DIAERESIS}rd"
Guard = Callable[[str], KafkaBroker]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guard]:
    """Makes a broker behind a gate of the given mechanism."""
    made: list[KafkaBroker | SaslGate] = []

    def make(mechanism: str) -> KafkaBroker:
        def behind(port: int) -> str:
            gate = SaslGate(port, mechanism, USER, PASSWORD)
            made.append(gate)
            return f"127.0.0.1:{gate.port}"

        client = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism}
        broker = KafkaBroker(tmp_path, behind, **client, **{"sasl.username": USER, "sasl.password": PASSWORD})
        made.append(broker)
        return broker

    yield make
    for one in reversed(made):
        one.close()


def properties(path: Path, mechanism: str, *lines: str) -> Path:
    """A file of properties without the password."""
    given = {**CLIENT, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism, "sasl.username": USER}
    path.write_text("\n".join([*(f"{name}={value}" for name, value in given.items()), *lines]))
    return path


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_topic_is_read_and_dead_letters_are_written_by_a_proved_user(
    guarded: Guard, mechanism: str, bundles: Path, topic: str, tmp_path: Path
) -> None:
    broker = guarded(mechanism)
    for name in (topic, "letters"):
        broker.make(name, 1)
    broker.fill(topic, [*((0, event(number)) for number in range(50)), (0, b"nonsense")])
    config, secret = properties(tmp_path / "client.properties", mechanism), tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    service = ServiceProcess(bundles).wait_until_ready()
    words = [broker.url(topic), "--to", service.url, "--until-end", "--kafka-config", config]
    words += ["--dead-letters", broker.url("letters")]
    try:
        told, said = ingest(*words, "--group", "by-file", "--kafka-password-file", secret)
        assert told == {"stored": 50, "duplicates": 0, "set_aside": {"message_no_json": 1}}
        assert PASSWORD not in said
        told, _ = ingest(*words, "--group", "by-variable", TWHIN_KAFKA_PASSWORD=PASSWORD)
        assert told["duplicates"] == 50
    finally:
        service.stop()
    assert stored(bundles).total() == 50
    assert [value for value, _ in broker.all_of("letters")] == [b"nonsense"] * 2


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_ends_it_at_once_and_is_not_repeated(guarded: Guard, mechanism: str, tmp_path: Path) -> None:
    broker = guarded(mechanism)
    config = properties(tmp_path / "client.properties", mechanism)
    words = [broker.url("t"), "--to", "http://127.0.0.1:9", "--kafka-config", config]
    error, said = ingest(*words, status=6, TWHIN_KAFKA_PASSWORD="not-the-password")
    assert isinstance(error, IngestError)
    assert "do not let this client in" in str(error)
    assert "not-the-password" not in f"{error}{said}"
    assert "tried again" not in said


def test_an_empty_variable_is_no_password(guarded: Guard, tmp_path: Path) -> None:
    broker = guarded("PLAIN")
    config = properties(tmp_path / "client.properties", "PLAIN", "sasl.password=not-the-password")
    words = [broker.url("t"), "--to", "http://127.0.0.1:9", "--kafka-config", config]
    error, _ = ingest(*words, status=6, TWHIN_KAFKA_PASSWORD="")
    assert "do not let this client in" in str(error)


def test_dead_letters_that_are_not_let_in_say_so(guarded: Guard, tmp_path: Path) -> None:
    broker = guarded("PLAIN")
    config = properties(tmp_path / "client.properties", "PLAIN")
    letters = LetterTopic(topic_of(broker.url("letters")), kafka_properties(config, "not-the-password"))
    with pytest.raises(IngestError, match="do not let this client in") as caught:
        letters.put([Refused(Message(b"nonsense", "t/0/0", "t-0-0", None), "message_no_json")])
    assert "not-the-password" not in str(caught.value)


def test_a_broker_that_knows_nobody_lets_nobody_in(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, open_to_all=False)
    try:
        config = properties(tmp_path / "client.properties", "SCRAM-SHA-256")
        words = [broker.url("t"), "--to", "http://127.0.0.1:9", "--kafka-config", config]
        error, _ = ingest(*words, status=6, TWHIN_KAFKA_PASSWORD=PASSWORD)
        assert "do not let this client in" in str(error)
        assert "unknown-user" in str(error)
    finally:
        broker.close()


def test_a_password_has_one_place_and_one_line(tmp_path: Path) -> None:
    words = ["kafka://127.0.0.1:9/t", "--to", "http://127.0.0.1:9"]
    config = properties(tmp_path / "client.properties", "PLAIN", "sasl.password=secret")
    error, _ = ingest(*words, "--kafka-config", config, status=2, TWHIN_KAFKA_PASSWORD="other-secret")
    assert isinstance(error, ConfigError)
    assert "line 6: sasl.password is given" in str(error)
    assert "secret" not in str(error).replace("TWHIN_KAFKA_PASSWORD", "")
    for text in ("", "\n", "one\ntwo\n"):
        (tmp_path / "password").write_text(text)
        error, _ = ingest(*words, "--kafka-password-file", tmp_path / "password", status=2)
        assert isinstance(error, UsageError)
        assert "one line" in str(error)
