"""The one thread that writes to the SQLite file: it commits in one transaction whatever waits, so that many requests
share an fsync, and erases so that no byte of what was erased is left in the file or its log.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bundle.errors import StateError
from service.state import sqlite_schema as schema
from service.state.events import Event, Outcome
from service.state.feedback import Seen
from service.state.trouble import Trouble
from service.state.write_queue import Append, WriteQueue

# What one transaction has, unless a single request has more: a few milliseconds.
EVENTS_AT_ONCE = 256
# How long until an erasure that could not be finished is tried again.
ERASE_AGAIN_SECONDS = 2.0


@dataclass(slots=True)
class Erasure:
    """Everything by and about one user. It is done even when the request has given up."""

    owner: tuple[str, str]
    future: "asyncio.Future[int]"
    size: int = 1
    wanted: bool = True


@dataclass(slots=True)
class Feedback:
    """What was shown and clicked of one experiment; the answer says of each whether it was new."""

    experiment: str
    seen: Sequence[Seen]
    future: "asyncio.Future[list[bool]]"

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

    def __init__(self, path: Path, events_per_user_max: int, trouble: Trouble) -> None:
        """Raises StateError when the file cannot be opened."""
        self._queue: WriteQueue[Write] = WriteQueue(EVENTS_AT_ONCE)
        self._queue_changed = threading.Condition()
        self._closing = False
        self._connection = schema.connect(path)
        self._events_per_user_max = events_per_user_max
        self._trouble = trouble
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="twhin-state", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def put(self, write: Write) -> None:
        """Let `write` wait for its turn; its future gets the answer. Raises QueueFull."""
        with self._queue_changed:
            self._queue.put(write)
            self._queue_changed.notify()

    async def close(self) -> None:
        """Write what waits and end the thread."""
        with self._queue_changed:
            self._closing = True
            self._queue_changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _take(self, seconds: float | None) -> list[Write] | None:
        """The next writes; [] when none came for `seconds`, None when none will come any more."""
        with self._queue_changed:
            if not self._queue and not self._closing:
                self._queue_changed.wait(seconds)
            return self._queue.take() if self._queue or not self._closing else None

    def _run(self) -> None:
        # An erasure that another process did not live to finish is finished here.
        erase_again_at: float | None = time.monotonic()
        while True:
            if erase_again_at is not None and time.monotonic() >= erase_again_at:
                erase_again_at = None if self._rewritten() else time.monotonic() + ERASE_AGAIN_SECONDS
            writes = self._take(None if erase_again_at is None else ERASE_AGAIN_SECONDS)
            if writes is None:
                break
            # In the order in which they came: what is stored after an erasure stays.
            for kind, group in groupby(writes, type):
                if kind is Append:
                    self._append([write for write in group if isinstance(write, Append)])
                elif kind is Feedback:
                    self._count([write for write in group if isinstance(write, Feedback)])
                elif not self._erase([write for write in group if isinstance(write, Erasure)]):
                    erase_again_at = time.monotonic() + ERASE_AGAIN_SECONDS
        self._connection.close()

    def _append(self, appends: Sequence[Append]) -> None:
        """Store the events of all `appends` in one transaction; answer after the commit, or say that it failed."""
        events = [event for append in appends for event in append.events]
        try:
            outcomes = iter(self._stored(events))
        except Exception as error:
            self._settle([(append.future, self._failed(error)) for append in appends])
            return
        self._trouble.end("write")
        self._settle([(append.future, [next(outcomes) for _ in append.events]) for append in appends])

    def _stored(self, events: Sequence[Event]) -> list[Outcome]:
        """As `schema.store`, committed.

        At first without the file's one write lock, which a transaction takes when it comes to inserting: events that
        are duplicates or have no room cost the writers of other processes nothing. Where one of these has written
        since the transaction began, it is done again under the lock.
        """
        try:
            with schema.transaction(self._connection, "BEGIN"):
                return schema.store(self._connection, events, self._events_per_user_max)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        with schema.transaction(self._connection, "BEGIN IMMEDIATE"):
            return schema.store(self._connection, events, self._events_per_user_max)

    def _count(self, feedback: Sequence[Feedback]) -> None:
        """Count the feedback of several requests in one transaction; answer after the commit, or say that it failed."""
        try:
            with schema.transaction(self._connection, "BEGIN IMMEDIATE"):
                new = [schema.count(self._connection, one.experiment, one.seen) for one in feedback]
        except Exception as error:
            self._settle([(one.future, self._failed(error)) for one in feedback])
            return
        self._trouble.end("write")
        self._settle([(one.future, answer) for one, answer in zip(feedback, new, strict=True)])

    def _erase(self, erasures: Sequence[Erasure]) -> bool:
        """Remove all that is stored by and about the users. Returns whether that is finished."""
        try:
            removed = schema.erase(self._connection, [erasure.owner for erasure in erasures])
        except Exception as error:
            self._settle([(erasure.future, self._failed(error)) for erasure in erasures])
            return True
        if not self._rewritten():
            unfinished = StateError("the events are removed, and their last bytes will be when the file allows it")
            self._settle([(erasure.future, unfinished) for erasure in erasures])
            return False
        self._settle([(erasure.future, count) for erasure, count in zip(erasures, removed, strict=True)])
        return True

    def _rewritten(self) -> bool:
        try:
            done = schema.rewrite(self._connection)
        except sqlite3.Error as error:
            self._trouble.begin("erase", str(error))
            return False
        if done:
            self._trouble.end("erase")
        else:
            self._trouble.begin("erase", "another process reads the file, which holds bytes of erased events")
        return done

    def _failed(self, error: Exception) -> StateError:
        # In SQLite's own words, such as "database or disk is full": they name no user and no value.
        words = str(error) if isinstance(error, sqlite3.Error) else type(error).__name__
        self._trouble.begin("write", words)
        return StateError(f"the store of live engagements failed: {type(error).__name__}")

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
