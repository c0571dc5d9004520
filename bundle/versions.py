"""The directory of versions: which there are, which one is current, how that changes.

BUNDLES/<version>/     immutable
BUNDLES/CURRENT        one line: the published version; replaced atomically
BUNDLES/HISTORY        the published versions in order, oldest first, one a line: what `rollback` walks back
BUNDLES/LOCK           held by whoever publishes or prunes
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bundle.arrays import write_text
from bundle.errors import BundleError, BundleNotFound, BundlesBusy, GateRefused
from bundle.layout import MANIFEST
from bundle.manifest import VERSION_NAME, Gate, Manifest
from bundle.reader import open_bundle, read_manifest
from bundle.verify import check_digests, check_finite
from bundle.writer import STAGING_PREFIX

CURRENT = "CURRENT"
HISTORY = "HISTORY"
LOCK = "LOCK"
Judge = Callable[[Manifest, Manifest | None], list[Gate]]


def version_path(bundles: Path, version: str) -> Path:
    """The directory of `version`. Raises BundleNotFound for a name that is no version's, `..` included."""
    path = bundles / version
    if not VERSION_NAME.match(version) or not (path / MANIFEST).is_file():
        known = ", ".join(list_versions(bundles)[-5:]) or "none yet; `twhin build` makes one"
        raise BundleNotFound(f"{version!a:.80} is no version in {bundles}. Versions there: {known}.")
    return path


def list_versions(bundles: Path) -> list[str]:
    """The finished versions, oldest first by the creation time in their manifests, then by name."""
    if not bundles.is_dir():
        return []
    names = [path.name for path in bundles.iterdir() if VERSION_NAME.match(path.name)]
    finished = [name for name in names if (bundles / name / MANIFEST).is_file()]
    return sorted(finished, key=lambda name: (_created(bundles / name), name))


def _created(path: Path) -> datetime:
    """When the version at `path` was made; a version whose manifest cannot be read counts as the oldest."""
    try:
        created: datetime = read_manifest(path).created
        return created
    except BundleError:
        return datetime.min.replace(tzinfo=UTC)


def current_version(bundles: Path) -> str | None:
    """The published version, None before the first publication."""
    try:
        return (bundles / CURRENT).read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def current_path(bundles: Path) -> Path:
    """The directory of the published version. Raises BundleNotFound with what to do."""
    version = current_version(bundles)
    if version is None:
        raise BundleNotFound(
            f"Nothing is published in {bundles}. Build a version with `twhin build` and publish it with "
            "`twhin publish`."
        )
    return version_path(bundles, version)


def publish(
    bundles: Path, version: str, force_reason: str | None = None, judge: Judge = lambda new, active: []
) -> Manifest:
    """Check `version` byte by byte and make it the current one. Returns its manifest.

    `judge` gives further gates, from a comparison with the active version. Raises BundleError naming the
    file that is wrong, GateRefused when a measurement is below its floor and no `force_reason` is given,
    BundlesBusy when another process publishes.
    """
    with locked(bundles):
        path = version_path(bundles, version)
        bundle = open_bundle(path)
        check_digests(path, bundle.manifest)
        check_finite(path, bundle.manifest)
        gates = [*bundle.manifest.evaluation.gates, *judge(bundle.manifest, _active(bundles, version))]
        manifest = _through_the_gates(path, bundle.manifest, gates, force_reason)
        _make_current(bundles, version, [*_history(bundles), version])
        return manifest


def rollback(bundles: Path) -> str:
    """Publish the version that was current before this one and return its name. Raises BundleNotFound."""
    with locked(bundles):
        current = current_version(bundles)
        history = _history(bundles)
        while history and (history[-1] == current or not (bundles / history[-1] / MANIFEST).is_file()):
            history.pop()
        if not history:
            raise BundleNotFound(f"No version was published before {current or 'this'} in {bundles}.")
        previous = history[-1]
        path = version_path(bundles, previous)
        check_digests(path, open_bundle(path).manifest)
        _make_current(bundles, previous, history)
        return previous


def prune(bundles: Path, keep: int = 3) -> list[str]:
    """Remove all but the newest `keep` versions and the leftovers of dead builders. Returns the names removed.

    The current version and the one a rollback would go to are always kept.
    """
    with locked(bundles):
        versions = list_versions(bundles)
        kept = set(versions[-keep:] if keep else []) | set(_history(bundles)[-2:])
        kept.add(current_version(bundles) or "")
        doomed = [name for name in versions if name not in kept]
        for name in doomed:
            # Without its manifest a version is none: a kill in the middle leaves no half version listed.
            (bundles / name / MANIFEST).unlink()
            shutil.rmtree(bundles / name)
        return doomed + _remove_leftovers(bundles)


def _remove_leftovers(bundles: Path) -> list[str]:
    removed = []
    for path in bundles.iterdir():
        staging = path.name.startswith(STAGING_PREFIX)
        beheaded = path.is_dir() and bool(VERSION_NAME.match(path.name)) and not (path / MANIFEST).exists()
        if (staging and not _alive(path.name)) or beheaded:
            shutil.rmtree(path)
            removed.append(path.name)
    return removed


def _alive(staging_name: str) -> bool:
    pid = staging_name.rpartition(".")[2]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _active(bundles: Path, version: str) -> Manifest | None:
    """The manifest of the current version, None when there is none, it is gone, or it is `version` itself."""
    current = current_version(bundles)
    if current is None or current == version or current not in list_versions(bundles):
        return None
    return read_manifest(bundles / current)


def _through_the_gates(path: Path, manifest: Manifest, gates: list[Gate], force_reason: str | None) -> Manifest:
    """Let the version pass or refuse it; a forced passage is written into the manifest."""
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
    forced = manifest.model_copy(update={"evaluation": evaluation})
    write_text(path / MANIFEST, forced.model_dump_json(indent=1))
    return forced


def _history(bundles: Path) -> list[str]:
    try:
        return (bundles / HISTORY).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def _make_current(bundles: Path, version: str, history: list[str]) -> None:
    # CURRENT alone decides; a crash between the two leaves a history whose end is not current, which
    # `rollback` reads correctly.
    write_text(bundles / HISTORY, "\n".join(history) + "\n")
    write_text(bundles / CURRENT, version + "\n")


@contextmanager
def locked(bundles: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system frees if this process dies. Raises BundlesBusy."""
    bundles.mkdir(parents=True, exist_ok=True)
    with (bundles / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundlesBusy(f"Another process is publishing or pruning in {bundles}. Try again.") from None
        yield
