"""Between a trainer and the command that started it: its task, and lines of JSON over a pipe that say how it goes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bundle.errors import RunError, TwhinError
from bundle.records import Record
from training.checkpoint import Position

LOST = "lost touch with another trainer"
RESUME = "The last checkpoint is intact: go on with --resume."
# What the other trainers have, once one has failed, to say what they know.
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a trainer is started with, in types that reach a new process; `config` is JSON, `spoken_for` the bytes of
    `memory` that the command itself holds."""

    run_dir: str
    config: str
    warm_start: str | None
    resume: bool
    spoken_for: int = 0


class Message(Record):
    """One line; the fields that are set say what it is about. An error that was raised on purpose has a `code`."""

    open: str | None = None
    total: int | None = None
    unit: str = ""
    close: bool = False
    advance: int = 0
    note: str | None = None
    error: str | None = None
    code: str | None = None
    end: Position | None = None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class PipeProgress:
    """Progress that is shown elsewhere. One rank opens stages; all of them advance what is open."""

    pipe: Connection
    leads: bool

    def send(self, message: Message) -> None:
        """Ends the process when nobody listens any more: whoever started it is gone."""
        try:
            self.pipe.send_bytes(message.model_dump_json(exclude_defaults=True).encode())
        except BrokenPipeError:
            raise SystemExit(1) from None

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator["PipeStage"]:
        """See Progress."""
        if self.leads:
            self.send(Message(open=name, total=total, unit=unit))
        yield PipeStage(self)
        if self.leads:
            self.send(Message(close=True))


@dataclass(frozen=True, slots=True)
class PipeStage:
    """See Stage."""

    progress: PipeProgress

    def advance(self, n: int = 1) -> None:
        """See Stage."""
        self.progress.send(Message(advance=n))

    def note(self, text: str) -> None:
        """See Stage: that of one rank is shown."""
        if self.progress.leads:
            self.progress.send(Message(note=text))


def receive(pipe: Connection) -> Message:
    """The next message. Raises EOFError when the other end is closed."""
    return Message.model_validate(json.loads(pipe.recv_bytes()))


def error_class(code: str | None) -> type[TwhinError]:
    """The class of errors with this code; RunError for none, a fault of ours."""
    if code is None:
        return RunError
    return next((kind for kind in _descendants(TwhinError) if kind.code == code), RunError)


def _descendants(kind: type[TwhinError]) -> Iterator[type[TwhinError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _descendants(each)
