"""Answers that a client may keep: an ETag, 304 where it has them, compressed where it takes that."""

import hashlib
from collections.abc import Callable, Iterable, Mapping

from bundle.space import Bundle, Space
from service.call import JSON, Call, Reply
from service.packed import Packed


async def space_asked(call: Call) -> tuple[Bundle, Space]:
    """The version and the space of it that the query names. Raises BundleNotFound, QueryError."""
    query = call.query()
    bundle = await call.bundle(query.get("version"))
    return bundle, bundle.space(query.get("space"))


def etag_of(bundle: Bundle, space: Space, files: Iterable[str]) -> str:
    """A name for what is made of these files of a space, which changes when their bytes do: from the digests in the
    manifest. Files that the version has not are passed over."""
    digests = [bundle.manifest.files[file].sha256 for file in files if file in bundle.manifest.files]
    return hashlib.sha256("/".join([bundle.version, space.name, *digests]).encode()).hexdigest()[:32]


async def packed_reply(
    call: Call, etag: str, make: Callable[[], bytes], content_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Reply:
    """The document called `etag`, compressed where the client takes that; 304 where it has it."""
    head = {"etag": f'"{etag}"', "cache-control": "private, no-cache", "vary": "accept-encoding", **(headers or {})}
    if holds(call, etag):
        return Reply(b"", status=304, headers=head)
    packed = await call.runtime.packed.get(etag, make)
    return encoded_reply(call, packed, content_type, head)


def encoded_reply(call: Call, packed: Packed, content_type: str, headers: Mapping[str, str]) -> Reply:
    """A packed document in the coding that the client takes."""
    if takes_gzip(call.header(b"accept-encoding")):
        return Reply(packed.gzipped, content_type, headers={**headers, "content-encoding": "gzip"})
    return Reply(packed.plain, content_type, headers=dict(headers))


def holds(call: Call, etag: str) -> bool:
    """Whether the client has the document of that name already, or any (`*`)."""
    held = call.header(b"if-none-match") or ""
    return held.strip() == "*" or f'"{etag}"' in held


def takes_gzip(accepted: str | None) -> bool:
    """Whether an Accept-Encoding names gzip, or else anything, and not with a quality of 0."""
    taken: dict[str, bool] = {}
    for part in (accepted or "").lower().split(","):
        coding, _, parameters = part.partition(";")
        quality = parameters.partition("q=")[2].strip()
        taken[coding.strip()] = not quality or quality.strip("0.") != ""
    return taken.get("gzip", taken.get("*", False))
