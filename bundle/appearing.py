"""A new directory that appears whole or not at all, whoever else writes there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.disk import beside, full_disk_named, locked, make_durable
from bundle.errors import UsageError


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A directory to write into, which becomes `out` at the end and is gone after an error.

    Raises UsageError where `out` has files already or another process writes it, DiskFull where there is no room.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already. Name a new directory.")
    staging, busy = beside(out, "partial"), UsageError(f"Another process writes {out}. Name another directory.")
    with full_disk_named(out, "Make room and run it again."), locked(beside(out, "lock"), busy, remove=True):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            yield staging
            for path in staging.iterdir():
                make_durable(path)
            final = out.resolve()
            if final.is_dir():
                final.rmdir()
            staging.rename(final)
            make_durable(final.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
