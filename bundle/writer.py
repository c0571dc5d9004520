"""Writing a version: into a hidden directory beside the versions, made durable, then named in one rename."""

import os
import shutil
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from bundle.arrays import AnyArray, map_array, save_array
from bundle.disk import lock_file, make_directory, make_durable, make_files_durable, remove_empty, write_text
from bundle.errors import BundleInvalid, BundlesBusy
from bundle.layout import MANIFEST
from bundle.manifest import VERSION_NAME, FileEntry, Manifest
from bundle.verify import digest_of, require_finite

STAGING_PREFIX = ".building-"
STAGING_LOCK_PREFIX = ".lock-"
# Files of the directory of versions, and the words by which the command means a version without its name.
RESERVED = frozenset({"CURRENT", "HISTORY", "LOCK", "SHA256SUMS", "TIMELINE", "current", "latest"})


def may_be_named(version: str) -> bool:
    """Whether a version may have this name: it is one, and means nothing else in a directory of versions."""
    return bool(VERSION_NAME.match(version)) and version not in RESERVED and not version.endswith(".partial")


class BundleWriter:
    """Collects the files of one version in a staging directory; `commit` turns it into a version.

    Until `commit` returns, no reader lists the version. Used as a context manager it removes the staging
    directory when the block fails; after a `kill -9` the next `prune` does (`bundle.versions`).
    """

    def __init__(self, bundles: Path, version: str) -> None:
        """Raises BundleInvalid when the name is no version name or is taken, BundlesBusy when it is being built."""
        if not VERSION_NAME.match(version):
            raise BundleInvalid(f"{version!a:.80} is no version name: letters, digits, '.', '_' and '-', 64 at most.")
        if not may_be_named(version):
            raise BundleInvalid(f"{version!r} means something else in a directory of versions. Choose another name.")
        self.version = version
        self._final = bundles / version
        if self._final.exists():
            raise self._taken()
        self.root = bundles / f"{STAGING_PREFIX}{version}"
        self._made = make_directory(bundles)
        self._lock = lock_staging(self.root)
        if self._lock is None:
            raise BundlesBusy(f"Another process is building {version!r} in {bundles}. Wait, or choose another name.")
        if self._final.exists():  # whoever had the lock until now has built it
            self._release()
            raise self._taken()
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self._files: dict[str, FileEntry] = {}

    @classmethod
    def of_free_name(cls, bundles: Path, version: str) -> "BundleWriter":
        """A writer of the version of that name or, where it is taken or being built, of `version-2` and so on."""
        for number in count(1):
            name = version if number == 1 else f"{version}-{number}"
            try:
                return cls(bundles, name)
            except BundlesBusy:
                continue
            except BundleInvalid:
                if not (bundles / name).exists():
                    raise
        raise AssertionError

    def _taken(self) -> BundleInvalid:
        return BundleInvalid(f"{self._final} exists: a version is immutable. Choose another name.")

    @property
    def files(self) -> dict[str, FileEntry]:
        """What has been written so far, by relative path."""
        return dict(self._files)

    def array(self, name: str, array: AnyArray) -> None:
        """Write `array` as the `.npy` file `name`. Raises BundleInvalid for NaN or Inf."""
        if array.dtype.kind == "f":
            require_finite(array, name)
        path = self.root / name
        save_array(path, array, durable=False)
        self._files[name] = FileEntry(
            sha256=digest_of(path), size_bytes=path.stat().st_size, dtype=array.dtype.str, shape=array.shape
        )

    def path(self, name: str) -> Path:
        """Where a library may write the file `name` itself; call `add` afterwards."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def create(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> AnyArray:
        """A new `.npy` file mapped for writing, for arrays larger than memory; call `add` when it is full.

        Its blocks are taken at once: a mapped write to a full disk would kill the process instead of raising.
        """
        path = self.path(name)
        if 0 in shape:  # an empty array cannot be mapped
            save_array(path, np.empty(shape, dtype=dtype), durable=False)
            return np.empty(shape, dtype=dtype)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    def add(self, name: str) -> None:
        """Take the file written at `path(name)` into the version. Raises BundleInvalid for NaN or Inf in a `.npy`."""
        path = self.root / name
        entry = FileEntry(sha256=digest_of(path), size_bytes=path.stat().st_size)
        if path.suffix == ".npy":
            array = map_array(path)
            if array.dtype.kind == "f":
                require_finite(array, name)
            entry = entry.model_copy(update={"dtype": array.dtype.str, "shape": array.shape})
        self._files[name] = entry

    def stage(self, manifest: Manifest) -> None:
        """Write the manifest into the staging directory, so that the version can be opened and measured there."""
        write_text(self.root / MANIFEST, manifest.model_dump_json(indent=1))

    def commit(self, manifest: Manifest) -> Path:
        """Make all files durable, write the manifest last and give the directory its name, which is returned.

        Raises BundleInvalid when another builder took the name meanwhile.
        """
        make_files_durable(self.root / name for name in self._files)
        self.stage(manifest)
        for directory, _, _ in os.walk(self.root, topdown=False):
            make_durable(Path(directory))
        try:
            self.root.rename(self._final)
        except OSError as error:
            raise (self._taken() if self._final.exists() else error) from error
        self._release()
        make_durable(self._final.parent)
        return self._final

    def __enter__(self) -> "BundleWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self._release()
        remove_empty(self._made)

    def _release(self) -> None:
        if self._lock is not None:
            unlock_staging(self.root, self._lock)
            self._lock = None


def lock_staging(root: Path) -> IO[str] | None:
    """Lock the staging directory `root` against other builders and `prune`; None when a living process has it."""
    return lock_file(_lock_of(root))


def unlock_staging(root: Path, lock: IO[str]) -> None:
    """Give up the lock of the staging directory `root` and remove its file."""
    _lock_of(root).unlink(missing_ok=True)
    lock.close()


def _lock_of(root: Path) -> Path:
    """The file that is locked: beside the directory, which becomes the version and has no file too many."""
    return root.with_name(STAGING_LOCK_PREFIX + root.name.removeprefix(STAGING_PREFIX))
