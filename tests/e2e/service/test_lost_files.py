"""The files of live engagements are taken away, exchanged or damaged under a service that is running: nothing counts as
stored that a restart would not find, and whoever looks is told.
"""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from bundle.errors import StateError
from service.state import sqlite_schema as schema
from service.state.events import Event
from service.state.sqlite import SqliteStore
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids

USERS = user_ids()
Begin = Callable[..., ServiceProcess]
Damage = Callable[[Path], None]


def _remove(path: Path) -> None:
    path.unlink()


def _remove_all(path: Path) -> None:
    shutil.rmtree(path.parent)


def _move_the_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()


def _copy_over(path: Path) -> None:
    """As `rsync` and editors do: a new file takes the place of the old."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def _remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def _remove_memory(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def _point_elsewhere(path: Path) -> None:
    link = path.parent
    other = link.with_name("other")
    other.mkdir()
    link.unlink()
    link.symlink_to(other)


ONE = [_remove_all, _move_the_directory, _copy_over, _remove_memory, _point_elsewhere]
BOTH = [_remove, _remove_log]
DAMAGES: list[tuple[Damage, int]] = [*((one, 1) for one in ONE), *((one, 2) for one in BOTH)]


def _post(service: ServiceProcess, name: str, user: str = USERS[3]) -> httpx.Response:
    event = {"id": name, "user": user, "target": USERS[7]}
    headers = {"content-type": "application/json"}
    return httpx.post(
        f"{service.url}/v1/engagements", content=json.dumps({"events": [event]}), headers=headers, timeout=20
    )


def _reason(service: ServiceProcess) -> str | None:
    """Why /readyz says that the store is degraded."""
    reason: str | None = (
        httpx.get(f"{service.url}/readyz", timeout=20).json().get("reasons", {}).get("engagements_unavailable")
    )
    return reason


def _until(wanted: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def _ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT id FROM events")}


@pytest.mark.parametrize(("damage", "workers"), DAMAGES, ids=[f"{one.__name__[1:]}-{n}" for one, n in DAMAGES])
def test_what_would_be_lost_is_not_stored(begin: Begin, tmp_path: Path, damage: Damage, workers: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real") if damage is _point_elsewhere else (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "events.db"
    service = begin("--workers", str(workers), TWHIN_STATE=str(path))
    if workers > 1:
        service.wait_for_workers(workers)
    assert _post(service, "before").json()["stored"] == 1
    damage(path)
    for number in range(6):  # by whichever worker
        answer = _post(service, f"after-{number}")
        assert (answer.status_code, answer.json()["code"]) == (503, "state_unavailable"), answer.text
    assert httpx.delete(f"{service.url}/v1/users/{USERS[3]}/engagements", timeout=20).status_code == 503
    recommended = httpx.get(f"{service.url}/recommend/{USERS[3]}", timeout=20)
    assert recommended.status_code == 200
    assert "engagements_unavailable" not in recommended.json()["degraded"], "what is stored is still read"
    _until(lambda: "twhin_store_degraded 1.0" in httpx.get(f"{service.url}/metrics", timeout=20).text)
    _until(lambda: "removed or replaced" in str(_reason(service)))  # by whichever worker
    service.stop()
    log = service.log.read_text()
    assert "Traceback" not in log
    assert log.count("removed or replaced") <= 2 * workers, "it is said once"
    again = begin(TWHIN_STATE=str(path))
    assert _reason(again) is None
    assert _post(again, "again").json()["stored"] == 1


def test_it_is_noticed_where_nobody_writes_and_passes_when_the_file_is_back(begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    service = begin(TWHIN_STATE=str(path))
    path.parent.rename(tmp_path / "away")
    _until(lambda: _reason(service) is not None)
    (tmp_path / "away").rename(path.parent)
    _until(lambda: _reason(service) is None)
    assert _post(service, "there").json()["stored"] == 1
    assert _ids(path) == {"there"}


def test_what_was_stored_before_the_log_was_removed_survives(begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    service = begin(TWHIN_STATE=str(path))
    assert _post(service, "before").json()["stored"] == 1
    _remove_log(path)
    _until(lambda: _reason(service) is not None)
    service.process.kill()
    service.process.wait()
    assert _ids(path) == {"before"}


def test_what_is_in_a_file_without_a_name_can_be_saved_from_its_process(begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    service = begin(TWHIN_STATE=str(path))
    assert _post(service, "before").json()["stored"] == 1
    _remove_all(path)
    _until(lambda: _reason(service) is not None)
    opened = Path(f"/proc/{service.process.pid}/fd")
    file = next(one for one in opened.iterdir() if str(one.readlink()) == f"{path} (deleted)")
    shutil.copy(file, tmp_path / "saved.db")
    assert _ids(tmp_path / "saved.db") == {"before"}


@pytest.mark.parametrize("part", ["-wal", "-shm"])
def test_what_several_workers_answer_after_a_cut_is_there_after_kill_9(begin: Begin, tmp_path: Path, part: str) -> None:
    path = tmp_path / "events.db"
    service = begin("--workers", "2", TWHIN_STATE=str(path))
    service.wait_for_workers(2)
    said = {f"before-{number}" for number in range(20) if _post(service, f"before-{number}").status_code == 200}
    time.sleep(2.5)  # whoever wrote last brings the log into the file within a second, and looks again
    for turn in range(3):
        os.truncate(f"{path}{part}", 0)
        names = [f"after-{turn}-{number}" for number in range(20)]
        said |= {name for name in names if _post(service, name).status_code == 200}
        assert httpx.get(f"{service.url}/recommend/{USERS[3]}", timeout=20).status_code == 200
        time.sleep(2.5)
    _until(lambda: "was cut while it was open" in str(_reason(service)))
    assert len(said) > 70
    for worker in psutil.Process(service.process.pid).children(recursive=True):
        worker.kill()
    service.process.kill()
    service.process.wait()
    assert said <= _ids(path)
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "a worker ended" not in log


@pytest.mark.parametrize("size", [0, 4096])
def test_a_file_that_is_cut_takes_no_more(begin: Begin, tmp_path: Path, size: int) -> None:
    path = _filled(tmp_path / "events.db", 5, 30)
    copy = path.read_bytes()
    service = begin(TWHIN_STATE=str(path))
    os.truncate(path, size)
    assert [_post(service, f"after-{number}").status_code for number in range(3)] == [503] * 3
    assert "stop the service and put a copy back" in str(_reason(service))
    service.stop()
    for part in ("-wal", "-shm"):
        Path(f"{path}{part}").unlink(missing_ok=True)
    path.write_bytes(copy)
    again = begin(TWHIN_STATE=str(path))
    assert _post(again, "again").json()["stored"] == 1


def _filled(path: Path, users: int, events: int) -> Path:
    with closing(schema.connect(path)) as connection, schema.transaction(connection, "BEGIN IMMEDIATE"):
        for user in USERS[:users]:
            schema.store(
                connection,
                [
                    Event(f"{n}", "user", user, "add", "follows", "user", USERS[n % len(USERS)], 1.0 + n, 1.0)
                    for n in range(events)
                ],
                10**6,
            )
    return path


def _scrawl(path: Path, start: int) -> None:
    """Other bytes in the place of all from `start` on."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (path.stat().st_size - start))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_damaged_while_serving_is_told(begin: Begin, tmp_path: Path, workers: int) -> None:
    path = _filled(tmp_path / "events.db", 40, 300)
    service = begin("--workers", str(workers), TWHIN_STATE=str(path))
    _scrawl(path, 4096 * 12)
    answers = [httpx.get(f"{service.url}/recommend/{user}", timeout=20) for user in USERS[:40]]
    assert {answer.status_code for answer in answers} == {200}
    assert ["engagements_unavailable"] in [answer.json()["degraded"] for answer in answers]
    _until(lambda: "twhin_store_degraded 1.0" in httpx.get(f"{service.url}/metrics", timeout=20).text)
    _until(lambda: "malformed" in str(_reason(service)), lambda: _reason(service))
    codes = [_post(service, f"after-{number}", user).status_code for number, user in enumerate(USERS[:40])]
    assert set(codes) <= {200, 503}
    assert 503 in codes
    _until(lambda: "malformed" in str(_reason(service)))
    assert "Traceback" not in service.log.read_text()
    assert service.log.read_text().count("works again") == 0, "others' success does not end it at once"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_that_is_damaged_at_the_start_stops_it_with_one_line(
    bundles: Path, tmp_path: Path, workers: str
) -> None:
    path = _filled(tmp_path / "events.db", 5, 30)
    _scrawl(path, 0)
    service = ServiceProcess(bundles, "--workers", workers, TWHIN_STATE=str(path))
    try:
        assert service.process.wait(60) == 6
    finally:
        service.stop()
    [line] = service.log.read_text().splitlines()
    assert "events.db cannot be opened as the store of live engagements: file is not a database" in line


async def test_a_place_that_is_no_file_is_no_store() -> None:
    with pytest.raises(StateError, match="no file of that name"):
        SqliteStore(Path(":memory:"), 10)


ROWS = {
    "a time that is none": "UPDATE events SET at = x'ff'",
    "a text that is none": "UPDATE events SET target = CAST(x'fffe' AS TEXT)",
    "an action that is none": "UPDATE events SET action = 7",
}


@pytest.mark.parametrize("events", [3, 100], ids=["few", "many"])
@pytest.mark.parametrize("row", ROWS)
def test_rows_that_no_service_wrote_are_told_and_not_repeated(
    begin: Begin, tmp_path: Path, row: str, events: int
) -> None:
    path = _filled(tmp_path / "events.db", 2, events)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"{ROWS[row]} WHERE user = ? AND id = '1'", (USERS[0],))
    service = begin(TWHIN_STATE=str(path))
    answer = httpx.get(f"{service.url}/recommend/{USERS[0]}", timeout=20)
    assert answer.status_code == 200
    if answer.json()["degraded"]:
        assert _reason(service) == "the file is damaged"
    other = httpx.get(f"{service.url}/recommend/{USERS[1]}", timeout=20).json()
    assert "engagements_unavailable" not in other["degraded"]
    assert "Traceback" not in service.log.read_text()
