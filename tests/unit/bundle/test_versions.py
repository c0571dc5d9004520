"""The directory of versions: publish, roll back, prune, and what is refused."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import versions
from bundle.errors import (
    BundleNotFound,
    BundlesBusy,
    GateRefused,
)
from bundle.manifest import Gate, Manifest
from bundle.reader import read_manifest
from bundle.timeline import TIMELINE, read_timeline
from bundle.versions import (
    CURRENT,
    HISTORY,
    LOCK,
    REMOVING_PREFIX,
    current_path,
    current_version,
    earlier_versions,
    list_versions,
    prune,
    publish,
    published,
    rollback,
    timeline,
)
from bundle.writer import STAGING_PREFIX, BundleWriter

Write = Callable[..., Path]


def test_a_published_version_is_current(tmp_path: Path, write: Write) -> None:
    path = write("one")
    assert current_version(tmp_path) is None
    publish(tmp_path, "one")
    assert current_version(tmp_path) == "one"
    assert current_path(tmp_path) == path


def test_nothing_published_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="twhin build"):
        current_path(tmp_path)


def test_versions_are_listed_by_age_not_by_name(tmp_path: Path, write: Write) -> None:
    for name in ("zebra", "ant", "mole"):
        write(name)
    assert list_versions(tmp_path) == ["zebra", "ant", "mole"]


def test_rollback_walks_back_through_what_was_published(tmp_path: Path, write: Write) -> None:
    for name in ("one", "two", "three"):
        write(name)
        publish(tmp_path, name)
    assert rollback(tmp_path) == "two"
    assert rollback(tmp_path) == "one"
    with pytest.raises(BundleNotFound, match="No version was published before one"):
        rollback(tmp_path)
    assert current_version(tmp_path) == "one"


def test_rollback_passes_over_a_version_that_is_gone(tmp_path: Path, write: Write) -> None:
    for name in ("one", "two", "three"):
        write(name)
        publish(tmp_path, name)
    (tmp_path / "two" / "manifest.json").unlink()
    assert rollback(tmp_path) == "one"


def test_a_version_below_its_floor_needs_a_reason_and_keeps_it(tmp_path: Path, write: Write) -> None:
    path = write("weak", recall=0.5)
    with pytest.raises(GateRefused, match=r"recall@100 is 0\.5000, the floor is 0\.9500"):
        publish(tmp_path, "weak")
    assert current_version(tmp_path) is None
    publish(tmp_path, "weak", force_reason="the old one is worse")
    assert current_version(tmp_path) == "weak"
    assert read_manifest(path).evaluation.gates[0].forced == "the old one is worse"


def test_a_fall_below_the_active_version_needs_a_reason_and_keeps_it(tmp_path: Path, write: Write) -> None:
    def judge(new: Manifest, active: Manifest | None) -> list[Gate]:
        return [] if active is None else [Gate(metric=f"recall against {active.version}", floor=0.5, measured=0.4)]

    write("old")
    path = write("new")
    publish(tmp_path, "old", judge=judge)
    with pytest.raises(GateRefused, match="recall against old"):
        publish(tmp_path, "new", judge=judge)
    publish(tmp_path, "new", force_reason="a smaller graph", judge=judge)
    kept = {gate.metric: gate.forced for gate in read_manifest(path).evaluation.gates}
    assert kept == {"recall@100": None, "recall against old": "a smaller graph"}


def test_two_publishers_do_not_meet(tmp_path: Path, write: Write) -> None:
    write("one")
    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BundlesBusy):
            publish(tmp_path, "one")


def test_prune_keeps_the_newest_the_current_and_the_one_before(tmp_path: Path, write: Write) -> None:
    names = [f"v{number}" for number in range(8)]
    for name in names:
        write(name)
    publish(tmp_path, "v1")
    publish(tmp_path, "v2")
    assert prune(tmp_path, keep=3) == ["v0", "v3", "v4"]
    assert list_versions(tmp_path) == ["v1", "v2", "v5", "v6", "v7"]


@pytest.mark.parametrize("kind", ["link to itself", "directory", "pipe", "nothing"])
def test_what_is_no_file_names_no_version(tmp_path: Path, write: Write, kind: str) -> None:
    write("one")
    publish(tmp_path, "one")
    current = tmp_path / CURRENT
    current.unlink()
    if kind == "link to itself":
        current.symlink_to(CURRENT)
    elif kind == "directory":
        current.mkdir()
    elif kind == "pipe":
        os.mkfifo(current)
    assert (current_version(tmp_path), published(tmp_path)) == (None, None)
    assert [one.version for one in timeline(tmp_path)] == ["one"]


def test_prune_keeps_what_is_in_use(tmp_path: Path, write: Write) -> None:
    for name in ("v0", "v1", "v2", "v3"):
        write(name)
    publish(tmp_path, "v3")
    assert prune(tmp_path, keep=1, in_use={"v1", "not-here"}) == ["v0", "v2"]


def test_prune_collects_what_dead_builders_left_and_spares_the_living(tmp_path: Path, write: Write) -> None:
    write("one")
    dead = tmp_path / f"{STAGING_PREFIX}x"
    dead.mkdir()
    (tmp_path / ".lock-x").touch()  # what a kill leaves: the file, without the lock
    leaving = tmp_path / f"{REMOVING_PREFIX}old"
    leaving.mkdir()
    (tmp_path / "not-ours").mkdir()
    with BundleWriter(tmp_path, "two") as alive:
        assert sorted(prune(tmp_path)) == sorted([dead.name, leaving.name])
        assert alive.root.is_dir()
        assert [path.name for path in tmp_path.glob(".lock-*")] == [".lock-two"]
    assert (tmp_path / "not-ours").is_dir()


def test_prune_keeps_what_a_rollback_goes_to_also_after_a_second_publication(tmp_path: Path, write: Write) -> None:
    for name in ("one", "two", "three"):
        write(name)
    publish(tmp_path, "one")
    for _ in range(3):
        publish(tmp_path, "three")
    assert prune(tmp_path, keep=1) == ["two"]
    assert rollback(tmp_path) == "one"


@pytest.mark.parametrize("killed_before", [CURRENT, HISTORY])
def test_a_publication_killed_between_its_two_writes_can_be_rolled_back(
    tmp_path: Path, write: Write, killed_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        write(name)
    publish(tmp_path, "one")
    publish(tmp_path, "two")
    with monkeypatch.context() as patched:
        patched.setattr(versions, "_write_lines", _dies_before(killed_before))
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "three")
    current, before = ("two", "one") if killed_before == CURRENT else ("three", "two")
    assert current_version(tmp_path) == current
    assert rollback(tmp_path) == before


@pytest.mark.parametrize("killed_before", [CURRENT, HISTORY])
def test_a_rollback_killed_between_its_two_writes_can_be_repeated(
    tmp_path: Path, write: Write, killed_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        write(name)
        publish(tmp_path, name)
    with monkeypatch.context() as patched:
        patched.setattr(versions, "_write_lines", _dies_before(killed_before))
        with pytest.raises(KeyboardInterrupt):
            rollback(tmp_path)
    assert current_version(tmp_path) == "three"
    assert rollback(tmp_path) == "two"
    assert rollback(tmp_path) == "one"


def _dies_before(name: str) -> Callable[[Path, list[str]], None]:
    """Writes like the real one, and is killed when the turn comes to the file called `name`."""
    real = versions._write_lines

    def write_lines(path: Path, lines: list[str]) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        real(path, lines)

    return write_lines


def test_a_forced_publication_killed_while_it_writes_leaves_the_version_fit(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("weak", recall=0.5)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "weak", force_reason="the old one is worse")
    publish(tmp_path, "weak", force_reason="the old one is worse")
    assert current_version(tmp_path) == "weak"


def test_a_version_without_its_manifest_is_not_listed(tmp_path: Path, write: Write) -> None:
    path = write("one")
    (path / "manifest.json").unlink()
    assert list_versions(tmp_path) == []


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda file: file.write_text(""), lambda file: file.write_bytes(b"\xff\0/.."), _pipe, _directory],
)
def test_where_current_is_lost_the_history_says_what_to_serve(
    tmp_path: Path, write: Write, damage: Callable[[Path], object]
) -> None:
    for name in ("one", "two"):
        write(name)
        publish(tmp_path, name)
    damage(tmp_path / CURRENT)
    assert current_version(tmp_path) not in ("one", "two")
    assert earlier_versions(tmp_path) == ["two", "one"]


def test_the_timeline_tells_when_which_version_was_published(tmp_path: Path, write: Write) -> None:
    changed = []
    for name in ("one", "two"):
        write(name)
        publish(tmp_path, name)
        changed.append((tmp_path / CURRENT).stat().st_mtime)
    publish(tmp_path, "two")  # no change
    rollback(tmp_path)
    changed.append((tmp_path / CURRENT).stat().st_mtime)
    told = timeline(tmp_path)
    assert [one.version for one in told] == ["one", "two", "one"]
    assert [one.at for one in told] == pytest.approx(changed, abs=1e-5)
    assert read_timeline(tmp_path) == told


def test_a_directory_of_an_earlier_release_has_a_timeline_from_its_current_version_on(
    tmp_path: Path, write: Write
) -> None:
    for name in ("one", "two", "three"):
        write(name)
        publish(tmp_path, name)
    (tmp_path / TIMELINE).unlink()
    os.utime(tmp_path / CURRENT, ns=(1_700_000_000_500_000_000,) * 2)
    assert timeline(tmp_path) == [(1_700_000_000.5, "three")]
    publish(tmp_path, "one")
    assert [one.version for one in read_timeline(tmp_path)] == ["three", "one"]
    assert read_timeline(tmp_path)[0].at == 1_700_000_000.5


def test_what_a_kill_kept_from_the_timeline_is_written_down_by_the_next_change(tmp_path: Path, write: Write) -> None:
    for name in ("one", "two", "three"):
        write(name)
    publish(tmp_path, "one")
    publish(tmp_path, "two")
    whole = (tmp_path / TIMELINE).read_bytes()
    expected = read_timeline(tmp_path)
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        (tmp_path / TIMELINE).write_bytes(whole[:cut])
        assert timeline(tmp_path) == expected
    publish(tmp_path, "three")
    assert [one.version for one in read_timeline(tmp_path)] == ["one", "two", "three"]
    assert read_timeline(tmp_path)[:2] == expected


def test_times_of_the_timeline_never_fall_though_a_clock_was_put_back(tmp_path: Path) -> None:
    lines = ["2026-01-02T00:00:00.000000Z one", "nonsense", "2026-01-01T00:00:00.000000Z two"]
    (tmp_path / TIMELINE).write_text("\n".join(lines) + "\n")
    assert read_timeline(tmp_path) == [(1_767_312_000.0, "one"), (1_767_312_000.0, "two")]


def test_a_time_to_come_in_the_timeline_is_that_of_what_followed(tmp_path: Path, write: Write) -> None:
    lines = ["2026-01-01T00:00:00.000000Z one", "2999-01-01T00:00:00.000000Z two", "2026-01-02T00:00:00.000000Z three"]
    (tmp_path / TIMELINE).write_text("\n".join(lines) + "\n")
    assert read_timeline(tmp_path) == [(1_767_225_600.0, "one"), (1_767_312_000.0, "two"), (1_767_312_000.0, "three")]
    (tmp_path / TIMELINE).write_text("\n".join(lines[:2]) + "\n")
    before = time.time()
    assert before <= read_timeline(tmp_path)[1].at <= time.time()
    (tmp_path / TIMELINE).unlink()
    write("four")
    publish(tmp_path, "four")
    (tmp_path / TIMELINE).unlink()
    os.utime(tmp_path / CURRENT, (2**35, 2**35))
    assert timeline(tmp_path)[0].at <= time.time()
