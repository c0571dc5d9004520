"""Messages from a topic of Kafka, by a consumer group: its offsets say what is dealt with, and nothing else does."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from bundle.errors import ConfigError, IngestError, UsageError
from bundle.text import read_text
from ingest.message import Message, Refused

SCHEME = "kafka://"
# What this has to decide itself, or an event could be lost.
OURS = {
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
}
FIRST_ANSWER_SECONDS, ASK_SECONDS = 15.0, 1.0
PASSWORD = "sasl.password"  # noqa: S105
LETTERS_SECONDS = 30.0
COMMIT_MS = 1000
# An event's id has at most 64 characters: 16 are the offset's, 16 those of partition and time.
TOPIC_CHARACTERS_MAX = 30
Partition = tuple[str, int]


class Topic(NamedTuple):
    """A topic and some brokers that know it."""

    brokers: str
    name: str


def topic_of(url: str) -> Topic:
    """What `kafka://broker[:port][,broker]/topic` names. Raises UsageError."""
    brokers, _, name = url.removeprefix(SCHEME).partition("/")
    if not url.startswith(SCHEME) or not brokers or not name or "/" in name or "@" in brokers or "?" in name:
        raise UsageError(
            "A topic is named as kafka://broker:9092,broker2:9092/topic. Passwords and other properties of the client "
            "stand in the file of --kafka-config."
        )
    return Topic(brokers, unquote(name))


def properties(path: Path | None, password: str | None = None) -> dict[str, str]:
    """The client's properties in a file of lines `name=value`, and the `password` where it has a place of its own.
    Raises ConfigError, which repeats no value.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines() if path else [], start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"{path}, line {number}: a property is written name=value.")
        if name in OURS:
            raise ConfigError(f"{path}, line {number}: {name} is what twhin ingest decides itself. Remove the line.")
        if name == PASSWORD and password is not None:
            raise ConfigError(f"{path}, line {number}: {name} is given in two places. Remove one of them.")
        found[name] = value
    return found if password is None else {**found, PASSWORD: password}


class KafkaSource:
    """The messages of a topic that the group has not dealt with yet: of all partitions, shared with the group's other
    consumers. A group that is new begins at the oldest.
    """

    def __init__(
        self,
        topic: Topic,
        group: str,
        settings: Mapping[str, str],
        *,
        until_end: bool,
        say: Callable[[str], None],
    ) -> None:
        """Raises ConfigError for a property that there is not, IngestError where the brokers do not know the topic."""
        self._say = say
        self._troubled = False
        self._let_in = False
        self._refusal: KafkaError | None = None
        self._until_end = until_end
        self._next: dict[Partition, int] = {}
        self._marked: dict[Partition, int] = {}
        self._assigned: set[Partition] | None = None
        self._ended: set[Partition] = set()
        self._ahead: list[KafkaMessage] = []
        self._named = _named(topic.name)
        try:
            self._consumer = Consumer(
                {
                    "auto.offset.reset": "earliest",
                    "auto.commit.interval.ms": COMMIT_MS,
                    "client.id": "twhin-ingest",
                    **settings,
                    "bootstrap.servers": topic.brokers,
                    "group.id": group,
                    # Offsets are stored when the service has acknowledged, and committed in the background after that.
                    "enable.auto.commit": True,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "error_cb": self._trouble,
                },
                logger=_silent(),
            )
        except KafkaException as error:
            raise ConfigError(f"--kafka-config: {_property(error)}. Correct it.") from None
        self._require(topic)
        self._consumer.subscribe([topic.name], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def _require(self, topic: Topic) -> None:
        due, known = time.monotonic() + FIRST_ANSWER_SECONDS, None
        while known is None:
            try:
                known = self._consumer.list_topics(topic.name, timeout=ASK_SECONDS).topics[topic.name]
            except KafkaException as error:
                self._consumer.poll(0)  # has what is known of the reason told: a refused password, a certificate
                if self._refusal is None and time.monotonic() < due:
                    continue
                self._consumer.close()
                if self._refusal is not None:
                    raise _not_let_in(topic, self._refusal) from None
                raise IngestError(f"The brokers {topic.brokers} do not answer: {_words(error)}.") from None
        if known.error is not None:
            self._consumer.close()
            raise IngestError(f"The topic {topic.name!r} cannot be read: {known.error.str()}.")
        self._let_in, self._refusal = True, None

    @property
    def at_end(self) -> bool:
        """Only where it was asked to end: once each of the partitions that are ours has been read to its end."""
        return self._until_end and self._assigned is not None and self._assigned <= self._ended and not self._ahead

    @property
    def behind(self) -> int | None:
        left = 0
        for (topic, partition), position in self._next.items():
            try:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True) or (0, 0)
            except KafkaException:
                continue
            left += max(0, end - position)
        return left

    def read(self, most: int, seconds: float) -> Sequence[Message]:
        try:
            came = self._ahead or self._consumer.consume(most, seconds)
        except KafkaException as error:
            raise IngestError(f"The topic cannot be read: {_words(error)}.") from None
        self._ahead = []
        return [one for message in came if (one := self._message(message)) is not None]

    def _message(self, message: KafkaMessage) -> Message | None:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._ended.add((topic, partition))
            elif error.retriable() or error.code() in _PASSING:
                self._trouble(error)
            else:
                raise IngestError(f"The topic {topic!r} cannot be read: {error.str()}.")
            return None
        self._troubled = False
        self._next[topic, partition] = offset + 1
        kind, milliseconds = message.timestamp()
        known = kind != TIMESTAMP_NOT_AVAILABLE
        name = f"{self._named}-{partition}-{offset:016d}"
        return Message(
            message.value(),
            f"{topic}/{partition}/{offset}",
            f"{name}-{milliseconds:x}" if known else name,
            milliseconds / 1000 if known else None,
        )

    def mark(self) -> None:
        self._marked = dict(self._next)

    def done(self) -> None:
        for (topic, partition), offset in self._marked.items():
            if (topic, partition) in (self._assigned or ()):
                try:
                    self._consumer.store_offsets(offsets=[TopicPartition(topic, partition, offset)])
                except KafkaException:  # it went to another consumer just now, which sends it again: a duplicate
                    self._next.pop((topic, partition), None)

    def hold(self, seconds: float) -> None:
        """A consumer that does not ask is taken for dead, so it asks, of partitions that give nothing."""
        mine = self._consumer.assignment()
        if mine:
            self._consumer.pause(mine)
        message = self._consumer.poll(seconds)
        if message is not None:
            self._ahead.append(message)
        if mine := self._consumer.assignment():
            self._consumer.resume(mine)

    def close(self) -> None:
        self._consumer.close()

    def _assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = (self._assigned or set()) | {(one.topic, one.partition) for one in partitions}

    def _revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            place = one.topic, one.partition
            (self._assigned or set()).discard(place)
            self._ended.discard(place)
            self._next.pop(place, None)
            self._marked.pop(place, None)
        self._assigned = self._assigned or None  # what is given instead is not known yet

    def _trouble(self, error: KafkaError) -> None:
        """Told once, until a message comes again: the library tries again by itself. A refusal at first ends it all."""
        if error.code() == KafkaError._AUTHENTICATION and not self._let_in:
            self._refusal = error
        if not self._troubled and self._refusal is None:
            self._troubled = True
            self._say(f"The brokers: {error.str()}. It is tried again.")


_PASSING = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
}


class LetterTopic:
    """Dead letters in a topic: the messages as they came, `code` and `place` in their headers."""

    def __init__(self, topic: Topic, settings: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._topic = topic
        self._failed: KafkaError | None = None
        self._refusal: KafkaError | None = None
        ours = {"bootstrap.servers": topic.brokers, "enable.idempotence": True, "acks": "all"}
        try:
            self._producer = Producer({**settings, **ours, "error_cb": self._trouble}, logger=_silent())
        except KafkaException as error:
            raise ConfigError(f"--kafka-config: {_property(error)}. Correct it.") from None

    def put(self, refused: Sequence[Refused]) -> None:
        """Raises IngestError when the topic does not have them all in the end."""
        self._refusal = None
        for message, code in refused:
            try:
                self._producer.produce(
                    self._topic.name,
                    message.value,
                    headers=[("code", code.encode()), ("place", message.place.encode())],
                    timestamp=0 if message.at is None else round(message.at * 1000),
                    on_delivery=self._delivered,
                )
            except (KafkaException, BufferError) as error:  # too large, or more than its queue holds
                why = _words(error) if isinstance(error, KafkaException) else str(error)
                raise IngestError(
                    f"The topic of dead letters {self._topic.name!r} does not take {message.place}: {why}."
                ) from None
        due = time.monotonic() + LETTERS_SECONDS
        while (left := self._producer.flush(ASK_SECONDS)) and self._refusal is None and time.monotonic() < due:
            pass
        if left and self._refusal is not None:
            raise _not_let_in(self._topic, self._refusal)
        if left or self._failed is not None:
            why = "nobody answers" if self._failed is None else self._failed.str()
            raise IngestError(f"The topic of dead letters {self._topic.name!r} does not take them: {why}.")

    def _trouble(self, error: KafkaError) -> None:
        """Anything else passes, or is nobody's answer in the end."""
        if error.code() == KafkaError._AUTHENTICATION:
            self._refusal = error

    def _delivered(self, error: KafkaError | None, _: KafkaMessage) -> None:
        self._failed = error or self._failed

    def close(self) -> None:
        """Nothing is left to write."""


def _silent() -> logging.Logger:
    """The library's own log would stand between our lines: what matters of it comes as an error too."""
    log = logging.getLogger("twhin.ingest.kafka")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def _named(topic: str) -> str:
    """The topic as ids have it."""
    return topic if len(topic) <= TOPIC_CHARACTERS_MAX else hashlib.blake2b(topic.encode(), digest_size=12).hexdigest()


def _not_let_in(topic: Topic, refusal: KafkaError) -> IngestError:
    return IngestError(f"The brokers {topic.brokers} do not let this client in: {refusal.str()}.")


def _words(error: KafkaException) -> str:
    cause = error.args[0]
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def _property(error: KafkaException) -> str:
    """What is wrong with a property, without its value."""
    named = re.search(r'property:? "([^"]+)"', _words(error))
    return f"the client does not take {named[1]} so" if named else "the client does not take these properties together"
