"""Somebody cuts the files of an open SQLite store where they stand: nothing counts as stored that is not there when
the file is opened again, what was there before is whole, and it is told.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from bundle.errors import StateError
from service.state import sqlite_writer
from service.state.events import Event
from service.state.open_files import FILE_CUT, INDEX_CUT, LOG_CUT, LOG_LOST
from service.state.sqlite import SqliteStore

MANY = 3000
Harm = Callable[[Path, int], None]  # of the file, and of how long its log is


def _event(name: str) -> Event:
    return Event(name, "user", name[:2], "add", "follows", "user", f"t{name}", 1.0, 1.0)


def _cut(part: str, size: int) -> Harm:
    return lambda path, end: os.truncate(f"{path}{part}", size)


def _cut_the_end(path: Path, end: int) -> None:
    os.truncate(f"{path}-wal", end - 100)


def _cut_both(path: Path, end: int) -> None:
    os.truncate(f"{path}-shm", 0)
    os.truncate(f"{path}-wal", 0)


def _cut_and_filled_up(size: int) -> Harm:
    """Somebody who does not look writes behind the gap."""

    def harm(path: Path, end: int) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("SELECT count(*) FROM events").fetchone()
            os.truncate(f"{path}-wal", size)
            other.execute("PRAGMA wal_autocheckpoint = 0")
            other.execute("INSERT INTO feedback VALUES ('e', 'a', 'click', 1)")

    return harm


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, 10**6)
    try:
        yield store
    finally:
        await store.close()


def _ids(path: Path) -> set[str]:
    """What another process finds in a copy of the files as they are, as it would after `kill -9`."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n"
        "assert c.execute('PRAGMA integrity_check').fetchone() == ('ok',)\n"
        "print(*[name for (name,) in c.execute('SELECT id FROM events')])"
    )
    copy = path.with_name("copy.db")
    for part in ("", "-wal"):
        Path(f"{copy}{part}").write_bytes(Path(f"{path}{part}").read_bytes())
    done = subprocess.run([sys.executable, "-c", program, copy], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


async def _said_stored(store: SqliteStore, names: list[str]) -> set[str]:
    said = set()
    for name in names:
        try:
            said |= {name} if await store.append([_event(name)]) == ["stored"] else set()
            await store.edges_of("user", name[:2])
        except StateError:
            continue
    return said


async def _in_the_file(store: SqliteStore) -> None:
    """Wait until all of the log is in the file, and the store knows."""
    async with asyncio.timeout(20):
        while store._files.log.done < store._files.log.frames:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


LOG_HARMS = {
    "emptied": _cut("-wal", 0),
    "within the head": _cut("-wal", 20),
    "in the middle": _cut("-wal", 40_000),
    "at its end": _cut_the_end,
    "emptied and written to": _cut_and_filled_up(0),
    "cut and written to": _cut_and_filled_up(40_000),
}


async def _fill(store: SqliteStore, names: set[str]) -> None:
    """Store events of these names, then one that is late, and wait until the writer, which looks once more after it has
    answered, is at rest.
    """
    await store.append([_event(name) for name in sorted(names)])
    await store.append([_event("late")])
    await asyncio.sleep(0.3)


INDEX_HARMS = {f"to {size} bytes": _cut("-shm", size) for size in (0, 100, 4096, 20_000)}


@pytest.mark.parametrize("harm", LOG_HARMS)
async def test_a_log_that_was_cut_is_told_and_nothing_more_goes_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(sqlite_writer, "LOOK_SECONDS", 60.0)  # nothing of the log gets into the file meanwhile
    path = tmp_path / "events.db"
    before = {f"a{number}" for number in range(MANY)}
    async with _open(path) as store:
        await _fill(store, before)
        LOG_HARMS[harm](path, store._files.log.log_bytes)
        said = await _said_stored(store, [f"b{number}" for number in range(20)])
        assert len(said) >= 19, "it goes on by itself"
        assert store.describe()["reason"] == LOG_LOST
        found = _ids(path)
    assert said <= found <= before | said | {"late"}
    async with _open(path) as store:
        assert await _said_stored(store, ["later"]) == {"later"}
        assert store.describe()["healthy"]
        assert (await store.edges_of("user", "b1")).added["follows"]


@pytest.mark.parametrize("harm", [*LOG_HARMS, *INDEX_HARMS, "both"])
async def test_what_was_stored_a_second_ago_is_not_lost_with_the_log(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "events.db"
    before = {f"a{number}" for number in range(MANY)}
    async with _open(path) as store:
        await store.append([_event(name) for name in sorted(before)])
        await _in_the_file(store)
        {**LOG_HARMS, **INDEX_HARMS, "both": _cut_both}[harm](path, store._files.log.log_bytes)
        said = await _said_stored(store, [f"b{number}" for number in range(20)])
        assert len(said) >= 19
        told = store.describe().get("reason")
        # A log that is in the file whole is begun anew by the next writer, whoever that is.
        assert told == (None if "written to" in harm else INDEX_CUT if harm in INDEX_HARMS else LOG_CUT)
        assert len((await store.edges_of("user", "a1")).added["follows"]) == sum(one[:2] == "a1" for one in before)
        found = _ids(path)
    assert found == before | said


@pytest.mark.parametrize("harm", INDEX_HARMS)
async def test_shared_memory_that_was_cut_ends_no_process_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(sqlite_writer, "LOOK_SECONDS", 60.0)
    path = tmp_path / "events.db"
    before = {f"a{number}" for number in range(MANY)}
    async with _open(path) as store:
        await _fill(store, before)
        INDEX_HARMS[harm](path, 0)
        for read in (store.edges_of("user", "a1"), store.since("user", "a1", "follows"), store.counted("e")):
            with pytest.raises(StateError):
                await read
        said = await _said_stored(store, [f"b{number}" for number in range(20)])
        assert len(said) == 19, "it is told once, and goes on by itself"
        assert store.describe()["reason"] == INDEX_CUT
        found = _ids(path)
    assert found == before | said | {"late"}


@pytest.mark.parametrize("size", [0, 8192])
async def test_a_file_that_was_cut_takes_no_more(tmp_path: Path, size: int) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as store:
        await store.append([_event(f"a{number}") for number in range(MANY)])
        await _in_the_file(store)
        os.truncate(path, size)
        assert not await _said_stored(store, [f"b{number}" for number in range(5)])
        assert store.describe()["reason"] == FILE_CUT
