"""Edge files in a store: found by a URL with wildcards, and brought to a temporary file while they are read."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bundle.disk import replacing
from bundle.errors import UsageError
from storage.address import checked_url
from storage.store import Denied, Listed, Store, open_store
from storage.tables import LOGS, MARKS, holds_rows, is_part_of_hive, told

_WILD = re.compile(r"[*[]")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object as it was when it was found: its size in bytes and the time of its last change in ns."""

    store: Store
    name: str
    size: int
    modified_ns: int

    def __str__(self) -> str:
        return f"{self.store.url}/{self.name}"

    @contextmanager
    def local(self) -> Iterator[Path]:
        """The file, below a temporary directory in folders of the object's own names: some are columns.

        It takes its size in the directory for temporary files ($TMPDIR). Raises StorageError, and UsageError when the
        object has changed.
        """
        with tempfile.TemporaryDirectory(prefix="twhin-") as directory:
            path = Path(directory).joinpath(*str(self).replace("://", "/").split("/"))
            path.parent.mkdir(parents=True)
            size = 0
            try:
                with replacing(path, durable=False) as file:  # which names what finds no room
                    for part in self.store.parts(self.name, self.size):
                        size += file.write(part)
            except FileNotFoundError:
                size = -1
            if size != self.size:
                raise UsageError(f"{self} changed while it was read. Run it again when nobody writes to it.")
            yield path


def find_files(pattern: str) -> list[StoredFile]:
    """The objects that a URL stands for, in the order of their names: one, all below a folder, or those that match.

    `*` and `[...]` stay within a folder, `**` is any number of folders. Below a folder, names of which a part begins
    with a dot or an underscore are left out. Raises UsageError for a bad URL and for a table, StorageError.
    """
    scheme, rest = checked_url(pattern).split("://")
    bucket, *parts = rest.split("/")
    fixed = next((i for i, part in enumerate(parts) if _WILD.search(part)), max(0, len(parts) - 1))
    store = open_store(f"{scheme}://{'/'.join([bucket, *parts[:fixed]])}")
    wanted = parts[fixed:]
    if len(wanted) == 1 and not _WILD.search(wanted[0]):
        one = store.stat(wanted[0])
        if one is not None:  # who names a file knows that it is of the table
            return [StoredFile(store, *one)]
        found = listed = store.listed(wanted[0])
        fixed += 1
    else:
        listed = store.listed()
        found = [each for each in listed if _matches(each.name.split("/"), wanted)]
    found = [each for each in found if _is_shown(each.name.split("/")[len(wanted) :])]
    _refuse_tables(pattern, found, listed)
    if any(holds_rows(each.name) for each in found):
        _refuse_tables_above(pattern, f"{scheme}://{bucket}", parts[:fixed])
    # What ends with a slash is what browsers of stores put there for a folder.
    return [StoredFile(store, *each) for each in found if not each.name.endswith("/")]


def find_file(url: str) -> StoredFile:
    """The one object that a URL stands for. Raises UsageError when it leads to none or to several, StorageError."""
    found = find_files(url)
    if len(found) != 1:
        raise UsageError(f"{checked_url(url)} leads to {len(found)} files. Name one.")
    return found[0]


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a name matches, itself or a folder above it."""
    if not wanted:
        return True
    if wanted[0] == "**":
        return any(_matches(parts[i:], wanted[1:]) and _is_shown(parts[:i]) for i in range(len(parts) + 1))
    if not parts or (parts[0].startswith(".") and not wanted[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _is_shown(parts: Sequence[str]) -> bool:
    return not any(part.startswith((".", "_")) for part in parts)


def _refuse_tables(pattern: str, found: Sequence[Listed], listed: Sequence[Listed]) -> None:
    """Raise UsageError for what is found below a folder that has the log of a table, of all that are `listed`."""
    if any(holds_rows(each.name) and any(map(is_part_of_hive, each.name.split("/"))) for each in found):
        raise UsageError(told(f"{pattern} leads to", "Hive"))
    for log, kind in (LOGS | MARKS).items():
        folders = tuple({folder for each in listed for folder in _above(each.name.split("/"), log.split("/"))})
        if any(each.name.startswith(folders) and holds_rows(each.name) for each in found):
            raise UsageError(told(f"{pattern} leads to", kind))


def _refuse_tables_above(pattern: str, bucket: str, parts: Sequence[str]) -> None:
    """Raise UsageError where the folder of these parts lies within a table, which no listing of the folder shows."""
    if any(map(is_part_of_hive, parts)):
        raise UsageError(told(f"{pattern} leads to", "Hive"))
    for end in range(len(parts) - 1, -1, -1):
        store = open_store("/".join([bucket, *parts[:end]]))
        for first in dict.fromkeys(log.split("/")[0] for log in LOGS):
            try:
                names = [each.name.split("/") for each in store.listed(first)]
            except Denied:  # it may not be looked at, which is no reason to refuse what may be read
                continue
            for log, kind in LOGS.items():
                if any("" in _above(name, log.split("/")) for name in names):
                    raise UsageError(told(f"{pattern} leads to", kind))


def _above(parts: Sequence[str], log: Sequence[str]) -> Iterator[str]:
    """The folder in which a name's parts lead through the log of a table, with a slash at its end."""
    for i in range(len(parts) - len(log) + 1):
        if all(map(fnmatchcase, parts[i:], log)):
            yield "".join(f"{part}/" for part in parts[:i])
