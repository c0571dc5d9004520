"""A folder in an object store: small objects with compare-and-swap, large ones in parts, and errors in our words.

Words of the store or of its client are never passed on: they may hold a signed URL.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import obstore
from obstore import exceptions

from bundle.errors import StorageError, UsageError
from storage.address import checked_url

# What a large object is read in: each part is asked for again by itself when a connection is cut.
PART_BYTES = 8 << 20
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.2
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_DIGEST = "sha256"
_CONDITION = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
Result = TypeVar("Result")


class Conflict(Exception):
    """The object is not, or no longer, what the writer took it for."""


class Denied(StorageError):
    """The store refuses the credentials, or they may not do this."""


class Content(NamedTuple):
    """A small object: its bytes, and the tag by which it is replaced or found unchanged."""

    data: bytes
    tag: str


class Listed(NamedTuple):
    """An object as a listing has it: its name below the folder, bytes, and the time of its last change in ns."""

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Store:
    """The folder at `url`. All methods raise StorageError when the store does not answer or refuses."""

    url: str
    _store: Any

    def read(self, name: str, unless: str | None = None) -> Content | None:
        """A small object; None where there is none. Raises Conflict when its tag is still `unless`."""

        def ask() -> Content:
            found = obstore.get(self._store, name, options=None if unless is None else {"if_none_match": unless})
            return Content(bytes(found.bytes()), found.meta["e_tag"] or "")

        try:
            return self._tried(ask, name)
        except FileNotFoundError:
            return None

    def create(self, name: str, data: bytes) -> None:
        """Write a small object where there is none. Raises Conflict where there is one, be it an attempt of our own
        whose answer was lost: read it then."""
        self._tried(lambda: obstore.put(self._store, name, data, mode="create", use_multipart=False), name)

    def replace(self, name: str, data: bytes, tag: str) -> None:
        """Write a small object in place of the one with this tag. Raises Conflict when another is there."""
        self._tried(lambda: obstore.put(self._store, name, data, mode={"e_tag": tag}, use_multipart=False), name)

    def upload(self, name: str, path: Path, sha256: str) -> None:
        """Write a file, in parallel parts if it is large, with its digest beside it."""
        self._tried(lambda: obstore.put(self._store, name, path, attributes={_DIGEST: sha256}), name)

    def has(self, name: str, size: int, sha256: str) -> bool:
        """Whether the object is there, of this size, and was uploaded with this digest."""
        try:
            found = self._tried(lambda: obstore.get(self._store, name, options={"head": True}), name)
        except FileNotFoundError:
            return False
        return found.meta["size"] == size and found.attributes.get(_DIGEST) == sha256

    def parts(self, name: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of an object, and one more where it has more. Raises FileNotFoundError."""
        for start in range(0, size, PART_BYTES):
            end = min(size, start + PART_BYTES)
            last = end == size
            ask = partial(obstore.get_range, self._store, name, start=start, end=end + last)
            yield bytes(self._tried(ask, name))

    def listed(self, prefix: str = "") -> list[Listed]:
        """All objects below `prefix`, a folder, in the order of their names."""

        def ask() -> list[Listed]:
            return [_listed(each) for batch in obstore.list(self._store, prefix or None) for each in batch]

        return sorted(self._tried(ask, prefix))

    def stat(self, name: str) -> Listed | None:
        """The object of this very name, None where there is none."""
        try:
            return _listed(self._tried(lambda: obstore.head(self._store, name), name))
        except FileNotFoundError:
            return None

    def _tried(self, ask: Callable[[], Result], name: str) -> Result:
        """What `ask` gives; where a connection is cut it is asked again, after a wait that grows."""
        for attempt in range(ATTEMPTS):
            try:
                return ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise StorageError(f"{self.url}: there is no such bucket. Correct the URL.") from None
                raise
            except (*_CONDITION, exceptions.NotModifiedError) as error:
                raise Conflict from error
            except (exceptions.BaseError, OSError) as error:
                if _is_denial(error):
                    raise Denied(
                        f"{self.url}: the store refuses the credentials, or they may not do this. They are read from "
                        "the environment: see docs/storage.md."
                    ) from None
                if attempt + 1 == ATTEMPTS:
                    raise StorageError(f"{self._named(name)}: {_in_words(error)}. Try again.") from None
                time.sleep(FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError

    def _named(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def open_store(url: str) -> Store:
    """The folder at `url`; asks it nothing yet. Raises UsageError."""
    clean = checked_url(url)
    try:
        store = obstore.store.from_url(clean, retry_config=_RETRIES)
    except (exceptions.BaseError, ValueError) as error:
        raise UsageError(
            f"{clean} cannot be used: {type(error).__name__}. Correct the URL or the environment: see docs/storage.md."
        ) from None
    return Store(clean, store)


def _listed(meta: Any) -> Listed:
    return Listed(meta["path"], meta["size"], int(meta["last_modified"].timestamp() * 1e9))


def _is_denial(error: Exception) -> bool:
    denials = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    return isinstance(error, denials) or _status(error) in ("401", "403")  # a listing has no class of its own for it


def _status(error: Exception) -> str | None:
    found = re.search(r"status code: (\d{3})", str(error))
    return found[1] if found else None


def _in_words(error: Exception) -> str:
    status = _status(error)
    if status:
        return f"the store answered with HTTP status {status}"
    if isinstance(error, exceptions.NotSupportedError):
        return "the store cannot do what is asked: conditional writes are needed"
    return "the store cannot be reached, or the connection was cut"
