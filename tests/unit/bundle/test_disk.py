"""Writing: a full disk is named and leaves nothing half-written; locks end with their holder."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import save_array
from bundle.disk import append_line, full_disk_named, lock_file, locked, remedy, write_text, write_together
from bundle.errors import BundleError, BundlesBusy, DiskFull
from bundle.verify import refusing
from tests.support.full_disk import files_end_at

ONE_PAGE = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from bundle.arrays import save_array
from bundle.disk import is_full, write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
target = Path(sys.argv[1])
for write in (lambda: save_array(target, np.zeros(4800)), lambda: write_text(target, "x" * 5000)):
    try:
        write()
    except OSError as error:
        print(is_full(error), error.filename == str(target), [path.name for path in target.parent.iterdir()])
"""


def test_a_short_write_is_a_full_disk_and_leaves_what_was_there(tmp_path: Path) -> None:
    """With 4 KiB to write to, an array and a text find no room; the file that was there before stays."""
    target = tmp_path / "a.npy"
    target.write_text("before")
    seen = subprocess.run([sys.executable, "-c", ONE_PAGE, target], capture_output=True, text=True, check=True)
    assert seen.stdout.splitlines() == ["True True ['a.npy']"] * 2
    assert target.read_text() == "before"


def test_a_full_device_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy.partial").symlink_to("/dev/full")
    with (
        pytest.raises(DiskFull, match=r"a\.npy could not be written\. Make room\."),
        full_disk_named(tmp_path, "Make room."),
    ):
        save_array(tmp_path / "a.npy", np.zeros(10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.empty((0, 5)), np.array(3.0), np.array([True])])
def test_what_is_saved_is_numpy_s_own_format(tmp_path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", np.asarray(array, order="C"), allow_pickle=False)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_lock_is_held_by_one_and_freed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, BundlesBusy("taken")):
        assert lock_file(path) is None
        with pytest.raises(BundlesBusy, match="taken"), locked(path, BundlesBusy("taken")):
            pass
    with locked(path, BundlesBusy("taken"), remove=True):
        write_text(tmp_path / "a", "b")
    assert not path.exists()


def test_a_line_without_an_end_makes_none_with_the_next(tmp_path: Path) -> None:
    log, long = tmp_path / "log", "x" * 10_000
    for left, kept in (
        ("", ""),
        ("one\n", "one\n"),
        ("one\ntw", "one\n"),
        ("on", ""),
        (f"{long}\n{long}", f"{long}\n"),
    ):
        log.write_text(left)
        append_line(log, "new")
        assert log.read_text() == f"{kept}new\n"


def test_a_line_that_finds_no_room_leaves_the_lines_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_line(log, "one")
    for size_bytes in (4, 5, 7):
        with files_end_at(size_bytes), pytest.raises(OSError, match="File too large.*log"):
            append_line(log, "second")
        assert log.read_text() == "one\n"
    append_line(log, "second")
    assert log.read_text() == "one\nsecond\n"


def test_a_file_that_may_not_be_read_is_not_said_to_be_damaged() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "user.npy")
    assert remedy(denied, "Train the run again.") == "Correct the path or its permissions."
    assert remedy(OSError(errno.EIO, "Input/output error"), "Train the run again.") == "Train the run again."
    with (
        pytest.raises(BundleError, match=r"user\.npy cannot be read: Permission denied\. Correct the path"),
        refusing(Path("user.npy")),
    ):
        raise denied


def test_texts_that_belong_together_change_together(tmp_path: Path) -> None:
    """With room for one of two neither changes; a directory that was made for them goes again."""
    texts = {tmp_path / "made" / "a": "small", tmp_path / "made" / "b": "x" * 5000}
    with (
        files_end_at(4096),
        pytest.raises(DiskFull, match=r"made/b could not be written\. Make room and run it again\."),
    ):
        write_together(texts)
    assert not (tmp_path / "made").exists()
    write_together(dict.fromkeys(texts, "before"))
    with files_end_at(4096), pytest.raises(DiskFull):
        write_together(texts)
    assert {path.name: path.read_text() for path in (tmp_path / "made").iterdir()} == {"a": "before", "b": "before"}
    write_together(texts)
    assert {path: path.read_text() for path in texts} == texts


@pytest.mark.parametrize("taken", "ab")
def test_where_one_name_is_a_directory_s_nothing_is_written(tmp_path: Path, taken: str) -> None:
    other = "a" if taken == "b" else "b"
    (tmp_path / taken).mkdir()
    (tmp_path / other).write_text("before")
    with pytest.raises(IsADirectoryError) as raised:
        write_together({tmp_path / "a": "now", tmp_path / "b": "now"})
    assert raised.value.filename == str(tmp_path / taken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / other).read_text() == "before"


def test_a_link_to_a_directory_gives_way_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path)
    write_text(tmp_path / "a", "now")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "now"
