"""What a stream of engagements costs: CPU of `twhin ingest`, and beside it that of the service which stores them.

    python -m benchmarks.ingest                  # 200,000 messages of a topic of three partitions, and of a file

The broker is Tansu, which speaks Kafka's protocol, on 127.0.0.1. CPU seconds are those of the whole process, its start
included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from bundle.versions import publish
from tests.support.kafka_broker import KafkaBroker
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

PARTITIONS = 3


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        broker = KafkaBroker(root)
        try:
            broker.make("engagements", PARTITIONS)
            messages = enumerate(events(arguments.messages))
            broker.fill("engagements", ((number % PARTITIONS, event) for number, event in messages))
            print(
                "| from | events | a CPU second of the ingester | of the service | known already: of the ingester "
                "| of the service |"
            )
            print("|---|---|---|---|---|---|")
            topic = [broker.url("engagements"), "--until-end", "--kafka-config", str(broker.config)]
            print(
                row("a topic", root / "topic", arguments.messages, [*topic, "--group", "a"], [*topic, "--group", "b"])
            )
            lines = root / "events.jsonl"
            lines.write_bytes(b"\n".join(events(arguments.messages)))
            print(row("a file", root / "file", arguments.messages, [str(lines)], [str(lines)]))
        finally:
            broker.close()


def events(n: int) -> Iterator[bytes]:
    """Events of 400 users."""
    users = user_ids()
    for number in range(n):
        target = users[(number * 7 + number // 400) % 400]
        yield json.dumps({"user": users[number % 400], "target": target, "relation": "follows", "at": number}).encode()


def row(name: str, directory: Path, n: int, first: list[str], again: list[str]) -> str:
    """One row of the table, with a store of its own."""
    publish(directory / "bundles", write_toy_bundle(directory / "bundles", "v1").name)
    service = ServiceProcess(directory / "bundles").wait_until_ready()
    try:
        rates = [rate for words in (first, again) for rate in costs(service, n, words)]
    finally:
        service.stop()
    return f"| {name} | {n:,} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |"


def costs(service: ServiceProcess, n: int, words: list[str]) -> tuple[float, float]:
    """Events a CPU second of the ingester and of the service."""
    process = psutil.Process(service.process.pid)
    before, own = process.cpu_times(), used()
    command = [sys.executable, "-m", "twhin_command", "ingest", *words, "--to", service.url, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["stored"] + told["duplicates"] == n, told
    after = process.cpu_times()
    return n / (used() - own), n / (after.user + after.system - before.user - before.system)


def used() -> float:
    """CPU seconds of the children that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    main()
