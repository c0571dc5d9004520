"""Which failures of a version are remembered, and until when."""

import errno
from pathlib import Path

import pytest

from bundle.errors import BundleError, BundleInvalid
from service.versions.tries import Tries, passes


def _fail(tries: Tries, cause: BaseException | None) -> None:
    with pytest.raises(BundleError), tries.of("v1"):
        raise BundleInvalid("unfit") from cause


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    (tmp_path / "v1" / "spaces").mkdir(parents=True)
    (tmp_path / "v1" / "spaces" / "one.npy").write_bytes(b"0123")
    return tmp_path


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EACCES])
def test_what_the_system_refuses_it_may_grant_later(number: int) -> None:
    error = BundleInvalid("unfit")
    error.__cause__ = OSError(number, "words")
    assert passes(error)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.ENOTDIR, errno.EISDIR])
def test_what_it_says_of_the_files_stays(number: int) -> None:
    assert not passes(OSError(number, "words"))
    assert not passes(BundleInvalid("unfit"))


def test_damage_is_remembered_until_a_file_changes(bundles: Path) -> None:
    tries = Tries(bundles)
    assert tries.worth_another("v1")
    _fail(tries, None)
    assert not tries.worth_another("v1")
    (bundles / "v1" / "spaces" / "one.npy").write_bytes(b"0124")
    assert tries.worth_another("v1")
    _fail(tries, None)
    assert not tries.worth_another("v1")
    (bundles / "v1" / "two.npy").touch()
    assert tries.worth_another("v1")


def test_what_passes_is_tried_again_after_a_rest(bundles: Path) -> None:
    times = iter([100.0, 110.0, 110.0, 139.0, 140.0])
    tries = Tries(bundles, lambda: next(times))
    _fail(tries, OSError(errno.EIO, "words"))
    assert [tries.worth_another("v1") for _ in range(3)] == [False, False, True]


def test_a_success_is_no_failure(bundles: Path) -> None:
    tries = Tries(bundles)
    _fail(tries, None)
    with tries.of("v1"):
        pass
    assert tries.worth_another("v1")
