"""How the command ends: one line and an exit status, whatever went wrong."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import DiskFull
from bundle.versions import publish
from cli import main as command
from tests.support.service_bundle import write_toy_bundle


def ends(monkeypatch: pytest.MonkeyPatch, fault: BaseException, *arguments: str) -> object:
    """The exit status of a command in which `fault` happens."""

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("bundle.versions.list_versions", fails)
    monkeypatch.setattr("sys.argv", ["twhin", "bundle", "show", "--bundles", "b", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (lambda: KeyboardInterrupt(), 130, "interrupted; nothing half-done is left behind"),
        (lambda: OSError(errno.ENOSPC, "No space left on device", "b/x.npy"), 6, "b/x.npy: No space left on device"),
        (lambda: PermissionError(errno.EACCES, "Permission denied", "b"), 6, "b: Permission denied"),
        (lambda: DiskFull("no room"), 4, "no room"),
        (lambda: OSError(errno.EMFILE, "Too many open files"), 6, "Raise the limit of open files"),
    ],
)
def test_it_ends_with_one_line_and_its_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[], BaseException],
    status: int,
    said: str,
) -> None:
    assert ends(monkeypatch, fault()) == status
    assert said in capsys.readouterr().err
    assert ends(monkeypatch, fault(), "--json") == status
    assert said in json.loads(capsys.readouterr().err)["error"]["message"]


def test_a_version_of_many_files_is_read_where_few_may_be_open_at_first(tmp_path: Path) -> None:
    """A process is usually begun with 1,024, and a version of many relations has more: here it is 40."""
    write_toy_bundle(tmp_path, "v1")
    publish(tmp_path, "v1")
    few = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (40, r.getrlimit(r.RLIMIT_NOFILE)[1]))"
    ask = [
        sys.executable,
        "-c",
        f"{few}; from cli.main import main; main()",
        "recommend",
        "5",
        "--bundles",
        str(tmp_path),
    ]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_room_for_open_files_that_is_said_and_not_that_the_version_is_damaged(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path, "v1")
    publish(tmp_path, "v1")
    few = "import cli.main, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    ask = [sys.executable, "-c", f"{few}; cli.main.main()", "recommend", "5", "--bundles", str(tmp_path)]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "Raise the limit of open files (ulimit -Hn) and run it again." in done.stderr
    assert "Traceback" not in done.stderr
