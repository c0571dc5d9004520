"""The published version from a store into a directory of versions: only whole and checked versions appear there.

It comes by way of `.pulling-<version>/`, which is kept when the connection is lost or the puller dies.
"""

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from bundle.disk import full_disk_named, locked, make_durable, replacing, write_text
from bundle.errors import (
    BundleAltered,
    BundleError,
    BundleInvalid,
    BundleNotFound,
    BundlesBusy,
    ConfigError,
    DiskFull,
    StorageError,
    TwhinError,
)
from bundle.layout import MANIFEST
from bundle.manifest import FileEntry, Manifest
from bundle.progress import SILENT, Progress, Stage
from bundle.reader import open_bundle
from bundle.reader import read_manifest as read_local_manifest
from bundle.verify import digest_of
from bundle.versions import PULL_LOCK, PULLING_PREFIX, adopt, current_version, list_versions, prune
from storage.at_once import Stopped, each_at_once
from storage.layout import Published, read_current, read_manifest
from storage.store import Conflict, Store

LONGEST_WAIT_SECONDS = 300.0


# The versions that are in use besides: asked whenever some are to be removed, it may raise ConfigError.
InUse = Callable[[], Collection[str]]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought: how many of the version's files were fetched, and the bytes; the others were there."""

    version: str
    changed: bool
    files: int
    fetched_files: int
    fetched_bytes: int


@contextmanager
def only_puller(bundles: Path) -> Iterator[None]:
    """Hold the lock of the directory's puller. Raises BundlesBusy."""
    busy = BundlesBusy(f"Another process pulls versions into {bundles}. One is enough: stop it, or leave it to it.")
    with locked(bundles / PULL_LOCK, busy, remove=True):
        yield


def pull(store: Store, bundles: Path, keep: int, progress: Progress = SILENT, in_use: InUse = frozenset[str]) -> Pulled:
    """Bring the published version of the store into `bundles`, make it the current one there, and prune to `keep`.

    Raises BundleNotFound when nothing is published, StorageError, DiskFull, BundleError for what is damaged: the
    current version stays then. To be called by the `only_puller`.
    """
    published = read_current(store)
    if published is None:
        raise BundleNotFound(f"Nothing is published in {store.url}. Publish a version with `twhin publish --to`.")
    return bring(store, bundles, published, keep, progress, in_use)


def bring(
    store: Store, bundles: Path, published: Published, keep: int, progress: Progress, in_use: InUse = frozenset[str]
) -> Pulled:
    """Make what is published in the store the current version of `bundles`. Raises as `pull`."""
    final = bundles / published.version
    counts, forced = (0, 0, 0), None
    with full_disk_named(bundles, "The current version stays: make room and run it again."):
        if not final.exists():
            counts = _fetch(store, bundles, published, progress)
        elif digest_of(final / MANIFEST) != published.digest:
            forced = _forced_manifest(store, final, published)
        changed = adopt(bundles, published.version, published.digest, forced)
        if changed:
            with suppress(ConfigError):  # it cannot be told which are in use: none is removed this time
                prune(bundles, keep, in_use())
    return Pulled(published.version, changed, *counts)


def _forced_manifest(store: Store, final: Path, published: Published) -> str:
    """The manifest of a version that is there and was forced through the gates since, which changes that file alone."""
    manifest, text = read_manifest(store, published.version)
    _check_manifest(store, published, text)
    if read_local_manifest(final).files != manifest.files:
        raise BundleInvalid(
            f"{final} is another version than the one of that name in {store.url}. Remove it, and pull again."
        )
    return text.decode()


def _check_manifest(store: Store, published: Published, text: bytes) -> None:
    if hashlib.sha256(text).hexdigest() != published.digest:
        raise BundleAltered(
            f"{store.url}/{published.version}/{MANIFEST} is not as it was published. Push and publish it again."
        )


def _fetch(store: Store, bundles: Path, published: Published, progress: Progress) -> tuple[int, int, int]:
    """Bring the version's files by way of a directory of their own. Gives how many there are, how many were fetched and
    their bytes."""
    manifest, text = read_manifest(store, published.version)
    _check_manifest(store, published, text)
    if manifest.version != published.version:
        raise BundleInvalid(f"{store.url}/{published.version} holds a version of another name. Publish it again.")
    staging = bundles / f"{PULLING_PREFIX}{published.version}"
    for leftover in bundles.glob(f"{PULLING_PREFIX}*"):
        if leftover != staging:
            shutil.rmtree(leftover)
    (staging / MANIFEST).unlink(missing_ok=True)
    fetching = _Fetching(store, published.version, staging, manifest, _files_by_digest(bundles))
    try:
        fetching.all_files(progress)
        write_text(staging / MANIFEST, text.decode())
        for directory, _, _ in os.walk(staging, topdown=False):
            make_durable(Path(directory))
        open_bundle(staging)
    except StorageError:
        raise  # what is there is kept for the next attempt
    except (DiskFull, BundleError, OSError):
        shutil.rmtree(staging, ignore_errors=True)
        raise
    staging.rename(bundles / published.version)
    make_durable(bundles)
    return len(manifest.files), len(fetching.fetched), sum(fetching.fetched)


def _files_by_digest(bundles: Path) -> dict[str, Path]:
    """The files of all versions that are there."""
    found: dict[str, Path] = {}
    for version in list_versions(bundles):
        with suppress(BundleError):
            files = read_local_manifest(bundles / version).files
            found |= {entry.sha256: bundles / version / name for name, entry in files.items()}
    return found


@dataclass(slots=True)
class _Fetching:
    """The files of one version on their way into `staging`."""

    store: Store
    version: str
    staging: Path
    manifest: Manifest
    local: Mapping[str, Path]
    fetched: list[int] = field(default_factory=list)

    def all_files(self, progress: Progress) -> None:
        """Have every file there: kept from an earlier attempt, linked from another version, or fetched."""
        entries = self.manifest.files
        self.staging.mkdir(parents=True, exist_ok=True)
        with progress.stage("pulling", sum(entry.size_bytes for entry in entries.values()), "B") as stage:
            missing = [name for name, entry in entries.items() if not self._there(name, entry, stage)]
            need, free = sum(entries[name].size_bytes for name in missing), shutil.disk_usage(self.staging).free
            if need > free:
                raise DiskFull(
                    f"{self.staging.parent} has room for {free:,} bytes, {self.version} needs {need:,} more. Make room "
                    "and run it again."
                )
            each_at_once(lambda name, stop: self._fetch(name, entries[name], stage, stop), missing)

    def _there(self, name: str, entry: FileEntry, stage: Stage) -> bool:
        """Whether the file is there, or could be linked; either is read to see that it is what it should be."""
        target = self.staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() and entry.sha256 in self.local:
            with suppress(OSError):  # another file system, or too many links
                target.hardlink_to(self.local[entry.sha256])
        if not target.exists():
            return False
        if digest_of(target) == entry.sha256:
            stage.advance(entry.size_bytes)
            return True
        target.unlink()
        return False

    def _fetch(self, name: str, entry: FileEntry, stage: Stage, stop: Event) -> None:
        digest, size, where = hashlib.sha256(), 0, f"{self.store.url}/{self.version}/{name}"
        try:
            with replacing(self.staging / name) as file:
                for part in self.store.parts(f"{self.version}/{name}", entry.size_bytes):
                    if stop.is_set():
                        raise Stopped
                    digest.update(part)
                    file.write(part)
                    size += len(part)
                    stage.advance(len(part))
                if size != entry.size_bytes or digest.hexdigest() != entry.sha256:
                    raise BundleAltered(f"{where} differs from its digest in the manifest. Push the version again.")
        except FileNotFoundError:
            raise BundleNotFound(f"{where} is missing. Push the version again.") from None
        self.fetched.append(size)


def follow(
    store: Store,
    bundles: Path,
    keep: int,
    every_seconds: float,
    told: Callable[[str], None],
    stop: Event,
    progress: Progress = SILENT,
    in_use: InUse = frozenset[str],
) -> None:
    """Pull whatever is published, until `stop` is set: look about every so many seconds, less often while that fails.

    `told` gets a line for every version, and for every trouble when it begins, changes and ends. What fails is tried
    again and leaves the current version. To be called by the `only_puller`.
    """
    seen, trouble, failures = None, None, 0
    while not stop.is_set():
        try:
            found = read_current(store, seen)
            if found is None:
                raise BundleNotFound(f"Nothing is published in {store.url} yet.")
            pulled = bring(store, bundles, found, keep, progress, in_use)
            seen = found.tag
            if pulled.changed:
                fetched = f"{pulled.fetched_files} of {pulled.files} files fetched, {pulled.fetched_bytes:,} bytes"
                told(f"{pulled.version} is current in {bundles}: {fetched}")
        except Conflict:  # nothing new
            pass
        except (TwhinError, OSError) as error:
            failures += 1
            words = str(error) if isinstance(error, TwhinError) else f"{bundles}: {error.strerror}"
            if words != trouble:
                told(f"{words} ({current_version(bundles) or 'No version'} stays current; it is tried again.)")
            trouble = words
            stop.wait(min(LONGEST_WAIT_SECONDS, every_seconds * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))
            continue
        if trouble is not None:
            told(f"{store.url} is well again")
        trouble, failures = None, 0
        stop.wait(every_seconds * random.uniform(0.5, 1.5))
