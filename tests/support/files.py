"""What lies in a directory that a running server writes to."""

from collections.abc import Iterator
from pathlib import Path


def contents(directory: Path) -> Iterator[bytes]:
    """Each file's bytes; a server (Redis, for one) renames and removes its files at any moment, and such a one is
    passed over: who looks for a trace that must vanish looks until none is left, and then once more at what stays.
    """
    for path in sorted(directory.rglob("*")):
        try:
            yield path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue


def holds(directory: Path, *needles: bytes) -> bool:
    """Whether one of the needles is in a file."""
    return any(needle in content for content in contents(directory) for needle in needles)
