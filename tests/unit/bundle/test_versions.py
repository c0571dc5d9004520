"""The directory of versions: publish, roll back, prune, and what is refused."""

import fcntl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bundle import versions
from bundle.errors import (
    BundleAltered,
    BundleError,
    BundleFormatUnsupported,
    BundleIncomplete,
    BundleInvalid,
    BundleNotFound,
    BundlesBusy,
    GateRefused,
)
from bundle.manifest import Evaluation, Gate, Lineage, Manifest
from bundle.reader import read_manifest
from bundle.verify import check_digests, check_files
from bundle.versions import (
    CURRENT,
    HISTORY,
    LOCK,
    REMOVING_PREFIX,
    current_path,
    current_version,
    list_versions,
    prune,
    publish,
    rollback,
    version_path,
)
from bundle.writer import STAGING_PREFIX, BundleWriter

LINEAGE = Lineage(graph_digest="0" * 64, training_config_digest="0" * 64, build_config_digest="0" * 64)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes versions that hold one array and no space: enough for everything but serving."""
    clock = iter(range(100))

    def write(version: str, recall: float = 1.0) -> Path:
        with BundleWriter(tmp_path, version) as writer:
            writer.array("spaces/s/a.npy", np.arange(100, dtype=np.float32))
            created = datetime(2026, 1, 1, 0, next(clock), tzinfo=UTC)
            gate = Gate(metric="recall@100", floor=0.95, measured=recall)
            evaluation = Evaluation(gates=(gate,))
            return writer.commit(
                Manifest(
                    version=version,
                    created=created,
                    lineage=LINEAGE,
                    spaces={},
                    files=writer.files,
                    evaluation=evaluation,
                )
            )

    return write


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


def test_a_version_is_immutable(tmp_path: Path, write: Write) -> None:
    write("one")
    with pytest.raises(BundleInvalid, match="immutable"):
        BundleWriter(tmp_path, "one")


@pytest.mark.parametrize("name", ["..", "", "a/b", ".hidden", "x" * 65, "a\nb", "ü"])
def test_a_name_that_is_no_version_name_reaches_no_path(tmp_path: Path, write: Write, name: str) -> None:
    write("one")
    with pytest.raises(BundleNotFound):
        version_path(tmp_path, name)
    with pytest.raises(BundleInvalid):
        BundleWriter(tmp_path, name)


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleInvalid, match=r"spaces/s/a\.npy: row 2 holds NaN"),
        BundleWriter(tmp_path, "one") as writer,
    ):
        writer.array("spaces/s/a.npy", np.array([0, 1, np.nan], dtype=np.float32))
    assert list(tmp_path.iterdir()) == []


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


def test_two_builders_of_one_version_do_not_meet(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, "one"), pytest.raises(BundlesBusy, match="building 'one'"):
        BundleWriter(tmp_path, "one")
    with BundleWriter(tmp_path, "one"):
        pass
    assert not list(tmp_path.iterdir())


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


def test_a_version_in_a_directory_of_another_name_is_refused(tmp_path: Path, write: Write) -> None:
    write("one").rename(tmp_path / "two")
    with pytest.raises(BundleInvalid, match="is of version 'one'"):
        publish(tmp_path, "two")


@pytest.mark.parametrize("name", ["CURRENT", "HISTORY", "LOCK", "latest", "current", "CURRENT.partial"])
def test_a_name_with_another_meaning_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleInvalid, match="means something else"):
        BundleWriter(tmp_path, name)


def test_a_name_taken_during_the_build_is_not_overwritten(tmp_path: Path, write: Write) -> None:
    elsewhere = write("one").rename(tmp_path / "elsewhere")
    with BundleWriter(tmp_path, "one") as slow:
        quick = elsewhere.rename(tmp_path / "one")  # a version may also be copied here
        with pytest.raises(BundleInvalid, match="immutable"):
            slow.commit(read_manifest(quick))
    assert list_versions(tmp_path) == ["one"]


def test_room_is_taken_before_a_mapped_file_is_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, "one") as writer:
        writer.create("spaces/s/a.npy", np.float32, (1 << 18,))
        status = (writer.root / "spaces/s/a.npy").stat()
        assert status.st_blocks * 512 >= status.st_size


def test_a_version_without_its_manifest_is_not_listed(tmp_path: Path, write: Write) -> None:
    path = write("one")
    (path / "manifest.json").unlink()
    assert list_versions(tmp_path) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _add_another(path: Path) -> None:
    path.with_name("b.npy").write_bytes(b"")


def _link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (_truncate, BundleIncomplete, "a.npy is cut short"),
        (Path.unlink, BundleIncomplete, "a.npy is missing"),
        (_alter, BundleAltered, "a.npy differs from its digest"),
        (_lengthen, BundleAltered, "a.npy has 529 bytes"),
        (_add_another, BundleAltered, "b.npy is not in the manifest"),
        (_link, BundleAltered, "a.npy points outside"),
    ],
)
def test_a_damaged_version_is_refused_by_name(
    tmp_path: Path, write: Write, damage: Callable[[Path], None], error: type[BundleError], named: str
) -> None:
    write("good")
    publish(tmp_path, "good")
    damage(write("bad") / "spaces" / "s" / "a.npy")
    with pytest.raises(error, match=named):
        publish(tmp_path, "bad")
    assert current_version(tmp_path) == "good"


def test_an_unknown_format_is_named_and_not_misread(write: Write) -> None:
    path = write("one")
    file = path / "manifest.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(BundleFormatUnsupported, match="format 2; this release reads format 1"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}', '{"format_version": "x"}', "\0"])
def test_what_is_no_manifest_is_refused(write: Write, text: str) -> None:
    path = write("one")
    (path / "manifest.json").write_text(text)
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        read_manifest(path)


def test_an_intact_version_passes(write: Write) -> None:
    path = write("one")
    manifest = read_manifest(path)
    check_files(path, manifest)
    check_digests(path, manifest)
