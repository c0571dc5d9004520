"""A full disk by its name, whatever a library says of one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import DiskFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Raise DiskFull when writing below `path` fails for want of room; other errors pass.

    FAISS raises RuntimeError with the system's words at the end of a C++ line.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in _NO_ROOM and not any(os.strerror(each) in str(error) for each in _NO_ROOM):
            raise
        where = (isinstance(error, OSError) and error.filename) or path
        raise DiskFull(f"The disk is full: {where} could not be written. Make room, then build again.") from error


def require_written(path: Path, size_bytes: int) -> None:
    """Raise OSError (no room) when the file at `path` is shorter than what was written: hnswlib does not look."""
    if path.stat().st_size < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
