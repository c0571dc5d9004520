"""How the command ends: one line and an exit status, whatever went wrong."""

import errno
import json
from collections.abc import Callable

import pytest

from bundle.errors import DiskFull
from cli import main as command


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
