"""The one thread that writes to the SQLite file: it commits in one transaction whatever waits, so that many requests
share an fsync, and erases so that no byte of what was erased is left in the file or its log. Nothing counts as written
unless the file still has its name then.
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from bundle.errors import StateError
from service.state import sqlite_schema as schema
from service.state.events import Outcome
from service.state.feedback import Seen
from service.state.open_files import OpenFiles
from service.state.trouble import SOME_USERS_SECONDS, Trouble
from service.state.write_queue import Append, WriteQueue

# What one transaction has: a few milliseconds. One of a large write goes on with other large ones while no small one
# waits: these wait for one at the most.
EVENTS_AT_ONCE = 256
LARGE = 32
EVENTS_TOGETHER_MAX = 1024
# How long until an erasure that could not be finished is tried again.
ERASE_AGAIN_SECONDS = 2.0
# An erasure goes through the whole file, and others' writes wait meanwhile: so many times as long as it took no other
# is begun, however many are asked for. Those that wait then are done in one go.
ERASURE_RESTS = 3.0
# A write that has taken longer, other than an erasure, waits for another process or for the disk.
LATE_SECONDS = 1.0
# How often it is looked after the files, and tried whether writing works again, while nobody writes.
LOOK_SECONDS = 1.0
# So many frames of the log (4 MB) are brought into the file, once whoever waits for them is answered, and all while
# nobody writes. If SQLite did so by itself, before anybody looks, it would take what is missing for empty pages.
FRAMES_MAX = 1000

log = logging.getLogger("twhin.state")
Result = TypeVar("Result")


@dataclass(slots=True)
class Erasure:
    """Everything by and about one user. It is done even when the request has given up."""

    owner: tuple[str, str]
    future: "asyncio.Future[int]"
    size: int = 1
    wanted: bool = True
    goes_on: bool = False


@dataclass(slots=True)
class Feedback:
    """What was shown and clicked of one experiment; the answer says of each whether it was new."""

    experiment: str
    seen: Sequence[Seen]
    future: "asyncio.Future[list[bool]]"
    goes_on: bool = False

    @property
    def owner(self) -> str:
        return self.experiment

    @property
    def size(self) -> int:
        return len(self.seen)

    @property
    def wanted(self) -> bool:
        return not self.future.cancelled()


Write = Append | Erasure | Feedback


class SqliteWriter:
    """Made inside the event loop that hands it writes; `close` it there."""

    def __init__(self, path: Path, files: OpenFiles, events_per_user_max: int, trouble: Trouble) -> None:
        """`files` are those that another connection to `path` has opened. Raises StateError when that cannot be."""
        self._queue: WriteQueue[Write] = WriteQueue(EVENTS_AT_ONCE, LARGE)
        self._queue_changed = threading.Condition()
        self._closing = False
        self._erasures_rest_until = 0.0
        self._erase_again_at = -math.inf  # by the monotonic clock; never, where none waits to be finished
        self._began = math.inf
        self._connection = schema.connect(path)
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._files = files
        self._events_per_user_max = events_per_user_max
        self._trouble = trouble
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="twhin-state", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def late(self) -> bool:
        """Whether a write has been under way for long: whoever waits for it is told so before it fails."""
        return time.monotonic() > self._began + LATE_SECONDS

    def put(self, *writes: Write) -> None:
        """Let `writes`, all of one request, wait for their turns; their futures get the answers. Raises QueueFull."""
        with self._queue_changed:
            self._queue.put(*writes)
            self._queue_changed.notify()

    async def close(self) -> None:
        """Write what waits and end the thread."""
        with self._queue_changed:
            self._closing = True
            self._queue_changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _take(self, seconds: float) -> list[Write] | None:
        """The next writes; [] when none came for `seconds`, None when none will come any more."""
        with self._queue_changed:
            writes = self._queue.take(self._what_rests())
            if not writes and not self._closing:
                rest = self._erasures_rest_until - time.monotonic()
                self._queue_changed.wait(min(seconds, rest) if self._queue and rest > 0 else seconds)
                writes = self._queue.take(self._what_rests())
            return writes if writes or self._queue or not self._closing else None

    def _what_rests(self) -> type | None:
        return Erasure if time.monotonic() < self._erasures_rest_until and not self._closing else None

    def _run(self) -> None:
        self._safely(self._bring_log_into_file)
        while self._turn():
            pass
        self._safely(self._look)  # whoever closes the file last brings the log into it
        self._connection.close()

    def _turn(self) -> bool:
        """Do what waits, or look around. Whether to go on."""
        self._safely(self._finish_erasure)
        writes = self._take(LOOK_SECONDS)
        if writes is None:
            return False
        self._safely(partial(self._write, writes) if writes else self._look_around, writes)
        self._began = math.inf
        return True

    def _safely(self, work: Callable[[], None], writes: Sequence[Write] = ()) -> None:
        """Do `work`. A fault of ours costs this alone, and who waits for `writes` is told."""
        try:
            work()
        except Exception as error:  # its words may repeat what is stored
            log.error("a turn of the thread that writes failed", extra={"reason": type(error).__name__})
            self._settle([(write.future, self._failed(error)) for write in writes])

    def _finish_erasure(self) -> None:
        """One that another process did not live to finish, or that another one's reading has kept."""
        if time.monotonic() >= self._erase_again_at:
            self._erase_again_at = time.monotonic() + ERASE_AGAIN_SECONDS
            if self._rewritten():
                self._erase_again_at = math.inf

    def _look_around(self) -> None:
        self._look()
        self._bring_log_into_file()

    def _write(self, writes: Sequence[Write]) -> None:
        for kind, group in groupby(_erasures_together(writes), type):
            self._began = math.inf if kind is Erasure else time.monotonic()
            if kind is Append:
                self._append([write for write in group if isinstance(write, Append)])
            elif kind is Feedback:
                self._count([write for write in group if isinstance(write, Feedback)])
            elif not self._erase([write for write in group if isinstance(write, Erasure)]):
                self._erase_again_at = time.monotonic() + ERASE_AGAIN_SECONDS
            self._bring_log_into_file(at_least=FRAMES_MAX)

    def _append(self, appends: list[Append]) -> None:
        """Store the events of all `appends` in one transaction; answer after the commit, or say that it failed."""
        try:
            outcomes = iter(self._kept(lambda: self._stored(appends)))
        except Exception as error:
            self._settle([(append.future, self._failed(error)) for append in appends])
            return
        self._trouble.end("write")
        self._settle([(append.future, [next(outcomes) for _ in append.events]) for append in appends])

    def _stored(self, appends: list[Append]) -> list[Outcome]:
        """As `schema.store`, committed. After a large write of more large ones too, which `appends` gets.

        At first without the file's one write lock, which a transaction takes when it comes to inserting: events that
        are duplicates or have no room cost the writers of other processes nothing. Where one of these has written
        since the transaction began, it is done again under the lock.
        """
        try:
            with schema.transaction(self._connection, "BEGIN"):
                return self._stored_with_more(appends)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        with schema.transaction(self._connection, "BEGIN IMMEDIATE"):
            return self._stored_with_more(appends)

    def _stored_with_more(self, appends: list[Append]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        some: Sequence[Append] = list(appends)
        while some:
            events = [event for append in some for event in append.events]
            outcomes += schema.store(self._connection, events, self._events_per_user_max)
            some = self._more_of(some) if len(outcomes) < EVENTS_TOGETHER_MAX else []
            appends += some
        return outcomes

    def _more_of(self, appends: Sequence[Append]) -> list[Append]:
        if appends[0].size < LARGE:
            return []
        with self._queue_changed:
            more = self._queue.next_large(Append)
        return [] if more is None else [more]

    def _count(self, feedback: Sequence[Feedback]) -> None:
        """Count the feedback of several requests in one transaction; answer after the commit, or say that it failed."""

        def counted() -> list[list[bool]]:
            with schema.transaction(self._connection, "BEGIN IMMEDIATE"):
                return [schema.count(self._connection, one.experiment, one.seen) for one in feedback]

        try:
            new = self._kept(counted)
        except Exception as error:
            self._settle([(one.future, self._failed(error)) for one in feedback])
            return
        self._trouble.end("write")
        self._settle([(one.future, answer) for one, answer in zip(feedback, new, strict=True)])

    def _erase(self, erasures: Sequence[Erasure]) -> bool:
        """Remove all that is stored by and about the users. Returns whether that is finished."""
        owners, began = [erasure.owner for erasure in erasures], time.monotonic()
        try:
            removed = self._kept(lambda: schema.erase(self._connection, owners))
        except Exception as error:
            self._settle([(erasure.future, self._failed(error)) for erasure in erasures])
            return True
        done, ended = self._rewritten(), time.monotonic()
        self._erasures_rest_until = ended + ERASURE_RESTS * (ended - began)
        if not done:
            unfinished = StateError("the events are removed, and their last bytes will be when the file allows it")
            self._settle([(erasure.future, unfinished) for erasure in erasures])
            return False
        self._settle([(erasure.future, count) for erasure, count in zip(erasures, removed, strict=True)])
        return True

    def _rewritten(self) -> bool:
        try:
            done = schema.rewrite(self._connection, self._require_files)
        except StateError:
            return False
        except sqlite3.Error as error:
            schema.failed(self._trouble, "erase", error)
            return False
        if done:
            self._trouble.end("erase")
        else:
            self._trouble.begin("erase", "another process reads the file, which holds bytes of erased events")
        return done

    def _kept(self, write: Callable[[], Result]) -> Result:
        """What `write` does, which commits. Raises StateError where that may be in a file that has lost its name or was
        cut: it is looked afterwards, as that may happen meanwhile, and before, so that no more goes into it.
        """
        self._require_files()
        done = write()
        self._require_files()
        return done

    def _require_files(self) -> None:
        fault = self._files.fault()
        if fault is not None:
            self._empty_log()  # first: who hears of the fault may end the process
            self._trouble.begin("file", fault)
            raise StateError("the store of live engagements has lost its files")
        damage = self._files.damage()
        if damage is not None:
            mended = self._files.mend()
            self._trouble.begin("file", mended or damage, lasts=SOME_USERS_SECONDS)
            raise StateError("a file of the store of live engagements was cut")
        self._trouble.end("file")

    def _bring_log_into_file(self, at_least: int = 1) -> None:
        """Where the log has so many frames, and some that the file has not."""
        with suppress(StateError, sqlite3.Error):  # told by the next write; this is tried again
            self._require_files()
            if self._files.log.frames < at_least or self._files.log.done == self._files.log.frames:
                return
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._require_files()

    def _empty_log(self) -> None:
        """Bring what is in the log into the file that is open: the log may be the one that has lost its name, and where
        that is the file, a log that is full would be laid over what has come in its place.
        """
        with suppress(sqlite3.Error):  # another process reads, or writes: it is tried again
            self._connection.execute(f"PRAGMA busy_timeout = {schema.READER_SECONDS * 1000:.0f}")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute(f"PRAGMA busy_timeout = {schema.BUSY_SECONDS * 1000:.0f}")

    def _look(self) -> None:
        """See after the files, and whether writing works again: nobody may write for long."""
        with suppress(StateError):
            self._require_files()
            if self._trouble.has("write"):
                self._try_out()

    def _try_out(self) -> None:
        try:
            schema.touch(self._connection)
        except sqlite3.Error as error:
            self._failed(error)
        else:
            self._trouble.end("write")

    def _failed(self, error: Exception) -> StateError:
        return error if isinstance(error, StateError) else schema.failed(self._trouble, "write", error)

    def _settle(self, answers: Sequence[tuple["asyncio.Future[Any]", object]]) -> None:
        """Hand all the answers to the event loop in one wake-up."""

        def settle() -> None:
            for future, answer in answers:
                if future.done():  # the request has given up; what is stored is stored all the same
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)


def _erasures_together(writes: Sequence[Write]) -> list[Write]:
    """All erasures after one another, so that the file is gone through once. Each user's writes stay in their order:
    what is stored after an erasure stays.
    """
    last: dict[Hashable, int] = {one.owner: place for place, one in enumerate(writes) if isinstance(one, Erasure)}
    before = [one for place, one in enumerate(writes) if place < last.get(one.owner, 0) and type(one) is not Erasure]
    erasures = [one for one in writes if isinstance(one, Erasure)]
    after = [one for place, one in enumerate(writes) if place >= last.get(one.owner, 0) and type(one) is not Erasure]
    return [*before, *erasures, *after]
