"""URLs of object stores: s3://, gs://, az://. Credentials come from the environment, so a URL with some is refused."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from bundle.errors import UsageError

SCHEMES = ("s3", "gs", "az")
# What nobody means as a path, though it would be one: a store's scheme and a colon, or any scheme and two slashes.
_MEANT = re.compile(rf"({'|'.join(SCHEMES)}):|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether `text` is a URL of a store and not a path. Raises UsageError for one that is misspelt or of another
    kind, by which a directory called `s3:` would be made."""
    if not _MEANT.match(text):
        return False
    if text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return True
    raise _no_url(" A path that begins like a URL is written with ./ before it.")


def require_path(path: Path) -> None:
    """Raise UsageError for what is meant as a URL where only a path will do."""
    if _MEANT.match(str(path)):
        raise UsageError("This directory is one of this machine, and a URL was given. Give a path.")


def _no_url(more: str = "") -> UsageError:
    return UsageError(f"A store is named by a URL that begins with {', '.join(f'{one}://' for one in SCHEMES)}.{more}")


def checked_url(text: str) -> str:
    """`text` without a slash at its end. Raises UsageError, which repeats nothing of a URL that may hold a secret."""
    if not is_url(text):
        raise _no_url()
    # A password may have any of these signs: what is read as the host would be its beginning.
    if any(sign in text for sign in "@?#"):
        raise UsageError(
            "The URL of a store takes no user, password or options, so none of @ ? #: credentials are read from the "
            "environment. See docs/storage.md."
        )
    if not urlsplit(text).netloc:
        raise UsageError(f"{text!r:.80} names no bucket. Write it as in s3://bucket/versions.")
    return text.rstrip("/")
