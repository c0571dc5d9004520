"""The embedded store: one SQLite file in WAL mode, shared by the workers of one machine.

Reads are one indexed look-up on the event loop, microseconds long, and never wait for a writer. Writes go
through one thread that commits whatever has gathered in one transaction, so that many requests share an fsync.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.errors import StateError
from service.state.events import Event, Outcome

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    user_type TEXT NOT NULL, user TEXT NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL, relation TEXT NOT NULL,
    target_type TEXT NOT NULL, target TEXT NOT NULL, at REAL NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (user_type, user, id)
) WITHOUT ROWID
"""
READ = (
    "SELECT id, user_type, user, action, relation, target_type, target, at, received FROM events "
    "WHERE user_type = ? AND user = ?"
)
WRITE = (
    "INSERT INTO events (id, user_type, user, action, relation, target_type, target, at, received) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
COUNT = "SELECT count(*) FROM events WHERE user_type = ? AND user = ?"
FORGET = "DELETE FROM events WHERE user_type = ? AND user = ?"
BUSY_SECONDS = 5.0
WRITES_AT_ONCE = 256

log = logging.getLogger("twhin.state")

_Work = Callable[[sqlite3.Connection], object]
_Job = tuple[_Work, asyncio.AbstractEventLoop, "asyncio.Future[object]"]


class SqliteStore:
    """Events in the SQLite file at `path`. Made inside a running event loop; `close` it there."""

    def __init__(self, path: Path, events_per_user_max: int) -> None:
        """Raises StateError when the file cannot be opened or is no database."""
        self._path = path
        self._events_per_user_max = events_per_user_max
        self._reader = _connect(path)
        self._writes_work = True
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="twhin-state", daemon=True)
        self._writer.start()

    async def events(self, user_type: str, user: str) -> Sequence[Event]:
        try:
            return [Event(*row) for row in self._reader.execute(READ, (user_type, user))]
        except sqlite3.Error as error:
            raise _state_error(error) from error

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        def work(connection: sqlite3.Connection) -> list[Outcome]:
            return [_insert(connection, event, self._events_per_user_max) for event in events]

        return await self._submit(work)  # type: ignore[return-value]

    async def forget(self, user_type: str, user: str) -> int:
        return await self._submit(lambda connection: connection.execute(FORGET, (user_type, user)).rowcount)  # type: ignore[return-value]

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._reader.close()

    def describe(self) -> dict[str, str | bool]:
        return {"kind": "sqlite", "healthy": self._writes_work and self._writer.is_alive(), "shared": False}

    async def _submit(self, work: _Work) -> object:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._jobs.put((work, loop, future))
        return await future

    def _write_loop(self) -> None:
        connection = _connect(self._path)
        running = True
        while running:
            jobs = _gather(self._jobs)
            running = None not in jobs
            self._writes_work = _commit_together(connection, [job for job in jobs if job is not None])
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, not only in the operating system.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(SCHEMA)
    except (sqlite3.Error, OSError) as error:
        raise StateError(
            f"{path} cannot be opened as the store of live engagements: {error}. Set TWHIN_STATE to a file in a "
            "directory that the service may write to, or TWHIN_REDIS_URL."
        ) from error
    return connection


def _insert(connection: sqlite3.Connection, event: Event, limit: int) -> Outcome:
    if connection.execute(COUNT, event.owner).fetchone()[0] >= limit:
        return "full"
    row = (
        event.id,
        event.user_type,
        event.user,
        event.action,
        event.relation,
        event.target_type,
        event.target,
        event.at,
        event.received,
    )
    return "stored" if connection.execute(WRITE, row).rowcount else "duplicate"


def _gather(jobs: "queue.SimpleQueue[_Job | None]") -> list[_Job | None]:
    """The next job, and those that wait already."""
    gathered = [jobs.get()]
    while len(gathered) < WRITES_AT_ONCE and gathered[-1] is not None:
        try:
            gathered.append(jobs.get_nowait())
        except queue.Empty:
            break
    return gathered


def _commit_together(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> bool:
    """Do all the work in one transaction; answer only after the commit, or tell everyone that it failed.

    Returns whether it was committed.
    """
    if not jobs:
        return True
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [work(connection) for work, _, _ in jobs]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        # In its own words, such as "database or disk is full": they name no user and no value.
        log.error("engagements cannot be stored: %s", error, extra={"reason": type(error).__name__})
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        for _, loop, future in jobs:
            _settle(loop, future, None, _state_error(error))
        return False
    for (_, loop, future), result in zip(jobs, results, strict=True):
        _settle(loop, future, result, None)
    return True


def _settle(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[object]", result: object, error: StateError | None
) -> None:
    def settle() -> None:
        if future.done():  # the request has given up; the event is stored all the same
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _state_error(error: sqlite3.Error) -> StateError:
    return StateError(f"the store of live engagements failed: {type(error).__name__}")
