"""Writing a run's files: a full disk becomes a clear error, and what was complete before stays."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bundle.arrays import AnyArray
from bundle.errors import DiskFull


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn 'no space left' while writing below `path` into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"The disk is full: {error.filename or path} could not be written. "
            "The last checkpoint is intact: make room and go on with --resume."
        ) from error


def save_array(path: Path, array: AnyArray, durable: bool = True) -> None:
    """Write `array` in one step: a reader sees the whole file or none; no partial file stays behind.

    `durable` waits until it would survive a power cut.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_durable(path: Path) -> None:
    """Wait until a file written earlier would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_pages(array: AnyArray | None) -> None:
    """Take the pages of a mapped file out of this process: they are resident memory until then, though read again at
    no cost but time. An array in memory of its own stays as it is."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path) -> AnyArray:
    """Read a whole array into memory of its own."""
    array: AnyArray = np.load(path, allow_pickle=False)
    return array
