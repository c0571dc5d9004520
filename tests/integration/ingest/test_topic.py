"""A source that reads a topic: nothing is skipped while it waits, nor forgotten before it is done."""

from collections.abc import Iterator

import pytest

from ingest.kafka import KafkaSource, properties, topic_of
from ingest.message import Message
from tests.integration.ingest.conftest import wait_until
from tests.support.kafka_broker import KafkaBroker


class Group:
    """Makes consumers of one group, and closes them."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self.said: list[str] = []
        self._broker, self._topic = broker, topic
        self.open: list[KafkaSource] = []

    def source(self) -> KafkaSource:
        made = KafkaSource(
            topic_of(self._broker.url(self._topic)),
            self._topic,
            properties(self._broker.config),
            until_end=True,
            say=self.said.append,
        )
        self.open.append(made)
        return made


@pytest.fixture
def group(broker: KafkaBroker, topic: str) -> Iterator[Group]:
    made = Group(broker, topic)
    yield made
    for source in made.open:
        source.close()


def rest(source: KafkaSource) -> list[Message]:
    """Everything up to the end."""
    found: list[Message] = []

    def ended() -> bool:
        found.extend(source.read(7, 0.1))
        return source.at_end

    wait_until(ended)
    return found


def test_a_source_that_is_held_gives_afterwards_what_has_come_meanwhile(
    broker: KafkaBroker, topic: str, group: Group
) -> None:
    broker.make(topic, 1)
    broker.fill(topic, [(0, b"%d" % number) for number in range(20)])
    source = group.source()
    found: list[Message] = []
    wait_until(lambda: bool(found.extend(source.read(5, 0.1)) or found))
    for _ in range(3):
        source.hold(0.1)
    broker.fill(topic, [(0, b"%d" % number) for number in range(20, 40)])
    source.hold(0.1)
    found += rest(source)
    numbers = [int(one.value or b"-1") for one in found]
    assert numbers == list(range(40))
    assert found[7].place == f"{topic}/0/7"
    assert len({one.id for one in found}) == 40
    assert all(one.id is not None and len(one.id) <= 64 for one in found)
    assert sorted(found, key=lambda one: one.id or "") == found  # of equal times the later one is the greater


def test_what_is_not_done_is_given_to_the_next_of_the_group(broker: KafkaBroker, topic: str, group: Group) -> None:
    broker.make(topic, 2)
    broker.fill(topic, [(number % 2, b"%d" % number) for number in range(40)])
    first = group.source()
    done: list[Message] = []
    wait_until(lambda: bool(done.extend(first.read(10, 0.1)) or done))
    first.mark()
    unfinished = list(first.read(10, 5.0))  # read, and never acknowledged
    first.done()
    group.open.remove(first)
    first.close()
    again = rest(group.source())
    assert {one.place for one in done}.isdisjoint({one.place for one in again})
    assert {one.place for one in unfinished} <= {one.place for one in again}
    assert {int(one.value or b"-1") for one in [*done, *again]} == set(range(40))
    named = {one.place: one.id for one in again}
    assert all(named[one.place] == one.id for one in unfinished)  # the same message has the same name


def test_a_topic_of_a_long_name_has_names_that_fit(broker: KafkaBroker, group: Group, topic: str) -> None:
    broker.make(topic, 1)
    broker.fill(topic, [(0, b"1")])
    [only] = rest(group.source())
    assert only.id is not None
    assert len(only.id) <= 64
