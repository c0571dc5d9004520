"""The SQLite file of live engagements: its tables, how it is opened, and the statements over it."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.state.events import (
    FOLLOWERS_MAX,
    NO_FOLLOWERS,
    Event,
    Followers,
    Outcome,
    edges_of_groups,
    followers,
    rooms,
)
from service.state.feedback import MARKS_KEPT, Count, Seen, counts_of
from service.state.trouble import SOME_USERS_SECONDS, Trouble

# `users` is kept by triggers, whoever writes: how many events a user has, and a stamp that no two states of a user
# share, by which a cache knows whether it is still right.
SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS events (
    user_type TEXT NOT NULL, user TEXT NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL, relation TEXT NOT NULL,
    target_type TEXT NOT NULL, target TEXT NOT NULL, at REAL NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (user_type, user, id)
) WITHOUT ROWID
""",
    """
CREATE TABLE users (
    user_type TEXT NOT NULL, user TEXT NOT NULL, events INTEGER NOT NULL, stamp INTEGER NOT NULL,
    PRIMARY KEY (user_type, user)
) WITHOUT ROWID
""",
    """
CREATE TRIGGER event_stored AFTER INSERT ON events BEGIN
    INSERT INTO users VALUES (new.user_type, new.user, 1, random())
    ON CONFLICT DO UPDATE SET events = events + 1, stamp = random();
END
""",
    """
CREATE TRIGGER event_removed AFTER DELETE ON events BEGIN
    UPDATE users SET events = events - 1, stamp = random() WHERE user_type = old.user_type AND user = old.user;
    DELETE FROM users WHERE user_type = old.user_type AND user = old.user AND events = 0;
END
""",
    "INSERT INTO users SELECT user_type, user, count(*), random() FROM events GROUP BY user_type, user",
    "PRAGMA user_version = 1",
)
# Who did something to a user of the same type, newest first. Of the file's other events it has none, so that writing
# those costs nothing more; it has all that is asked for, and goes with the events that it is of.
BY_TARGET = """
CREATE INDEX IF NOT EXISTS events_by_target ON events (target_type, target, relation, at, user, action, received, id)
WHERE user_type = target_type AND action IN ('add', 'remove')
"""
# Feedback names no user. `number` grows with each mark, so that the oldest are known.
FEEDBACK = (
    """
CREATE TABLE IF NOT EXISTS feedback (
    experiment TEXT NOT NULL, arm TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (experiment, arm, kind)
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS marks (
    experiment TEXT NOT NULL, mark INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (experiment, mark)
) WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS marks_by_number ON marks (experiment, number)",
)
# The values of user_version. An erasure leaves its mark until the last byte is gone, whoever has to finish it.
EARLIER, IN_ORDER, ROWS_REMOVED, FILE_REWRITTEN = range(4)

# Columns in the order of Event's fields.
EVENTS = """
SELECT id, user_type, user, action, relation, target_type, target, at, received FROM events
WHERE user_type = ? AND user = ?
"""
USER = "SELECT events, stamp FROM users WHERE user_type = ? AND user = ?"
NET_EFFECT = """
SELECT action, name, json_group_array(target), group_concat(printf('%!.17g', at)) FROM (
    SELECT action, name, target, at, row_number() OVER (
        PARTITION BY action IN ('add', 'remove'), name, target ORDER BY at DESC, received DESC, id DESC
    ) AS place FROM (
        SELECT *, iif(action IN ('add', 'remove'), relation, target_type) AS name FROM events
        WHERE user_type = ? AND user = ?
    )
) WHERE place = 1 GROUP BY action, name
"""
# USER, and a row of nothing for each that did something to the user: of most users both are none, and most of what that
# costs is opening a transaction and two look-ups. In an order, and up to a limit, it would cost half as much again.
SINCE = """
SELECT events, stamp FROM users WHERE user_type = ?1 AND user = ?2
UNION ALL SELECT NULL, NULL FROM events INDEXED BY events_by_target
WHERE user_type = target_type AND action IN ('add', 'remove') AND target_type = ?1 AND target = ?2 AND relation = ?3
"""
# Who did something to the user, newest first.
FOLLOWERS = """
SELECT user, action, at, received, id FROM events INDEXED BY events_by_target
WHERE user_type = target_type AND action IN ('add', 'remove') AND target_type = ?1 AND target = ?2 AND relation = ?3
ORDER BY at DESC, received DESC, id DESC LIMIT ?4
"""
# Rows that are read of what was done to one user, newest first: one who does and undoes the same again and again hides
# nobody else, until so many have come.
FOLLOWERS_READ = 16 * FOLLOWERS_MAX
# Of each event that is asked for: its place, how many its user has, and whether it is stored. In one row: each row that
# is read costs as much as a statement where another thread has Python's lock.
KNOWN = """
WITH asked(place, user_type, user, id) AS (VALUES {values})
SELECT group_concat(place || ',' || coalesce(users.events, 0) || ',' || (events.id IS NOT NULL)) FROM asked
LEFT JOIN users ON users.user_type = asked.user_type AND users.user = asked.user
LEFT JOIN events ON events.user_type = asked.user_type AND events.user = asked.user AND events.id = asked.id
"""
# The same of one user: how many, and the places of those that are stored.
KNOWN_OF_ONE = """
WITH asked(place, id) AS (VALUES {values})
SELECT (SELECT events FROM users WHERE user_type = ?1 AND user = ?2), group_concat(place) FROM asked
CROSS JOIN events ON user_type = ?1 AND user = ?2 AND events.id = asked.id
"""
INSERT = """
INSERT INTO events (id, user_type, user, action, relation, target_type, target, at, received) VALUES {values}
"""
FORGET = "DELETE FROM events WHERE user_type = ? AND user = ?"
FORGET_MENTIONS = "DELETE FROM events WHERE (target_type, target) IN (VALUES {values})"

LAST_MARK = "SELECT max(number) FROM marks WHERE experiment = ?"
MARK = "INSERT OR IGNORE INTO marks VALUES (?, ?, ?)"
COUNT = "INSERT INTO feedback VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number"
COUNTED = "SELECT arm, kind, number FROM feedback WHERE experiment = ?"
FORGET_MARKS = "DELETE FROM marks WHERE experiment = ? AND number <= ?"

BUSY_SECONDS = 5.0
READER_SECONDS = 0.25
ROWS_AT_ONCE = 256

# Trouble with some pages of the file, and so with some users: others are read and written with success all the time.
SOME_PAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)

Item = TypeVar("Item")


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, made and brought up to date where it must be. Raises StateError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _require_ours(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns, not only in the operating system.
        connection.execute("PRAGMA synchronous = FULL")
        if version_of(connection) == EARLIER:
            with transaction(connection, "BEGIN IMMEDIATE"):
                if version_of(connection) == EARLIER:  # another process may have been first
                    for statement in SCHEMA:
                        connection.execute(statement)
        for statement in (BY_TARGET, *FEEDBACK):
            connection.execute(statement)
    except (sqlite3.Error, OSError) as error:
        raise StateError(
            f"{path} cannot be opened as the store of live engagements: {error}. Set TWHIN_STATE to a file in a "
            "directory that the service may write to, or TWHIN_REDIS_URL."
        ) from error
    return connection


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StateError where another program, or a later release, has made the file: it is left as it is."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    try:
        if tables:
            connection.execute(f"{EVENTS} LIMIT 0", ("", ""))
        known = version_of(connection) <= FILE_REWRITTEN
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # what is said of statements alone
            raise
        known = False
    if not known:
        connection.close()
        raise StateError(
            f"{path} is a database of another program, or of a later release: it is no store of live engagements here. "
            "Set TWHIN_STATE to another file."
        )


def version_of(connection: sqlite3.Connection) -> int:
    """The file's user_version."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def failed(trouble: Trouble, operation: str, error: Exception) -> StateError:
    """Say in `trouble` that the `operation` failed. Returns what the request is told."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own words may repeat what is stored: it met something that no event is
        trouble.begin(operation, "the file is damaged", type(error).__name__, lasts=SOME_USERS_SECONDS)
    else:  # SQLite's, such as "database or disk is full", name no user and no value
        trouble.begin(operation, str(error), lasts=SOME_USERS_SECONDS if code & 0xFF in SOME_PAGES else 0.0)
    return StateError(f"the store of live engagements failed: {type(error).__name__}")


def touch(connection: sqlite3.Connection) -> None:
    """Write to the file without changing anything. Raises sqlite3.Error where that does not go."""
    with transaction(connection, "BEGIN IMMEDIATE"):
        connection.execute(f"PRAGMA user_version = {version_of(connection)}")


def events_of(connection: sqlite3.Connection, owner: tuple[str, str]) -> list[Event]:
    """Everything stored about one user."""
    return [Event(*row) for row in connection.execute(EVENTS, owner)]


def size_and_stamp(connection: sqlite3.Connection, owner: tuple[str, str]) -> tuple[int, int]:
    """How many events the user has, and the stamp of this state; (0, 0) for a user without any."""
    row: tuple[int, int] | None = connection.execute(USER, owner).fetchone()
    return row or (0, 0)


def since(connection: sqlite3.Connection, owner: tuple[str, str], relation: str) -> tuple[int, int, Followers]:
    """`size_and_stamp`, and what the last FOLLOWERS_MAX who acted on the user by `relation` add up to; the newest
    action of each counts.
    """
    rows = connection.execute(SINCE, (*owner, relation))
    first = rows.fetchone()
    if first is None:
        return 0, 0, NO_FOLLOWERS
    with closing(rows):
        size, stamp = first if first[0] is not None else (0, 0)
        if size and rows.fetchone() is None:
            return size, stamp, NO_FOLLOWERS
    return size, stamp, _newest(connection.execute(FOLLOWERS, (*owner, relation, FOLLOWERS_READ)))


def _newest(actions: Iterable[tuple[str, str, float, float, str]]) -> Followers:
    latest: dict[str, tuple[str, str, float, float, str]] = {}
    for one in actions:
        latest.setdefault(one[0], one)
        if len(latest) == FOLLOWERS_MAX:
            break
    return followers(latest.values())


def net_effect(connection: sqlite3.Connection, owner: tuple[str, str]) -> LiveEdges:
    """What the user's events add up to: `events.live_edges`, in SQL, so that Python's lock is not held meanwhile, and
    what is left for Python in small steps, between which it is given away.
    """
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for action, name, targets, times in connection.execute(NET_EFFECT, owner):
        names = msgspec.json.decode(targets, type=list[str])
        groups.setdefault(action, {})[name] = dict(zip(names, map(float, times.split(",")), strict=True))
    steps = edges_of_groups(groups)  # type: ignore[arg-type]
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast(LiveEdges, done.value)
        time.sleep(0)


def store(connection: sqlite3.Connection, events: Sequence[Event], events_per_user_max: int) -> list[Outcome]:
    """Store `events` in the transaction that is open, in their order. Its time depends on their number alone."""
    keys = [(event.user_type, event.user, event.id) for event in events]
    sizes, stored = _known(connection, keys)
    room = rooms(events_per_user_max)
    outcomes: list[Outcome] = []
    new: list[Event] = []
    for key, event in zip(keys, events, strict=True):
        if key in stored:
            outcomes.append("duplicate")
        elif sizes[key[:2]] >= room[event.action]:
            outcomes.append("full")
        else:
            outcomes.append("stored")
            sizes[key[:2]] += 1
            stored.add(key)
            new.append(event)
    for events_of_portion in _portions(new):
        rows = [msgspec.structs.astuple(event) for event in events_of_portion]
        connection.execute(_insert_statement(len(rows)), _flat(rows))
    return outcomes


def _known(
    connection: sqlite3.Connection, keys: Sequence[tuple[str, str, str]]
) -> tuple[dict[tuple[str, str], int], set[tuple[str, str, str]]]:
    """How many events the users of `keys` (of a user, and an event's id) have, and those of `keys` that are stored."""
    sizes: dict[tuple[str, str], int] = {}
    stored = set[tuple[str, str, str]]()
    for some in _portions(keys):
        owner = some[0][:2]
        if all(key[:2] == owner for key in some):
            ids = [key[2] for key in some]
            size, places = connection.execute(_known_of_one(len(ids)), (*owner, *ids)).fetchone()
            sizes[owner] = size or 0
            stored.update(some[int(place)] for place in (places or "").split(",") if place)
            continue
        (found,) = connection.execute(_known_of_several(len(some)), _flat(some)).fetchone()
        numbers = list(map(int, found.split(",")))
        for place, size, is_stored in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            sizes[some[place][:2]] = size
            if is_stored:
                stored.add(some[place])
    return sizes, stored


@cache
def _known_of_one(rows: int) -> str:
    return KNOWN_OF_ONE.format(values=",".join([f"({row},?{row + 3})" for row in range(rows)]))


@cache
def _known_of_several(rows: int) -> str:
    return KNOWN.format(values=",".join([f"({row},?,?,?)" for row in range(rows)]))


@cache
def _insert_statement(rows: int) -> str:
    return INSERT.format(values=_marks(9, rows))


def count(connection: sqlite3.Connection, experiment: str, seen: Sequence[Seen], kept: int = MARKS_KEPT) -> list[bool]:
    """Count what is new of `seen` in the transaction that is open, and forget all marks but the last `kept`."""
    last = connection.execute(LAST_MARK, (experiment,)).fetchone()[0] or 0
    new = []
    for one in seen:
        new.append(connection.execute(MARK, (experiment, one.mark, last + 1)).rowcount == 1)
        last += new[-1]  # what was known takes no number, or it would have others forgotten
    numbers = Counter((one.arm, one.kind) for one, is_new in zip(seen, new, strict=True) if is_new)
    connection.executemany(COUNT, [(experiment, *what, number) for what, number in numbers.items()])
    connection.execute(FORGET_MARKS, (experiment, last - kept))
    return new


def counted(connection: sqlite3.Connection, experiment: str) -> dict[str, Count]:
    """What each arm had."""
    return counts_of(connection.execute(COUNTED, (experiment,)).fetchall())


def erase(connection: sqlite3.Connection, owners: Sequence[tuple[str, str]]) -> list[int]:
    """Remove the events by and about each of `owners`, in one transaction and one pass over all events.

    An index by target would halve the speed of every write to make this rare pass shorter. What is removed here is
    still in the file's bytes: see `rewrite`. Returns how many events each of `owners` had.
    """
    with transaction(connection, "BEGIN IMMEDIATE"):
        removed = [connection.execute(FORGET, owner).rowcount for owner in owners]
        mentions = connection.execute(FORGET_MENTIONS.format(values=_marks(2, len(owners))), _flat(owners)).rowcount
        if any(removed) or mentions:
            connection.execute(f"PRAGMA user_version = {ROWS_REMOVED}")
    return removed


def rewrite(connection: sqlite3.Connection, look: Callable[[], None] = lambda: None) -> bool:
    """Finish an erasure, if one has begun: afterwards no byte of it is in the file or its log. Safe to repeat.

    Pages that were split keep copies of rows in the part they do not use, where `secure_delete` never looks, so the
    file is written anew. `look` raises where the log must not be brought into the file. Returns False when another
    process's reading kept the log from being emptied.
    """
    if version_of(connection) == ROWS_REMOVED:
        connection.execute("VACUUM")
        connection.execute(f"PRAGMA user_version = {FILE_REWRITTEN}")
    if version_of(connection) == FILE_REWRITTEN:
        look()
        # Whoever reads for long, such as a back-up, must not hold up the writes that wait behind this.
        connection.execute(f"PRAGMA busy_timeout = {READER_SECONDS * 1000:.0f}")
        held_up, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
        if held_up:
            return False
        connection.execute(f"PRAGMA user_version = {IN_ORDER}")
    return True


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """A transaction, opened by the words of `begin`: committed at the end, rolled back after an exception."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """`items` in parts of 256, 128, … 1: few different statements, which are prepared once, and few steps.

    Each step gives Python's lock away and must get it back from a busy event loop: one a row would be the slow part.
    """
    start, size = 0, ROWS_AT_ONCE
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        yield items[start : start + size]
        start += size


def _marks(columns: int, rows: int) -> str:
    return ",".join([f"({','.join('?' * columns)})"] * rows)


def _flat(rows: Iterable[Iterable[object]]) -> list[object]:
    return list(chain.from_iterable(rows))
