"""Whether the files of an open SQLite database are still there under their names, and whole: what is written into a
file without a name is gone at the next start, as is what stands behind a gap, and SQLite itself does not look.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The file, and what SQLite keeps beside it for as long as anybody has it open: the log that commits are written to, and
# the memory by which processes find their way in the log.
PARTS = {"": "its file", "-wal": "its log (-wal)", "-shm": "its shared memory (-shm)"}
FILE_CUT = "its file was cut or overwritten while it was open: stop the service and put a copy back"
LOG_CUT = "its log (-wal) was cut while it was open"
LOG_LOST = f"{LOG_CUT}: what was stored last is gone"
INDEX_CUT = "its shared memory (-shm) was cut while it was open"

# From https://sqlite.org/walformat.html: the head of the shared memory, which stands there twice; after it how many
# frames of the log are in the file already, and how many it was begun with to bring there; its regions, and how many
# frames each is for; and the byte that is locked by who writes to the log.
HEAD = struct.Struct("=12xBxHI4x8x8x8x")
HEADS_BYTES = 2 * HEAD.size
DONE = struct.Struct("=I28xI")
REGION_BYTES, REGION_FRAMES, FIRST_REGION_FRAMES = 32_768, 4096, 4062
WRITE_LOCK = 120
LOG_HEAD_BYTES, FRAME_HEAD_BYTES = 32, 24
# The head of the file (https://sqlite.org/fileformat.html): the size of a page, and how many there are.
FILE_HEAD = struct.Struct(">16sH10xI")
MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class LogIndex:
    """What the shared memory says: how many frames the log has, how many of these are in the file as well, and how many
    somebody has begun to bring there.
    """

    page_bytes: int = 0
    frames: int = 0
    done: int = 0
    begun: int = 0

    @property
    def frame_bytes(self) -> int:
        return FRAME_HEAD_BYTES + self.page_bytes

    @property
    def log_bytes(self) -> int:
        """How long the log must be."""
        return LOG_HEAD_BYTES + self.frames * self.frame_bytes if self.frames else 0

    @property
    def file_is_whole(self) -> bool:
        """Whether the file has all pages that its own head counts: not while some of the log are on their way."""
        return self.begun == self.done and self.done in (0, self.frames)

    @property
    def index_bytes(self) -> int:
        """How long the shared memory must be."""
        further = max(0, self.frames - FIRST_REGION_FRAMES)
        return REGION_BYTES * (1 + -(-further // REGION_FRAMES))


class OpenFiles:
    """The files behind a path as they are now: to be made when the first connection has opened them, and closed after
    the last one, since who closes any descriptor of a file loses all locks that the process has there.
    """

    def __init__(self, path: Path) -> None:
        # SQLite finds the other two beside what a link leads to; the link itself may be made to lead elsewhere.
        real = path.resolve()
        self._paths = {part: real.with_name(real.name + part) if part else path for part in PARTS}
        self._opened = {part: _identity(name) for part, name in self._paths.items()}
        self._know(LogIndex())
        self._descriptors: list[int] = []
        if self.fault() is None:
            for part, mode in {"": os.O_RDONLY, "-wal": os.O_RDWR, "-shm": os.O_RDWR}.items():
                self._descriptors.append(os.open(self._paths[part], mode | os.O_CLOEXEC))

    def close(self) -> None:
        """Let go of the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _know(self, index: LogIndex) -> None:
        self._known, self._memory_bytes = index, index.index_bytes

    @property
    def log(self) -> LogIndex:
        """What the log had when it was looked at last."""
        return self._known

    def fault(self) -> str | None:
        """What is no longer there under its name; None while all is. Takes a few microseconds."""
        for part, name in self._paths.items():
            found = _identity(name)
            if found is None or found != self._opened[part]:
                return f"{PARTS[part]} was removed or replaced while it was open: restart the service"
        return None

    def may_be_read(self) -> bool:
        """Whether the shared memory is as long as it was: the system ends a process that looks behind its end."""
        return os.fstat(self._descriptors[2]).st_size >= self._memory_bytes

    def damage(self) -> str | None:
        """Which of the files somebody has cut; None while all are whole. Takes a few microseconds."""
        file, log, _ = self._descriptors
        if not self.may_be_read():
            return INDEX_CUT
        index = self._index()
        if index is None:  # somebody writes to it just now
            return None
        # What it was before may be brought into the file, and the log emptied, at any moment.
        if _end(log) < index.log_bytes and self._index() == index:
            return LOG_CUT
        if index.file_is_whole and _is_short(file) and self._index() == index:
            return FILE_CUT
        self._know(index)
        return None

    def mend(self) -> str | None:
        """Where the log or the shared memory was cut, have SQLite begin anew with what is left: it makes its shared
        memory again when it finds nothing there. Returns what was cut, None where another process writes just now.
        """
        _, log, memory = self._descriptors
        with self._nobody_writes() as mine:
            damage = self.damage() if mine else None
            if damage is None or damage == FILE_CUT:
                return None
            index = self._index() or self._known
            if (end := _end(log)) < index.log_bytes:
                left = max(0, end - LOG_HEAD_BYTES) // index.frame_bytes
                if left <= index.done:  # the file is newer than what is left of the log, which would be laid over it
                    os.ftruncate(log, 0)
                damage = LOG_LOST if max(left, index.done) < index.frames else LOG_CUT
            # What is left of a head would be taken for one of the whole.
            os.pwrite(memory, bytes(HEADS_BYTES), 0)
            if not self.may_be_read():
                os.ftruncate(memory, self._memory_bytes)
            return damage

    def _index(self) -> LogIndex | None:
        """What the shared memory says; None while it is being written or made."""
        found = os.pread(self._descriptors[2], HEADS_BYTES + DONE.size, 0)
        first, second = found[: HEAD.size], found[HEAD.size : HEADS_BYTES]
        if len(found) < HEADS_BYTES + DONE.size or first != second:
            return None
        is_made, page_bytes, frames = HEAD.unpack(first)
        return LogIndex(_page_bytes(page_bytes), frames, *DONE.unpack(found[HEADS_BYTES:])) if is_made else None

    @contextmanager
    def _nobody_writes(self) -> Iterator[bool]:
        """Whether no other process writes to the log, nor does so meanwhile. Not while this one writes."""
        try:
            fcntl.lockf(self._descriptors[2], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, WRITE_LOCK)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptors[2], fcntl.LOCK_UN, 1, WRITE_LOCK)


def _end(log: int) -> int:
    """How far the log goes without a gap: what is written to a file that was cut stands behind one."""
    size = os.fstat(log).st_size
    try:
        return min(size, os.lseek(log, 0, os.SEEK_HOLE))
    except OSError:  # it is empty, or the file system knows of no gaps
        return size


def _is_short(file: int) -> bool:
    """Whether the file has fewer pages than its head says, or another head."""
    head = os.pread(file, FILE_HEAD.size, 0)
    if len(head) < FILE_HEAD.size:
        return True
    magic, page_bytes, pages = FILE_HEAD.unpack(head)
    return bool(magic != MAGIC or os.fstat(file).st_size < pages * _page_bytes(page_bytes))


def _page_bytes(written: int) -> int:
    return 65_536 if written == 1 else written


def _identity(path: Path) -> tuple[int, int] | None:
    """What no other file has at the same time, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
