"""Messages from lines of JSON: a file, or standard input."""

import codecs
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import IngestError
from ingest.message import Message

CHUNK_BYTES = 1 << 20
LINE_BYTES_MAX = 64 << 20


class LineSource:
    """The lines of the file at `path`, or of standard input where there is none. A line's place is no name: files are
    written anew, and have equal names.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises OSError."""
        self._name = "standard input" if path is None else str(path)
        self._descriptor = 0 if path is None else os.open(path, os.O_RDONLY)
        self._mine = path is not None
        self._rest = b""
        self._lines: deque[bytes] = deque()
        self._number = 0
        self._ended = False

    @property
    def at_end(self) -> bool:
        return self._ended and not self._lines

    @property
    def behind(self) -> int | None:
        return None

    def read(self, most: int, seconds: float) -> Sequence[Message]:
        deadline = time.monotonic() + seconds
        while len(self._lines) < most and not self._ended:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                break
            self._take(os.read(self._descriptor, CHUNK_BYTES))
        messages: list[Message] = []
        while self._lines and len(messages) < most:
            line = self._lines.popleft()
            self._number += 1
            if self._number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                messages.append(Message(line, f"{self._name}, line {self._number}", None, None))
        return messages

    def _take(self, chunk: bytes) -> None:
        """Raises IngestError for a line that cannot be one."""
        if not chunk:
            self._ended = True
            if self._rest:
                self._lines.append(self._rest)
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(lines)
        if len(self._rest) > LINE_BYTES_MAX:
            number = self._number + len(self._lines) + 1
            raise IngestError(
                f"{self._name}, line {number}: longer than {LINE_BYTES_MAX >> 20} MiB. One object a line."
            )

    def mark(self) -> None:
        """Nothing to remember."""

    def done(self) -> None:
        """Nothing to remember: what is sent again is a duplicate."""

    def hold(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._mine:
            os.close(self._descriptor)
