"""Versions to a store: files in parallel, the manifest last, and the published one changed by compare-and-swap."""

from threading import Event

from bundle.disk import read_plain
from bundle.errors import BundleInvalid, BundlesBusy
from bundle.layout import MANIFEST
from bundle.manifest_file import parse_manifest
from bundle.progress import SILENT, Progress
from bundle.space import Bundle
from storage.at_once import each_at_once
from storage.layout import CURRENT, HISTORY, Published, line, read_current
from storage.store import Conflict, Content, Store

HISTORY_ATTEMPTS = 20


def push(store: Store, bundle: Bundle, manifest: bytes | None = None, progress: Progress = SILENT) -> int:
    """Copy a checked version to the store, under its name, and give how many files were sent.

    What is there by an earlier push that was cut off is not sent again. `manifest` takes the place of the version's
    own: one whose gates were forced, which is also the only one that may replace a manifest that is there.
    Raises StorageError, and BundleInvalid when another version has the name.
    """
    text = read_plain(bundle.path / MANIFEST) if manifest is None else manifest
    there = store.read(f"{bundle.version}/{MANIFEST}")
    if there is not None:
        _complete(store, bundle, there, text, forced=manifest is not None)
        return 0
    entries = bundle.manifest.files
    sent: list[str] = []
    with progress.stage("sending", sum(entry.size_bytes for entry in entries.values()), "B") as stage:

        def send(name: str, stop: Event) -> None:
            entry, target = entries[name], f"{bundle.version}/{name}"
            if not stop.is_set() and not store.has(target, entry.size_bytes, entry.sha256):
                store.upload(target, bundle.path / name, entry.sha256)
                sent.append(name)
            stage.advance(entry.size_bytes)

        each_at_once(send, entries)
    try:
        store.create(f"{bundle.version}/{MANIFEST}", text)
    except Conflict:
        there = store.read(f"{bundle.version}/{MANIFEST}")
        if there is None or there.data != text:
            raise _another(store, bundle.version) from None
    return len(sent)


def _complete(store: Store, bundle: Bundle, there: Content, text: bytes, *, forced: bool) -> None:
    """See that the version in the store is this one; a forced passage through the gates may change its manifest."""
    if there.data == text:
        return
    if not forced or parse_manifest(there.data, store.url).files != bundle.manifest.files:
        raise _another(store, bundle.version)
    try:
        store.replace(f"{bundle.version}/{MANIFEST}", text, there.tag)
    except Conflict:
        raise BundlesBusy(f"Another process changes {bundle.version} in {store.url}. Try again.") from None


def _another(store: Store, version: str) -> BundleInvalid:
    return BundleInvalid(
        f"{store.url}/{version} is another version of that name, and a version is immutable. Build this one under "
        "another name."
    )


def publish(store: Store, version: str, digest: str, before: Published | None) -> None:
    """Make a version that was pushed, whose manifest has this digest, the published one in the store.

    `before`: what was published when it was compared. Raises BundlesBusy when another was since.
    """
    try:
        if before is None:
            store.create(CURRENT, line(version, digest).encode())
        else:
            store.replace(CURRENT, line(version, digest).encode(), before.tag)
    except Conflict:
        now = read_current(store)
        if now is None or (now.version, now.digest) != (version, digest):  # else the answer to our own was lost
            raise BundlesBusy(
                f"Another process has published {now.version if now else 'meanwhile'} in {store.url}. Compare with "
                "that one and publish again."
            ) from None
    _remember(store, line(version, digest), None if before is None else before.line)


def _remember(store: Store, published: str, before: str | None) -> None:
    """Add a line to HISTORY, and the one before it where a kill kept that from being written down."""
    for _ in range(HISTORY_ATTEMPTS):
        found = store.read(HISTORY)
        lines = [] if found is None else found.data.decode("utf-8", "replace").splitlines(keepends=True)
        if lines[-1:] == [published]:
            return
        if before is not None and lines[-1:] != [before]:
            lines.append(before)
        text = "".join([*lines, published]).encode()
        try:
            store.create(HISTORY, text) if found is None else store.replace(HISTORY, text, found.tag)
            return
        except Conflict:
            continue
    raise BundlesBusy(f"{store.url}/{HISTORY} changes all the time. The version is published; publish it again.")
