"""The SQLite store itself: turns and bounds of its writes, what is added up and kept, and what an erasure leaves."""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from bundle.errors import StateError
from service.problems import Problem
from service.state import sqlite_schema as schema
from service.state import sqlite_writer
from service.state.events import FOLLOWERS_MAX, NO_FOLLOWERS, Event, Outcome, live_edges
from service.state.feedback import Count, Seen
from service.state.sqlite import FEW_EVENTS, SqliteStore
from service.state.write_queue import EVENTS_WAITING_MAX
from tests.support.files import contents, holds

MOST = 500
ODD_TEXTS = ["a", "b\x00c", 'quote " and \\', "ligne\n", "名前", "\U0001f600", "%_?'"]


def _event(user: str, number: int, target: str = "t", action: str = "add", at: float = 0.0) -> Event:
    return Event(f"{user}-e{number}", "user", user, action, "follows", "user", target, at, 0.0)  # type: ignore[arg-type]


@asynccontextmanager
async def _open(path: Path, most: int = MOST) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, most)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody can write to the file meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _in_order(*tasks: "asyncio.Task[list[Outcome]]") -> "list[asyncio.Task[list[Outcome]]]":
    """Has those of the `tasks` that are done, in the order in which they were."""
    done: list[asyncio.Task[list[Outcome]]] = []
    for task in tasks:
        task.add_done_callback(done.append)
    return done


async def test_sql_adds_up_to_the_same_as_python(tmp_path: Path) -> None:
    rng = random.Random(1)
    actions = ["add", "remove", "block", "unblock"]
    async with _open(tmp_path / "events.db") as store:
        for user in map(str, range(20)):
            events = [
                Event(
                    f"{number}", "user", user, rng.choice(actions), rng.choice(ODD_TEXTS),  # type: ignore[arg-type]
                    rng.choice(["user", "tag"]), rng.choice(ODD_TEXTS), rng.randrange(3) / 2, rng.randrange(2) / 2,
                )
                for number in range(rng.choice([FEW_EVENTS, FEW_EVENTS + 1, 300]))
            ]  # fmt: skip
            assert set(await store.append(events)) == {"stored"}
            found, wanted = await store.edges_of("user", user), live_edges(events)
            assert (found, found.times) == (wanted, wanted.times)


async def test_a_retry_is_stored_already_and_a_full_user_can_take_back(tmp_path: Path) -> None:
    async with _open(tmp_path / "events.db", most=3) as store:
        adds = [_event("1", number, str(number)) for number in range(5)]
        assert await store.append(adds) == ["stored"] * 3 + ["full"] * 2
        assert await store.append(adds) == ["duplicate"] * 3 + ["full"] * 2
        back = [_event("1", 10, "0", "remove", at=1.0), _event("1", 11, "9", "block")]
        assert await store.append(back) == ["stored", "stored"]
        assert await store.append([_event("1", 12, "8")]) == ["full"]
        edges = await store.edges_of("user", "1")
        assert (edges.added, edges.blocked) == ({"follows": ("1", "2")}, {"user": ("9",)})


async def test_what_another_process_stores_and_erases_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as one, _open(path) as two:
        await one.append([_event("1", number, str(number)) for number in range(2 * FEW_EVENTS)])
        kept = await one.edges_of("user", "1")
        assert await one.edges_of("user", "1") is kept
        await two.append([_event("1", 1000, "new")])
        assert "new" in (await one.edges_of("user", "1")).added["follows"]
        await two.forget("user", "1")
        assert not await one.edges_of("user", "1")
        again = [_event("1", number, f"again{number}") for number in range(2 * FEW_EVENTS + 1)]
        await two.append(again)
        found, wanted = await one.edges_of("user", "1"), live_edges(again)
        assert (found, found.times) == (wanted, wanted.times)


def _of_an_earlier_release(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        earlier.execute("PRAGMA journal_mode = WAL")
        earlier.execute(
            "CREATE TABLE events (user_type TEXT NOT NULL, user TEXT NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL,"
            " relation TEXT NOT NULL, target_type TEXT NOT NULL, target TEXT NOT NULL, at REAL NOT NULL,"
            " received REAL NOT NULL, PRIMARY KEY (user_type, user, id)) WITHOUT ROWID"
        )
        earlier.executemany(
            "INSERT INTO events VALUES ('user', '1', ?, 'add', 'follows', 'user', ?, 0, 0)",
            [(f"1-e{number}", str(number)) for number in range(3)],
        )


def test_a_file_of_an_earlier_release_is_taken_over_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    _of_an_earlier_release(path)
    together = Barrier(8)

    def size(_: int) -> int:
        together.wait()
        with closing(schema.connect(path)) as connection:
            return schema.size_and_stamp(connection, ("user", "1"))[0]

    with ThreadPoolExecutor(together.parties) as threads:
        assert list(threads.map(size, range(together.parties))) == [3] * together.parties


async def test_a_file_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    _of_an_earlier_release(path)
    async with _open(path, most=4) as store:
        assert (await store.edges_of("user", "1")).added == {"follows": ("0", "1", "2")}
        assert await store.append([_event("1", 2), _event("1", 3), _event("1", 4)]) == ["duplicate", "stored", "full"]


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE users (name TEXT)", "CREATE TABLE events (id TEXT, happened REAL)", "PRAGMA user_version = 4"],
)
def test_a_file_of_another_program_or_of_a_later_release_is_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    with pytest.raises(StateError, match="of another program, or of a later release"):
        schema.connect(path)
    assert {path.name: before} == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


async def test_users_take_turns_and_a_queue_that_is_full_refuses(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path, most=100_000) as store:
        with _locked(path):
            begun = asyncio.create_task(store.append([_event("0", 1)]))
            await asyncio.sleep(0.1)
            batches = [
                asyncio.create_task(store.append([_event("1", 1000 * batch + n) for n in range(1000)]))
                for batch in range(EVENTS_WAITING_MAX // 4000)
            ]
            await asyncio.sleep(0.1)
            with pytest.raises(Problem) as refused:
                await store.append([_event("1", n) for n in range(1_000_000, 1_001_000)])
            assert (refused.value.code, refused.value.headers["retry-after"]) == ("overloaded", "1")
            other = asyncio.create_task(store.append([_event("2", 1)]))
            await asyncio.sleep(0.1)
            answered = _in_order(other, *batches)
        assert await other == ["stored"]
        await asyncio.gather(begun, *batches)
        assert answered[-1] is not other, "whoever waits for one write does not wait for all of another user's"


async def test_a_batch_is_stored_in_portions_between_which_others_have_turns(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path, most=10_000) as store:
        with _locked(path):
            batch = asyncio.create_task(store.append([_event("many", number) for number in range(5000)]))
            await asyncio.sleep(0.05)
            others = [asyncio.create_task(store.append([_event(user, 1)])) for user in "abc"]
            await asyncio.sleep(0.05)
            answered = _in_order(batch, *others)
        assert await asyncio.gather(*others) == [["stored"]] * 3
        assert set(await batch) == {"stored"}
        assert answered[-1] is batch


async def test_portions_of_a_batch_keep_their_order(tmp_path: Path) -> None:
    """What comes twice in a batch of many users is stored the first time, wherever it stands."""
    users = [f"u{number}" for number in range(7)]
    events = [_event(users[number % 7], number % 700, str(number)) for number in range(1400)]
    async with _open(tmp_path / "events.db", most=60) as store:
        before = [_event(user, 10_000 + number) for user in users for number in range(10)]
        assert set(await store.append(before)) == {"stored"}
        outcomes = await store.append(events)
        assert outcomes == ["stored"] * 350 + ["full"] * 350 + ["duplicate"] * 350 + ["full"] * 350
        assert set(await store.append(before)) == {"duplicate"}


async def test_outcomes_are_those_of_one_event_after_the_other(tmp_path: Path) -> None:
    rng, known = random.Random(1), dict[tuple[str, str], set[str]]()
    async with _open(tmp_path / "events.db", most=20) as store:
        for _ in range(100):
            of_users = rng.choice([1, 2, 40])
            events = [
                Event(f"{rng.randrange(60)}", "user", f"u{rng.randrange(of_users)}", rng.choice(["add", "block"]),  # type: ignore[arg-type]
                      "follows", "user", "t", 0.0, 0.0)
                for _ in range(rng.choice([1, 2, 3, 5, 100, 300]))
            ]  # fmt: skip
            wanted = []
            for event in events:
                ids = known.setdefault(event.owner, set())
                full = len(ids) >= event.room(20)
                wanted.append("duplicate" if event.id in ids else "full" if full else "stored")
                ids |= {event.id} if wanted[-1] == "stored" else set()
            assert await store.append(events) == wanted


async def test_what_is_stored_after_an_erasure_stays_whatever_waited_with_it(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path, most=10_000) as store:
        with _locked(path):
            stuck = asyncio.create_task(store.append([_event("other", 1)]))
            await asyncio.sleep(0.05)
            early = asyncio.create_task(store.append([_event("1", number) for number in range(10)]))
            await asyncio.sleep(0)
            erasure = asyncio.create_task(store.forget("user", "1"))
            await asyncio.sleep(0)
            late = asyncio.create_task(store.append([_event("1", 100 + number, "late") for number in range(1000)]))
            await asyncio.sleep(0.05)
        assert await stuck == ["stored"]
        assert set(await early) == set(await late) == {"stored"}
        assert await erasure == 10
        assert (await store.edges_of("user", "1")).added == {"follows": ("late",)}


async def test_what_nobody_waits_for_any_more_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as store:
        with _locked(path):
            begun = asyncio.create_task(store.append([_event("0", 1)]))
            await asyncio.sleep(0.1)
            given_up = asyncio.create_task(store.append([_event("1", 1)]))
            await asyncio.sleep(0.1)
            given_up.cancel()
            await asyncio.wait([given_up])
        assert await begun == ["stored"]
        assert await store.append([_event("1", 1)]) == ["stored"]


async def test_a_file_that_another_process_keeps_is_told_before_a_write_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "LATE_SECONDS", 0.1)
    path = tmp_path / "events.db"
    async with _open(path) as store:
        with _locked(path):
            waits = asyncio.create_task(store.append([_event("0", 1)]))
            await asyncio.sleep(0.3)
            assert "another process holds the file" in str(store.describe()["reason"])
        assert await waits == ["stored"]
        await asyncio.sleep(0.1)
        assert store.describe()["healthy"]


async def test_feedback_is_remembered_of_the_last_and_its_counts_for_ever(tmp_path: Path) -> None:
    async with _open(tmp_path / "events.db") as store:
        first = [Seen("a", "impression", number) for number in range(10)]
        assert await store.count("e", first) == [True] * 10
        assert await store.count("other", first) == [True] * 10
    with (
        closing(schema.connect(tmp_path / "events.db")) as connection,
        schema.transaction(connection, "BEGIN IMMEDIATE"),
    ):
        later = [Seen("a", "click", number) for number in range(100, 115)]
        assert schema.count(connection, "e", later, kept=20) == [True] * 15
        assert connection.execute("SELECT count(*) FROM marks WHERE experiment = 'e'").fetchone() == (20,)
        # What is sent again and again has nothing else forgotten.
        assert schema.count(connection, "e", [later[0]] * 50 + [first[9]], kept=20) == [False] * 51
        assert schema.count(connection, "e", [first[5], *later], kept=20) == [False] * 16
        assert schema.count(connection, "e", [first[0]], kept=20) == [True], "forgotten, so it counts again"
    async with _open(tmp_path / "events.db") as store:
        assert await store.counted("e") == {"a": Count(11, 15)}
        assert await store.counted("other") == {"a": Count(10, 0)}
        assert await store.counted("none") == {}


async def test_processes_that_count_at_once_add_up(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as one, _open(path) as two:
        portions = [[Seen("a", "impression", 10 * at + number) for number in range(10)] for at in range(30)]
        counting = [store.count("e", portion) for portion in portions for store in (one, two)]
        new = [sum(outcomes) for outcomes in await asyncio.gather(*counting)]
        assert sum(new) == 300
        assert await one.counted("e") == await two.counted("e") == {"a": Count(300, 0)}


async def test_an_erasure_leaves_no_byte(tmp_path: Path) -> None:
    """Many users come and go while a second process has the file open; pages split and merge under them."""
    rng = random.Random(7)
    path = tmp_path / "events.db"
    alive: set[str] = set()
    async with _open(path) as store, _open(path) as other:
        for step in range(10):
            users = [f"USER{rng.randrange(200):04d}X" for _ in range(300)]
            targets = [f"USER{rng.randrange(200):04d}X" for _ in users]
            events = [
                _event(user, 1000 * step + number, target)
                for number, (user, target) in enumerate(zip(users, targets, strict=True))
            ]
            await rng.choice([store, other]).append(events)
            alive.update(users, targets)
            for user in rng.sample(sorted(alive), 4):
                await other.edges_of("user", user)
                await rng.choice([store, other]).forget("user", user)
                alive.discard(user)
            left = b"\n".join(contents(tmp_path))
            gone = {f"USER{number:04d}X" for number in range(200)} - alive
            assert not [user for user in gone if user.encode() in left]


async def test_an_erasure_that_was_cut_short_is_finished_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as store:
        await store.append([_event(f"USER{n}X", 1, f"TARGET{n}X") for n in range(200)])
    with closing(schema.connect(path)) as killed:
        schema.erase(killed, [("user", "USER7X"), ("user", "TARGET9X")])
    async with _open(path) as store:
        await store.append([_event("1", 1)])
        left = b"\n".join(contents(tmp_path))
    assert b"USER8X" in left
    assert b"USER7X" not in left
    assert b"USER9X" not in left


async def test_erasures_go_through_the_file_together_and_rest(tmp_path: Path) -> None:
    async with _open(tmp_path / "events.db", most=10**6) as store:
        others = [_event("many", number, str(number)) for number in range(20_000)]
        await store.append(others)
        passes = 0

        def look(statement: str) -> None:
            nonlocal passes
            passes += statement == "VACUUM"

        store._writer._connection.set_trace_callback(look)
        with _locked(tmp_path / "events.db"):
            waiting = []
            for user in map(str, range(20)):
                stored = [store.append([_event(user, number)]) for number in range(2)]
                writes = (stored[0], store.forget("user", user), stored[1])
                waiting += [asyncio.create_task(write) for write in writes]
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*waiting)
        assert answers == [["stored"], 1, ["stored"]] * 20, "each user's in the order in which they came"
        assert passes <= 2
        assert all([(await store.edges_of("user", user)).added == {"follows": ("t",)} for user in map(str, range(20))])

        async def erase_without_pause(user: str) -> None:
            while True:
                await store.append([_event(user, 1)])
                await store.forget("user", user)

        hammers = [asyncio.create_task(erase_without_pause(f"u{number}")) for number in range(4)]
        passes, began = 0, time.perf_counter()
        written = 0
        while time.perf_counter() - began < 2:
            await store.append([_event("quick", written)])
            written += 1
        for hammer in hammers:
            hammer.cancel()
        await asyncio.gather(*hammers, return_exceptions=True)
        assert passes > 1
        assert written > 4 * passes, "others have most of the time"


async def test_an_erasure_says_when_a_reader_holds_it_up(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with _open(path) as store:
        await store.append([_event("USER1X", 1)])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            with pytest.raises(StateError):
                await store.forget("user", "USER1X")
            assert "another process reads" in str(store.describe()["reason"])
            assert not await store.edges_of("user", "USER1X")
            assert await store.append([_event("2", 1)]) == ["stored"]
        async with asyncio.timeout(10):
            while not store.describe()["healthy"]:  # noqa: ASYNC110 - whoever asks /readyz has no event either
                await asyncio.sleep(0.05)
        assert not holds(tmp_path, b"USER1X")


def test_the_work_of_a_batch_depends_on_its_size_alone(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, which a busy computer does not change."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with closing(schema.connect(tmp_path / "events.db")) as connection:
        connection.set_progress_handler(step, 10)

        def stored(user: str, first: int, count: int, most: int) -> int:
            before = steps
            with schema.transaction(connection, "BEGIN"):
                schema.store(connection, [_event(user, first + number) for number in range(count)], most)
            return steps - before

        stored("full", 0, 5000, 5000)
        few, many = stored("new", 0, 64, 5000), stored("full", 6000, 64, 10_000)
        assert many < 1.5 * few, "however many the user has"
        assert stored("full", 7000, 1024, 20_000) < 1.5 * 16 * many, "and in proportion to how many come"
        assert stored("full", 9000, 1024, 5000) < 16 * many, "those without room are less work"


async def test_of_what_others_did_the_latest_of_each_counts_whatever_the_order(tmp_path: Path) -> None:
    rng = random.Random(3)
    events = [
        Event(
            f"{number}", "user", f"u{rng.randrange(8)}", rng.choice(["add", "remove", "block"]),  # type: ignore[arg-type]
            rng.choice(["follows", "likes"]), rng.choice(["user", "user", "tag"]), "t", float(rng.randrange(3)), 0.0,
        )
        for number in range(300)
    ]  # fmt: skip
    async with _open(tmp_path / "events.db") as store:
        await store.append(events)
        for relation in ("follows", "likes"):
            latest: dict[str, Event] = {}
            for event in events:
                if event.relation == relation and event.target_type == "user" and event.action != "block":
                    before = latest.get(event.user)
                    if before is None or (before.at, before.id) < (event.at, event.id):
                        latest[event.user] = event
            told = await store.followers_of("user", "t", relation)
            assert told.added == tuple(sorted(user for user, one in latest.items() if one.action == "add"))
            assert told.removed == tuple(sorted(user for user, one in latest.items() if one.action == "remove"))
        assert await store.followers_of("user", "u1", "follows") == NO_FOLLOWERS
        assert await store.followers_of("tag", "t", "follows") == NO_FOLLOWERS


@pytest.mark.parametrize("own", [0, 1, FEW_EVENTS, FEW_EVENTS + 1])
@pytest.mark.parametrize("others", [0, 1, 5])
async def test_one_look_up_tells_what_two_do(tmp_path: Path, own: int, others: int) -> None:
    rng = random.Random(own + others)
    events = [_event("t", number, f"x{number}", rng.choice(["add", "remove", "block"])) for number in range(own)]
    events += [_event(f"u{number}", number, "t", rng.choice(["add", "remove"])) for number in range(others)]
    async with _open(tmp_path / "events.db") as store:
        await store.append(events)
        edges, told = await store.since("user", "t", "follows")
        assert edges == await store.edges_of("user", "t") == live_edges(events[:own])
        assert told == await store.followers_of("user", "t", "follows")
        assert told is not None
        assert sorted(told.added + told.removed) == [f"u{number}" for number in range(others)]
        assert (await store.since("user", "t", "likes"))[1] == NO_FOLLOWERS


async def test_of_very_many_who_did_something_the_newest_are_looked_at(tmp_path: Path) -> None:
    async with _open(tmp_path / "events.db") as store:
        await store.append([_event(f"{number:04}", 0, at=float(number)) for number in range(FOLLOWERS_MAX + 100)])
        told = await store.followers_of("user", "t", "follows")
        assert told.added == tuple(f"{number:04}" for number in range(100, FOLLOWERS_MAX + 100))


async def test_who_follows_and_unfollows_many_times_hides_nobody_else(tmp_path: Path) -> None:
    """What is bounded is the number of users, not of what they did."""
    async with _open(tmp_path / "events.db", most=4 * FOLLOWERS_MAX) as store:
        await store.append([_event("quiet", 0, at=1.0)])
        await store.append([_event("busy", number, at=2.0 + number) for number in range(2 * FOLLOWERS_MAX)])
        assert (await store.followers_of("user", "t", "follows")).added == ("busy", "quiet")


async def test_a_file_of_an_earlier_release_is_told_of_followers_too(tmp_path: Path) -> None:
    async with _open(tmp_path / "events.db") as store:
        await store.append([_event("a", 0)])
    with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as other:
        other.execute("DROP INDEX events_by_target")
    async with _open(tmp_path / "events.db") as store:
        assert (await store.followers_of("user", "t", "follows")).added == ("a",)


async def test_a_fault_of_ours_costs_the_thread_that_writes_one_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_writer, "LOOK_SECONDS", 0.01)

    def faulty(*_: object) -> None:
        raise ValueError("secret")

    async with _open(tmp_path / "events.db") as store:
        with monkeypatch.context() as while_faulty:
            while_faulty.setattr(store._writer, "_look", faulty)
            await asyncio.sleep(0.1)
        with monkeypatch.context() as while_faulty:
            while_faulty.setattr(store._writer, "_append", faulty)
            with pytest.raises(StateError):
                await asyncio.wait_for(store.append([_event("u", 1)]), 10)
        assert await asyncio.wait_for(store.append([_event("u", 1)]), 10) == ["stored"]
        assert store.ended == []
    assert "a turn of the thread that writes failed" in caplog.text
    assert "secret" not in caplog.text


async def test_what_one_part_of_the_store_meets_at_its_end_keeps_no_other_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "events.db", MOST)
    shutdown = store._adder.shutdown

    def faulty() -> None:
        shutdown()
        raise OSError("no thread")

    monkeypatch.setattr(store._adder, "shutdown", faulty)
    with pytest.raises(OSError, match="no thread"):
        await store.close()
    for connection in (store._reader, store._adder_connection):
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("SELECT 1")
