"""Where versions lie in a store, and which is published.

URL/<version>/…          as in a directory of versions; manifest.json is written last, and never over another one
URL/CURRENT              the published version: its manifest's digest and name, as `sha256sum -c` reads them
URL/HISTORY              what was published, oldest first, in the same form
"""

import re
from typing import NamedTuple

from bundle.errors import BundleInvalid, BundleNotFound
from bundle.layout import MANIFEST
from bundle.manifest import Manifest
from bundle.manifest_file import parse_manifest
from bundle.writer import may_be_named
from storage.store import Store

CURRENT, HISTORY = "CURRENT", "HISTORY"
_LINE = re.compile(rf"(?P<digest>[0-9a-f]{{64}})  (?P<version>[^/\s]+)/{re.escape(MANIFEST)}", re.ASCII)


class Published(NamedTuple):
    """What CURRENT says, and the tag of that object."""

    version: str
    digest: str
    tag: str

    @property
    def line(self) -> str:
        """As it is written."""
        return line(self.version, self.digest)


def line(version: str, digest: str) -> str:
    """A version as CURRENT and HISTORY write it."""
    return f"{digest}  {version}/{MANIFEST}\n"


def read_current(store: Store, unless: str | None = None) -> Published | None:
    """The published version, None where there is none. Raises Conflict while the tag is `unless`, BundleInvalid."""
    content = store.read(CURRENT, unless)
    if content is None:
        return None
    found = _LINE.fullmatch(content.data.decode("utf-8", "replace").strip())
    if found is None or not may_be_named(found["version"]):
        raise BundleInvalid(f"{store.url}/{CURRENT} names no version. Publish one with `twhin publish --to`.")
    return Published(found["version"], found["digest"], content.tag)


def read_manifest(store: Store, version: str) -> tuple[Manifest, bytes]:
    """A version's manifest, and its bytes. Raises BundleNotFound, BundleInvalid."""
    where = f"{store.url}/{version}/{MANIFEST}"
    content = store.read(f"{version}/{MANIFEST}")
    if content is None:
        raise BundleNotFound(f"{where} is missing: that version is not, or no longer, there. Push it again.")
    return parse_manifest(content.data, where), content.data
