"""The directory of versions: which there are, which one is current, how that changes.

BUNDLES/<version>/     immutable
BUNDLES/CURRENT        one line: the published version; replaced atomically
BUNDLES/HISTORY        the published versions in order, oldest first, one a line: what `rollback` walks back
BUNDLES/TIMELINE       when CURRENT became what: see `bundle.timeline`
BUNDLES/SHA256SUMS     the digest that each manifest had when it was published, as `sha256sum -c` reads it
BUNDLES/LOCK           held by whoever publishes or prunes
BUNDLES/.building-…    a version in the making; .lock-… beside it is held by its builder
BUNDLES/.removing-…    a version on its way out
BUNDLES/.pulling-…     a version on its way in from an object store; .pulling.lock beside it is held by the puller
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from bundle.disk import NotPlain, full_disk_named, lock_file, locked, make_durable, open_plain, write_text
from bundle.errors import BundleAltered, BundleError, BundleInvalid, BundleNotFound, BundlesBusy, GateRefused
from bundle.layout import MANIFEST
from bundle.manifest import VERSION_NAME, Gate, Manifest
from bundle.reader import open_bundle, read_manifest
from bundle.space import Bundle
from bundle.timeline import Publication, read_timeline, write_down
from bundle.verify import digest_of, refusing, verify_bundle
from bundle.writer import STAGING_LOCK_PREFIX, STAGING_PREFIX, lock_staging, unlock_staging

CURRENT = "CURRENT"
HISTORY = "HISTORY"
LOCK = "LOCK"
SUMS = "SHA256SUMS"
_SUM = re.compile(rf"(?P<digest>[0-9a-f]{{64}})  (?P<version>[^/]+)/{re.escape(MANIFEST)}", re.ASCII)
# Of what CURRENT names: no file has a longer name, and it is told of a version that is not there.
NAME_SHOWN = 256
REMOVING_PREFIX = ".removing-"
PULLING_PREFIX, PULL_LOCK = ".pulling-", ".pulling.lock"
# Between the clocks of two machines that build and look at versions.
CLOCKS_DIFFER = timedelta(minutes=5)
# Of a manifest: device, inode, size, times of change.
Identity = tuple[int, int, int, int, int]
Judge = Callable[[Manifest, Manifest | None], list[Gate]]


def version_path(bundles: Path, version: str) -> Path:
    """The directory of `version`. Raises BundleNotFound for a name that is no version's, `..` included."""
    path = bundles / version
    if not VERSION_NAME.match(version) or not (path / MANIFEST).is_file():
        known = ", ".join(list_versions(bundles)[-5:]) or "none yet; `twhin build` makes one"
        raise BundleNotFound(f"{version!a:.80} is no version in {bundles}. Versions there: {known}.")
    return path


def require_directory(bundles: Path) -> None:
    """Raise BundleNotFound where there is no directory of versions, whose name may be misspelt."""
    if not bundles.is_dir():
        raise BundleNotFound(f"{bundles} is no directory. Name one with versions: `twhin build` makes them.")


def list_versions(bundles: Path) -> list[str]:
    """The finished versions, oldest first by the creation time in their manifests, then by name."""
    if not bundles.is_dir():
        return []
    names = [path.name for path in bundles.iterdir() if VERSION_NAME.match(path.name)]
    finished = [name for name in names if _is_finished(bundles / name)]
    return sorted(finished, key=lambda name: (_created(bundles / name), name))


def latest_version(bundles: Path) -> str | None:
    """The newest finished version, None where there is none.

    Raises BundleInvalid where one of several is dated as to come: whether it is the newest its date does not tell.
    """
    versions = list_versions(bundles)
    if len(versions) > 1 and is_to_come(bundles, versions[-1]):
        raise BundleInvalid(
            f"{versions[-1]} in {bundles} is dated {_created(bundles / versions[-1]):%Y-%m-%d %H:%M} UTC, which is to "
            "come: a clock is wrong, or was when it was built, so that dates do not tell which version is the latest. "
            "Name the one that you mean, and remove the directory of that one if nobody needs it."
        )
    return versions[-1] if versions else None


def is_to_come(bundles: Path, version: str) -> bool:
    """Whether the date of a version is to come, further than clocks of several machines differ."""
    return _created(bundles / version) > datetime.now(UTC) + CLOCKS_DIFFER


def _is_finished(path: Path) -> bool:
    """Whether there is a manifest. A directory that cannot be looked into counts as a version, to be told of."""
    try:
        return (path / MANIFEST).is_file()
    except OSError:
        return True


def _created(path: Path) -> datetime:
    """When the version at `path` was made; a version whose manifest cannot be read counts as the oldest."""
    return _created_of(path, identity_of(path))


def identity_of(path: Path) -> Identity | None:
    """What is another one when the manifest of the version at `path` was written again; None without one."""
    try:
        about = (path / MANIFEST).lstat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


@lru_cache(maxsize=1024)
def _created_of(path: Path, _: Identity | None) -> datetime:
    """Reading a manifest of a hundred kilobytes takes milliseconds, and whoever lists versions needs all of them."""
    try:
        created: datetime = read_manifest(path).created
        return created
    except BundleError:
        return datetime.min.replace(tzinfo=UTC)


def current_version(bundles: Path) -> str | None:
    """The published version, None before the first publication, or where CURRENT is lost."""
    version = published(bundles)
    return None if version is None else version[0]


def published(bundles: Path) -> tuple[str, int] | None:
    """The published version and a number that is another one when CURRENT was written again, be it with that name."""
    text, written = _read_with_time(bundles / CURRENT)
    version = text.strip()[:NAME_SHOWN]
    return (version, written) if version else None


def current_path(bundles: Path) -> Path:
    """The directory of the published version. Raises BundleNotFound with what to do."""
    version = current_version(bundles)
    if version is None:
        raise BundleNotFound(
            f"Nothing is published in {bundles}. Build a version with `twhin build` and publish it with "
            "`twhin publish`."
        )
    return version_path(bundles, version)


def open_version(bundles: Path, version: str) -> Bundle:
    """Open `version` as it was published, if it ever was: the manifest has every other file's digest, not its own.

    Raises BundleAltered when its manifest is another than the published one, BundleInvalid when that has another name,
    BundleNotFound and others of opening.
    """
    path = version_path(bundles, version)
    published = _read_sums(bundles).get(version)
    with refusing(path):
        if published is not None and digest_of(path / MANIFEST) != published:
            raise BundleAltered(
                f"{path / MANIFEST} is not as it was published ({bundles / SUMS}). Copy the version again, or publish "
                "it again if the change is meant."
            )
    return _open_named(path)


def _open_named(path: Path) -> Bundle:
    bundle = open_bundle(path)
    if bundle.version != path.name:
        raise BundleInvalid(
            f"{path / MANIFEST} is of version {bundle.version!a:.80}, and a version's directory has its name. "
            "Rename the directory, or copy the version again."
        )
    return bundle


def publish(
    bundles: Path, version: str, force_reason: str | None = None, judge: Judge = lambda new, active: []
) -> Manifest:
    """Check `version` byte by byte and make it the current one. Returns its manifest.

    `judge` gives further gates, from a comparison with the active version. Raises BundleError naming the
    file that is wrong, GateRefused when a measurement is below its floor and no `force_reason` is given,
    BundlesBusy when another process publishes.
    """
    with _changing(bundles):
        bundle = _open_named(version_path(bundles, version))
        verify_bundle(bundle)
        gates = [*bundle.manifest.evaluation.gates, *judge(bundle.manifest, _active(bundles, version))]
        manifest = _through_the_gates(bundle, gates, force_reason)
        sums = _read_sums(bundles)
        if sums.get(version) != (digest := digest_of(bundle.path / MANIFEST)):
            _write_sums(bundles, sums | {version: digest})
        _make_current(bundles, version)
        return manifest


def adopt(bundles: Path, version: str, manifest_digest: str, manifest: str | None = None) -> bool:
    """Make a version that was published elsewhere, with this digest of its manifest, the current one here.

    `manifest` takes the place of the one that is here: the same files, forced through the gates since. False when it is
    the current one already. Raises BundleError when it cannot be opened, BundlesBusy when another process publishes.
    """
    with _changing(bundles):
        sums = _read_sums(bundles)
        if current_version(bundles) == version and sums.get(version) == manifest_digest:
            return False
        if manifest is not None:
            _replace_manifest(version_path(bundles, version), manifest)
            sums.pop(version, None)
        _open_named(version_path(bundles, version))
        if sums.get(version) != manifest_digest:
            _write_sums(bundles, sums | {version: manifest_digest})
        _make_current(bundles, version)
        return True


def _replace_manifest(path: Path, text: str) -> None:
    bundles = path.parent
    # The old manifest's digest goes first, so that a kill before the new one is written down leaves nothing altered.
    _write_sums(bundles, {name: sum_ for name, sum_ in _read_sums(bundles).items() if name != path.name})
    # By way of the directory of versions: what a kill left inside the version would be one file too many.
    write_text(path / MANIFEST, text, bundles / f"{MANIFEST}.partial")


def _make_current(bundles: Path, version: str) -> None:
    # CURRENT alone decides. HISTORY comes after it, so that it never has a version that was not current.
    history = _history(bundles)
    _write_down_current(bundles)
    _write_lines(bundles / CURRENT, [version])
    _write_lines(bundles / HISTORY, history if history[-1:] == [version] else [*history, version])
    _write_down_current(bundles)


def timeline(bundles: Path) -> list[Publication]:
    """Which version was published when, oldest first, with the current one also where a kill kept it from being written
    down. What was published before there was such a record is not in it.
    """
    written, current = read_timeline(bundles), published(bundles)
    if current is None or (written and written[-1].version == current[0]):
        return written
    at = min(current[1] // 1000 / 1e6, time.time())  # to the microsecond, as it is written
    return [*written, Publication(at, current[0])]


def _write_down_current(bundles: Path) -> None:
    """Bring TIMELINE up to CURRENT: before a change, as a kill may have come between the two, and after it."""
    written, now = read_timeline(bundles), timeline(bundles)
    for publication in now[len(written) :]:
        write_down(bundles, publication)


def was_published(bundles: Path, version: str) -> bool:
    """Whether the version has ever been current here."""
    return version in _read_sums(bundles) or version in _history(bundles)


def version_before_current(bundles: Path) -> str:
    """The version that was current before this one, to which a rollback goes. Raises BundleNotFound."""
    history = _history_before_current(bundles)
    if not history:
        raise BundleNotFound(f"No version was published before {current_version(bundles) or 'this'} in {bundles}.")
    return history[-1]


def rollback(bundles: Path, expected: str | None = None) -> str:
    """Publish the version that was current before this one and return its name.

    Raises BundleNotFound when there is none, BundleError when it is damaged, BundlesBusy when another process publishes
    or has published since the caller saw that the way back leads to `expected`.
    """
    with _changing(bundles):
        version = version_before_current(bundles)
        if expected not in (None, version):
            raise BundlesBusy(f"{bundles} changed meanwhile: a rollback leads to {version} now. Try again.")
        history = _history_before_current(bundles)
        previous = open_version(bundles, version)
        verify_bundle(previous)
        # Here HISTORY comes first: whoever is killed between the two finds the current version added to it again.
        _write_down_current(bundles)
        _write_lines(bundles / HISTORY, history)
        _write_lines(bundles / CURRENT, [previous.version])
        _write_down_current(bundles)
        return previous.version


def prune(bundles: Path, keep: int = 3, in_use: Collection[str] = ()) -> list[str]:
    """Remove all but the newest `keep` versions and the leftovers of dead builders. Returns the names removed.

    The current version and the one a rollback would go to are always kept, as are those `in_use`. Versions whose date
    is to come stay, and are none of the newest: a clock was wrong, and what was built since is newer.
    """
    with _changing(bundles):
        to_come = {name for name in list_versions(bundles) if is_to_come(bundles, name)}
        versions = [name for name in list_versions(bundles) if name not in to_come]
        kept = {*in_use, *to_come, current_version(bundles), *_history_before_current(bundles)[-1:]}
        kept.update(versions[-keep:] if keep else [])
        doomed = [name for name in versions if name not in kept and os.access(bundles / name, os.X_OK)]
        leftovers = _remove_leftovers(bundles)
        for name in doomed:
            # Renamed first: a kill in the middle leaves no half version listed.
            (bundles / name).rename(bundles / f"{REMOVING_PREFIX}{name}")
        make_durable(bundles)
        if doomed:
            _write_sums(bundles, {name: sum_ for name, sum_ in _read_sums(bundles).items() if name not in doomed})
        _remove_leftovers(bundles)
        return doomed + leftovers


def _remove_leftovers(bundles: Path) -> list[str]:
    """Remove what was on its way out, and what builders were at work on when they died."""
    leaving = list(bundles.glob(f"{REMOVING_PREFIX}*"))
    for path in leaving:
        shutil.rmtree(path)
    built = [path.name for path in _staged(bundles) if _remove_staged(path)]
    return [*(path.name for path in leaving), *built, *_remove_pulled(bundles)]


def _remove_pulled(bundles: Path) -> list[str]:
    """Remove what a puller was bringing when it died, unless one lives."""
    pulled = list(bundles.glob(f"{PULLING_PREFIX}*"))
    lock = lock_file(bundles / PULL_LOCK) if pulled else None
    if lock is None:
        return []
    with lock:
        for path in pulled:
            shutil.rmtree(path)
    return [path.name for path in pulled]


def _staged(bundles: Path) -> list[Path]:
    """The staging directories, also those of which a kill left the lock alone."""
    locks = bundles.glob(f"{STAGING_LOCK_PREFIX}*")
    named = {path.with_name(STAGING_PREFIX + path.name.removeprefix(STAGING_LOCK_PREFIX)) for path in locks}
    return sorted(named.union(bundles.glob(f"{STAGING_PREFIX}*")))


def _remove_staged(root: Path) -> bool:
    """Remove a staging directory and its lock, unless its builder lives. True when there was a directory to remove."""
    lock = lock_staging(root)
    if lock is None:
        return False
    existed = root.exists()
    shutil.rmtree(root, ignore_errors=True)
    unlock_staging(root, lock)
    return existed


def _active(bundles: Path, version: str) -> Manifest | None:
    """The manifest of the current version, None when there is none, it is gone, or it is `version` itself."""
    current = current_version(bundles)
    if current is None or current == version or current not in list_versions(bundles):
        return None
    return read_manifest(bundles / current)


def _through_the_gates(bundle: Bundle, gates: list[Gate], force_reason: str | None) -> Manifest:
    """Let the version pass or refuse it; a forced passage is written into the manifest."""
    manifest = through_the_gates(bundle.manifest, gates, force_reason)
    if manifest is not bundle.manifest:
        _replace_manifest(bundle.path, manifest.model_dump_json(indent=1))
    return manifest


def through_the_gates(manifest: Manifest, gates: list[Gate], force_reason: str | None) -> Manifest:
    """The manifest itself when all gates let it pass, one with the reason when it is forced through them.

    Raises GateRefused.
    """
    failed = [gate for gate in gates if not gate.passed and gate.forced is None]
    if not failed:
        return manifest
    if force_reason is None:
        worst = failed[0]
        raise GateRefused(
            f"Version {manifest.version} is not fit to publish: {worst.metric} is {worst.measured:.4f}, the floor is "
            f"{worst.floor:.4f}. Train or build it again, or publish it with --force and a reason."
        )
    passed_or_forced = tuple(
        gate.model_copy(update={"forced": force_reason}) if gate in failed else gate
        for gate in gates
        if gate in failed or gate in manifest.evaluation.gates
    )
    evaluation = manifest.evaluation.model_copy(update={"gates": passed_or_forced})
    return manifest.model_copy(update={"evaluation": evaluation})


def _history(bundles: Path) -> list[str]:
    """What was published, in order, the current version last also when a kill kept it from being written down."""
    current = current_version(bundles)
    history = _read_text(bundles / HISTORY).split()
    return history if current is None or history[-1:] == [current] else [*history, current]


def earlier_versions(bundles: Path) -> list[str]:
    """What was published before the current version and is still there, the latest first."""
    names = dict.fromkeys(reversed(_history(bundles)))
    return [name for name in names if name != current_version(bundles) and (bundles / name / MANIFEST).is_file()]


def _history_before_current(bundles: Path) -> list[str]:
    """The history up to the version that a rollback goes to; empty when there is none."""
    current, history = current_version(bundles), _history(bundles)
    while history and (history[-1] == current or not (bundles / history[-1] / MANIFEST).is_file()):
        history.pop()
    return history


def _read_sums(bundles: Path) -> dict[str, str]:
    """The digests of the manifests as they were published, by version; a line that is none is passed over."""
    lines = map(_SUM.fullmatch, _read_text(bundles / SUMS).splitlines())
    return {match["version"]: match["digest"] for match in lines if match}


def _write_sums(bundles: Path, sums: Mapping[str, str]) -> None:
    _write_lines(bundles / SUMS, [f"{digest}  {version}/{MANIFEST}" for version, digest in sums.items()])


def _read_text(path: Path) -> str:
    """The content of the file at `path`; nothing where there is none, or no plain one."""
    return _read_with_time(path)[0]


def _read_with_time(path: Path) -> tuple[str, int]:
    """The same, and when it was written, in nanoseconds: of one file, as another may take its place at any moment."""
    try:
        with open_plain(path) as file:
            about = os.fstat(file.fileno())
            return file.read(about.st_size).decode("ascii", errors="backslashreplace"), about.st_mtime_ns
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotPlain) or error.errno in (errno.ELOOP, errno.ENOTDIR):
            return "", 0
        raise


def _write_lines(path: Path, lines: list[str]) -> None:
    write_text(path, "\n".join(lines) + "\n")


@contextmanager
def _changing(bundles: Path) -> Iterator[None]:
    """Hold the lock of the directory of versions. Raises BundlesBusy, and DiskFull for what finds no room meanwhile."""
    require_directory(bundles)
    busy = BundlesBusy(f"Another process is publishing or pruning in {bundles}. Try again.")
    advice = "The current version stays: make room and run it again."
    with full_disk_named(bundles, advice), locked(bundles / LOCK, busy):
        yield
