"""Whether the names of an open SQLite database still lead to the files that are open: what is written into a file
without a name is gone at the next start, and SQLite itself does not look.
"""

from pathlib import Path

# The file, and what SQLite keeps beside it for as long as anybody has it open: the log that commits are written to, and
# the memory by which processes find their way in the log.
PARTS = {"": "its file", "-wal": "its log (-wal)", "-shm": "its shared memory (-shm)"}


class OpenFiles:
    """The files behind a path as they are now: to be made when the first connection has opened them."""

    def __init__(self, path: Path) -> None:
        # SQLite finds the other two beside what a link leads to; the link itself may be made to lead elsewhere.
        real = path.resolve()
        self._paths = {part: real.with_name(real.name + part) if part else path for part in PARTS}
        self._opened = {part: _identity(name) for part, name in self._paths.items()}

    def fault(self) -> str | None:
        """What is no longer there under its name; None while all is. Takes a few microseconds."""
        for part, name in self._paths.items():
            found = _identity(name)
            if found is None or found != self._opened[part]:
                return f"{PARTS[part]} was removed or replaced while it was open: restart the service"
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    """What no other file has at the same time, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
