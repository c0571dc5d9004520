"""A topic of brokers that speak TLS: read with their certificate's authority in --kafka-config, refused without."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ingest.conftest import ended, event, started, stored
from tests.integration.ingest.test_refusals import ingest
from tests.support.certificate import write_certificate
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka_broker import KafkaBroker
from tests.support.servers import ServiceProcess


@pytest.fixture
def secret_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker whose clients speak TLS."""
    certificate = write_certificate(tmp_path / "certificate.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    doors: list[FaultProxy] = []

    def behind(port: int) -> str:
        doors.append(FaultProxy(port, tls))
        return f"127.0.0.1:{doors[0].port}"

    properties = {"security.protocol": "ssl", "ssl.ca.location": str(certificate)}
    made = KafkaBroker(tmp_path, behind, **properties)
    yield made
    made.close()
    doors[0].close()


def test_a_topic_over_tls_is_stored(secret_broker: KafkaBroker, bundles: Path, topic: str) -> None:
    secret_broker.make(topic, 2)
    secret_broker.fill(topic, [(number % 2, event(number)) for number in range(100)])
    service = ServiceProcess(bundles).wait_until_ready()
    try:
        counts = ended(started(secret_broker, topic, service.url, "--until-end"))
        assert counts["stored"] == 100
        assert len(stored(bundles)) == 100
    finally:
        service.stop()


def test_brokers_whose_certificate_nobody_vouches_for_are_not_read(
    secret_broker: KafkaBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.kafka.FIRST_ANSWER_SECONDS", 3.0)
    config = tmp_path / "kafka.properties"
    config.write_text("security.protocol = ssl\n")
    error, said = ingest(
        secret_broker.url(topic), "--to", "http://127.0.0.1:9", "--kafka-config", str(config), status=6
    )
    assert "do not answer" in str(error)
    assert "certificate" in said
