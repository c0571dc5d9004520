"""Whatever is killed on the way from a topic to the store: every message is one event, and none is missing."""

import json
import signal
from pathlib import Path

from tests.integration.ingest.conftest import ended, event, started, stored, wait_until
from tests.support.kafka_broker import KafkaBroker
from tests.support.servers import ServiceProcess

MESSAGES, PARTITIONS = 4000, 3
BAD = 40


def test_a_topic_is_stored_once_though_the_ingester_and_the_service_are_killed_on_the_way(
    broker: KafkaBroker, topic: str, bundles: Path, tmp_path: Path
) -> None:
    broker.make(topic, PARTITIONS)
    each = MESSAGES // BAD
    for start in range(0, MESSAGES, each):
        broker.fill(topic, ((number % PARTITIONS, event(number)) for number in range(start, start + each)))
        broker.fill(topic, [(start // each % PARTITIONS, b"no event")])
    letters = tmp_path / "letters.jsonl"
    letters.write_text('{"place": "torn by a kill')
    service = ServiceProcess(bundles).wait_until_ready()
    try:
        killed = started(broker, topic, service.url, "--batch", "20", "--dead-letters", str(letters))
        wait_until(lambda: stored(bundles).total() > MESSAGES // 10, killed)
        killed.kill()
        killed.communicate()
        before = stored(bundles).total()
        assert before < MESSAGES

        second = started(broker, topic, service.url, "--batch", "20", "--until-end", "--dead-letters", str(letters))
        wait_until(lambda: stored(bundles).total() > before + MESSAGES // 10, second)
        service.process.kill()
        service.process.wait()
        kept = stored(bundles)
        assert kept.total() < MESSAGES
        again = ServiceProcess(bundles, "--port", str(service.port))
        service.process = again.process  # at the same address
        told = ended(second)
    finally:
        service.stop()
    events = stored(bundles)
    assert events.total() == len(events) == MESSAGES
    assert kept.keys() <= events.keys()
    assert len({(user, target) for user, target, _ in events}) == MESSAGES  # each message's own
    assert all(one.startswith(f"{topic[:30]}-") or len(one) <= 64 for _, _, one in events)
    assert told["set_aside"].keys() == {"message_no_json"}
    assert len({json.loads(line)["place"] for line in letters.read_text().splitlines()[1:]}) == BAD
    assert MESSAGES - before <= told["stored"] + told["duplicates"] <= MESSAGES


def test_a_second_ingester_of_the_group_takes_over_where_sigterm_ends_the_first(
    broker: KafkaBroker, topic: str, bundles: Path
) -> None:
    broker.make(topic, PARTITIONS)
    broker.fill(topic, ((number % PARTITIONS, event(number)) for number in range(MESSAGES)))
    service = ServiceProcess(bundles).wait_until_ready()
    try:
        first = started(broker, topic, service.url, "--batch", "50")
        wait_until(lambda: stored(bundles).total() > 0, first)
        second = started(broker, topic, service.url, "--batch", "50", "--until-end")
        wait_until(lambda: stored(bundles).total() > MESSAGES // 4, first)
        first.send_signal(signal.SIGTERM)
        told = [ended(first), ended(second)]
        wait_until(lambda: stored(bundles).total() == MESSAGES)
        # What was acknowledged was committed: nothing is left to read.
        rest = ended(started(broker, topic, service.url, "--until-end"))
    finally:
        service.stop()
    assert len(stored(bundles)) == MESSAGES
    assert sum(one["stored"] for one in told) == MESSAGES
    assert rest == {"stored": 0, "duplicates": 0, "set_aside": {}}
