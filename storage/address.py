"""URLs of object stores: s3://, gs://, az://. Credentials come from the environment, so a URL with some is refused."""

from urllib.parse import urlsplit

from bundle.errors import UsageError

SCHEMES = ("s3", "gs", "az")


def is_url(text: str) -> bool:
    """Whether `text` is meant as a URL of a store and not as a path."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def checked_url(text: str) -> str:
    """`text` without a slash at its end. Raises UsageError, which repeats nothing of a URL that may hold a secret."""
    if not is_url(text):
        raise UsageError(f"A store is named by a URL that begins with {', '.join(f'{one}://' for one in SCHEMES)}.")
    # A password may have any of these signs: what is read as the host would be its beginning.
    if any(sign in text for sign in "@?#"):
        raise UsageError(
            "The URL of a store takes no user, password or options, so none of @ ? #: credentials are read from the "
            "environment. See docs/storage.md."
        )
    if not urlsplit(text).netloc:
        raise UsageError(f"{text!r:.80} names no bucket. Write it as in s3://bucket/versions.")
    return text.rstrip("/")
