"""Which versions were tried in vain, and when another try may end otherwise: when the files have changed, or at once
where it was the machine, or this process, that had no more to give.
"""

import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import BundleError

# What the system says of the files themselves. All else that it refuses it may grant the next time.
_OF_THE_FILES = {
    errno.EINVAL,  # not a plain file
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
}
# A version is read to the end, or nearly: it rests so many times as long as that took, or nothing else would be done.
RESTS = 3.0
Stamp = tuple[tuple[str, int, int, int, int], ...]


class Tries:
    """Of the versions in one directory. Looks at their files: call it outside the event loop."""

    def __init__(self, bundles: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._bundles = bundles
        self._now = now
        # Each with its files as they were, and with the moment from which on it is worth another try as they are.
        self._failed: dict[str, tuple[Stamp, float]] = {}

    @contextmanager
    def of(self, version: str) -> Iterator[None]:
        """One try: whether it fails is remembered, and why."""
        stamp, began = _stamp(self._bundles / version), self._now()
        try:
            yield
        except (BundleError, OSError) as error:
            now = self._now()
            self._failed[version] = stamp, now + RESTS * (now - began) if passes(error) else math.inf
            raise
        self._failed.pop(version, None)

    def worth_another(self, version: str) -> bool:
        """Whether the version may turn out to be fit now."""
        failed = self._failed.get(version)
        if failed is None:
            return True
        stamp, rests_until = failed
        return self._now() >= rests_until or stamp != _stamp(self._bundles / version)


def passes(error: BaseException | None) -> bool:
    """Whether a version may open at another time as it is."""
    while error is not None:
        if isinstance(error, (MemoryError, TimeoutError)):
            return True
        if isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILES:
            return True
        error = error.__cause__
    return False


def _stamp(path: Path) -> Stamp:
    """What changes with any file below `path`; what cannot be looked at is left out."""
    found = []
    for directory, folders, files in os.walk(path):
        for name in (*folders, *files):
            one = Path(directory, name)
            try:
                about = one.lstat()
            except OSError:
                continue
            found.append((str(one), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return tuple(sorted(found))
