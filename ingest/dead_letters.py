"""Messages that are no events, or that the service does not take: set aside where nothing loses them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from bundle.errors import IngestError
from ingest.message import Refused


@runtime_checkable
class DeadLetters(Protocol):
    """Where refused messages go."""

    def put(self, refused: Sequence[Refused]) -> None:
        """Keep them; returns once they are durable. Raises IngestError."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class NoLetters:
    """Nowhere was named: the first one ends the work, and nothing of its batch counts as dealt with."""

    def put(self, refused: Sequence[Refused]) -> None:
        first = refused[0]
        raise IngestError(
            f"{first.message.place}: {first.code}. Name a file by --dead-letters, to which such messages go, "
            "or correct what writes them."
        )

    def close(self) -> None:
        """Nothing to let go of."""


class LetterFile:
    """A file of JSON lines that grows: `place`, `code`, `value`, and the `id` and `at` that the message would have had.

    `twhin ingest` reads it, so what is mended is sent again by it. After a kill a letter may be there twice.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = path.open("ab+")
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":  # a kill has torn the last line, and its message comes again
                self._file.write(b"\n")

    def put(self, refused: Sequence[Refused]) -> None:
        for message, code in refused:
            line: dict[str, str | float] = {"place": message.place, "code": code, "value": _text(message.value)}
            line |= {} if message.id is None else {"id": message.id}
            line |= {} if message.at is None else {"at": message.at}
            self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _text(value: bytes | None) -> str:
    """The bytes as text. Those that are no UTF-8 keep their values, as lone surrogates (Python's surrogateescape)."""
    return (value or b"").decode("utf-8", "surrogateescape")
