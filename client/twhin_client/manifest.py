"""What the reader needs of a version's manifest.json (docs/bundle-format.md). What it does not know is passed over."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from twhin_client.problems import (
    BundleAltered,
    BundleFormatUnsupported,
    BundleIncomplete,
    BundleInvalid,
    VersionNotFound,
)

# What is read here is the same in both.
READ_VERSIONS = (1, 2)
MANIFEST = "manifest.json"
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
_SUM = re.compile(r"([0-9a-f]{64})  ([^/]+)/manifest\.json", re.ASCII)


class FileEntry(msgspec.Struct, frozen=True):
    """One file: `dtype` and `shape` of an array."""

    sha256: str
    size_bytes: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


class EntityEntry(msgspec.Struct, frozen=True):
    """One entity type; `id` is `int64` or `string`."""

    name: str
    id: str
    count: int


class RelationEntry(msgspec.Struct, frozen=True):
    """One relation; its place in the list is its row in `relations.npy`."""

    name: str
    source: str
    target: str


class InterestsEntry(msgspec.Struct, frozen=True):
    """Types that were clustered together, and the type of users whose mixtures are stored."""

    types: tuple[str, ...]
    user_type: str


class ClustersEntry(msgspec.Struct, frozen=True):
    """The clusters of a space: of which types, and the interests; `mixture_type` are the users of the only ones where
    these are not named."""

    count: int
    types: tuple[str, ...]
    mixture_type: str
    interests: tuple[InterestsEntry, ...] = ()


class CompressionEntry(msgspec.Struct, frozen=True):
    """The codes of a type."""

    subquantizers: int
    rotated: bool


class SpaceEntry(msgspec.Struct, frozen=True):
    """One embedding space."""

    dim: int
    columns: tuple[str, ...]
    entities: tuple[EntityEntry, ...]
    relations: tuple[RelationEntry, ...]
    clusters: ClustersEntry
    default: dict[str, str]
    compression: dict[str, CompressionEntry] = {}


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`."""

    format_version: int
    version: str
    created: datetime
    spaces: dict[str, SpaceEntry]
    files: dict[str, FileEntry]
    lineage: dict[str, Any] = {}


class _Stamp(msgspec.Struct):
    format_version: int


def version_directory(path: Path, version: str | None) -> Path:
    """The directory of `version` in the directory of versions `path`, by default of the published one; `path` itself
    where that is a version. Raises VersionNotFound.
    """
    if (path / MANIFEST).is_file():
        if version not in (None, path.name):
            raise VersionNotFound(f"{path} is version {path.name}, not {version!a:.80}: give the directory above it")
        return path
    name = version or current(path)
    if name is None:
        raise VersionNotFound(f"nothing is published in {path}: name a version, or publish one")
    if not VERSION_NAME.match(name) or not (path / name / MANIFEST).is_file():
        raise VersionNotFound(f"{name!a:.80} is no version in {path}")
    return path / name


def current(bundles: Path) -> str | None:
    """The published version of a directory of versions."""
    try:
        return (bundles / "CURRENT").read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def read_manifest(path: Path) -> Manifest:
    """The manifest of the version at `path`, as it was published if it ever was.

    Raises BundleFormatUnsupported for a newer format, BundleInvalid for what is none, BundleAltered for one that
    is not as it was published.
    """
    content = (path / MANIFEST).read_bytes()
    where = path / MANIFEST
    published = _published_digest(path)
    if published not in (None, hashlib.sha256(content).hexdigest()):
        raise BundleAltered(
            f"{where} is not as it was published ({path.parent / 'SHA256SUMS'}): copy the version again"
        )
    try:
        stamp = msgspec.json.decode(content, type=_Stamp).format_version
        if stamp not in READ_VERSIONS:
            raise BundleFormatUnsupported(
                f"{where} is bundle format {stamp}; this twhin-client reads up to {READ_VERSIONS[-1]}: install another"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleInvalid(f"{where} is no manifest: {error}") from error
    if manifest.version != path.name:
        raise BundleInvalid(f"{where} is of version {manifest.version!a:.80}, and a version's directory has its name")
    if not manifest.spaces:
        raise BundleInvalid(f"{where} has no space")
    return manifest


def _published_digest(path: Path) -> str | None:
    try:
        lines = (path.parent / "SHA256SUMS").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next((match[1] for match in map(_SUM.fullmatch, lines) if match and match[2] == path.name), None)


def verify_file(path: Path, entry: FileEntry) -> None:
    """Raises BundleIncomplete, BundleAltered when the file at `path` is not the one of the manifest."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BundleIncomplete(f"{path} is missing: copy the version again") from None
    if digest != entry.sha256:
        raise BundleAltered(f"{path} is not as it was built: copy the version again")
