"""What an error of a handler is to its client."""

import errno

import pytest

from bundle.errors import BundleInvalid, TwhinError
from service.problems import problem_of

NONE_LEFT = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
    RuntimeError("can't start new thread"),
]


def caused(by: Exception) -> TwhinError:
    """What reading a version makes of it."""
    error = BundleInvalid("the file cannot be read")
    error.__cause__ = by
    return error


@pytest.mark.parametrize("error", [*NONE_LEFT, *map(caused, NONE_LEFT)], ids=repr)
def test_what_has_nothing_left_is_to_come_again(error: Exception) -> None:
    problem = problem_of(error)
    assert (problem.code, problem.status, problem.headers) == ("overloaded", 503, {"retry-after": "1"})


def test_all_else_is_what_it_was() -> None:
    assert problem_of(OSError(errno.EIO, "Input/output error")).status == 500
    assert problem_of(OSError(errno.EIO, "Input/output error", "v1/manifest.json")).code == "files_unavailable"
    assert problem_of(RuntimeError("anything")).status == 500
    assert problem_of(caused(OSError(errno.EIO, "Input/output error"))).code == "bundle_invalid"
