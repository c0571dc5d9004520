"""`twhin ingest`: a stream of engagements into a running service."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bundle.errors import UsageError
from bundle.text import read_text
from cli.output import JsonFlag, counted, emit, line
from cli.progress import progress, say

if TYPE_CHECKING:
    from ingest.dead_letters import DeadLetters
    from ingest.sender import Sender
    from ingest.source import Source

KEY_VARIABLE, KAFKA_PASSWORD_VARIABLE = "TWHIN_KEY", "TWHIN_KAFKA_PASSWORD"
BATCH = 1000


def ingest(
    source: Annotated[
        str,
        typer.Argument(
            help="kafka://broker[:port][,broker]/topic, a file of JSON lines, or - for standard input.",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="The service.", metavar="URL")] = "http://127.0.0.1:8000",
    key_file: Annotated[
        Path | None, typer.Option(help=f"File with the service's write key; or set {KEY_VARIABLE}.", metavar="FILE")
    ] = None,
    group: Annotated[str, typer.Option(help="The consumer group, whose offsets say what is done.")] = "twhin-ingest",
    kafka_config: Annotated[
        Path | None,
        typer.Option(help="File of librdkafka's properties, name=value a line: TLS, SASL.", metavar="FILE"),
    ] = None,
    kafka_password_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the password of SASL (sasl.password); or set {KAFKA_PASSWORD_VARIABLE}.", metavar="FILE"
        ),
    ] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at the end of the topic.")] = False,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            help="Where messages have a word of the API, as target=object.id; may be repeated.",
            metavar="WORD=PLACE",
        ),
    ] = None,
    relation: Annotated[
        str | None, typer.Option(help="Of messages that name none; by default the version's default relation.")
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option(
            help="File, or kafka://broker/topic, for messages that are refused; without it the first ends the work.",
            metavar="FILE",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Events in one request, as far as the service takes them.", min=1)] = BATCH,
    patience: Annotated[
        float, typer.Option(help="Seconds for which a service that is away is waited for.", min=0)
    ] = 300.0,
    as_json: JsonFlag = False,
) -> None:
    """Store what a topic of Kafka, or a file, says users did: each message once, whatever is killed meanwhile.

    Messages are JSON objects in the words of POST /v1/engagements. Ctrl-C or SIGTERM stops it; run again, it goes on.
    """
    from ingest.message import Reader
    from ingest.run import Ingest
    from ingest.sender import Sender
    from twhin_client import Client

    reader = Reader(_fields(field or []), relation)
    try:
        client = Client(to, key=_key(key_file))
    except ValueError as error:
        raise UsageError(f"--to: {error}.") from None
    sender = Sender(client, patience, say)
    with ExitStack() as stack, _stopped_by_signals(sender), progress().stage("Ingesting", None, "events") as stage:
        stack.callback(client.close)
        client_of_kafka = Kafka(kafka_config, _password(kafka_password_file))
        letters = _letters(dead_letters, client_of_kafka)
        stack.callback(letters.close)
        opened = _source(source, group, client_of_kafka, until_end)
        stack.callback(opened.close)
        counts = Ingest(opened, reader, sender, letters, min(batch, sender.batch_max()), say).run(stage)

    def show() -> None:
        line(f"Stored {counted(counts.stored, 'event')}; {counts.duplicates:,} were there already.")
        for code, n in counts.set_aside.most_common():
            line(f"  {counted(n, 'message')} set aside: {code}")

    emit({"stored": counts.stored, "duplicates": counts.duplicates, "set_aside": counts.set_aside}, as_json, show)


def _fields(given: list[str]) -> dict[str, str]:
    fields = {}
    for one in given:
        word, equals, place = one.partition("=")
        if not equals or not place:
            raise UsageError("--field is written WORD=PLACE, as --field target=object.id.")
        fields[word] = place
    return fields


def _key(file: Path | None) -> str | None:
    """Raises UsageError for what no header can hold, which it does not repeat."""
    key = os.environ.get(KEY_VARIABLE) if file is None else read_text(file).strip()
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY_VARIABLE if file is None else file}: a key is one line of printable ASCII.")
    return key


def _password(file: Path | None) -> str | None:
    """Raises UsageError for a file that has no password, or more than one."""
    if file is None:
        return os.environ.get(KAFKA_PASSWORD_VARIABLE) or None
    lines = read_text(file).splitlines()
    if len(lines) != 1 or not lines[0]:
        raise UsageError(f"{file}: a password is one line.")
    return lines[0]


class Kafka(NamedTuple):
    """What a client of Kafka is told, and its password where that has a place of its own."""

    config: Path | None
    password: str | None


def _source(source: str, group: str, kafka: Kafka, until_end: bool) -> "Source":
    if "://" in source:
        from ingest.kafka import KafkaSource, properties, topic_of

        return KafkaSource(topic_of(source), group, properties(*kafka), until_end=until_end, say=say)
    from ingest.lines import LineSource

    return LineSource(None if source == "-" else Path(source))


def _letters(target: str | None, kafka: Kafka) -> "DeadLetters":
    if target is not None and "://" in target:
        from ingest.kafka import LetterTopic, properties, topic_of

        return LetterTopic(topic_of(target), properties(*kafka))
    from ingest.dead_letters import LetterFile, NoLetters

    return NoLetters() if target is None else LetterFile(Path(target))


@contextmanager
def _stopped_by_signals(sender: "Sender") -> Iterator[None]:
    """SIGTERM and Ctrl-C let what is under way end; a second one ends at once."""

    def stop(number: int, _: object) -> None:
        sender.stopping.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
