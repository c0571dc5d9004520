"""Prepared graphs in a store: claimed, arrays in parallel, `graph.json` last and create-only; fetched by digests."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bundle.disk import beside, full_disk_named, locked, make_durable, read_plain, replacing, write_text
from bundle.errors import BundleError, DiskFull, RunError, RunIncomplete
from bundle.graph_place import RECORDS, placed, require_replaceable
from bundle.graph_record import COMMIT_FILE, GraphRecord, parse_record, read_record
from bundle.growing import array_digest
from bundle.progress import SILENT, Progress, Stage
from bundle.verify import digest_of
from storage.at_once import Stopped, each_at_once
from storage.store import Conflict, Store

# What `graph.json` will be, created by the first who sends: whoever sends another graph would write over the arrays.
CLAIM_FILE = "graph.json.claim"
ANEW = "Prepare it again, with another URL."


def read_stored(store: Store) -> GraphRecord | None:
    """What the `graph.json` in the store says, None where there is none. Raises RunError, StorageError."""
    content = store.read(COMMIT_FILE)
    return None if content is None else parse_record(content.data, f"{store.url}/{COMMIT_FILE}", ANEW)


def send_graph(store: Store, directory: Path, progress: Progress = SILENT) -> int:
    """Copy the prepared graph in `directory` to the store, and give how many files were sent.

    What is there by an earlier attempt that was cut off is not sent again. Raises StorageError, and RunError when
    another graph is there or on its way.
    """
    record, content = read_record(directory), read_plain(directory / COMMIT_FILE)
    there_already = read_stored(store)
    if there_already is not None:
        if there_already.digest != record.digest:
            raise another_graph(store)
        return 0
    _create(store, CLAIM_FILE, content, record, _claimed(store))
    names = [*(record.files or ()), *sorted(RECORDS - {COMMIT_FILE})]
    sizes = {name: (directory / name).stat().st_size for name in names}
    there = {each.name: each.size for each in store.listed()}
    sent: list[str] = []
    with progress.stage("sending the graph", sum(sizes.values()), "B") as stage:

        def send(name: str, stop: Event) -> None:
            if stop.is_set():
                return
            sha256 = digest_of(directory / name)
            if there.get(name) != sizes[name] or not store.has(name, sizes[name], sha256):
                store.upload(name, directory / name, sha256)
                sent.append(name)
            stage.advance(sizes[name])

        each_at_once(send, names)
    _create(store, COMMIT_FILE, content, record, another_graph(store))
    return len(sent)


def _create(store: Store, name: str, content: bytes, record: GraphRecord, other: RunError) -> None:
    """Write a record where there is none, or one of the same graph. Raises `other` where it is of another."""
    try:
        store.create(name, content)
    except Conflict:
        found = store.read(name)
        if found is None or parse_record(found.data, f"{store.url}/{name}", ANEW).digest != record.digest:
            raise other from None


def _claimed(store: Store) -> RunError:
    return RunError(
        f"Another graph is on its way to {store.url}, or was when its sending was cut off: {CLAIM_FILE} is there and "
        f"{COMMIT_FILE} is not. Name another URL, or delete that folder when nobody sends to it."
    )


def another_graph(store: Store) -> RunError:
    """Of a store that has a graph already, which is never replaced."""
    return RunError(
        f"{store.url} holds a graph that was made from other files or by another graph.toml, and a graph in a store is "
        "never replaced. Name another URL."
    )


def fetch_graph(store: Store, out_dir: Path, progress: Progress = SILENT, *, may_replace: bool = True) -> None:
    """Bring the prepared graph of the store into `out_dir`, whole or not at all; nothing when it is there.

    Where something was made from the graph in `out_dir`, `may_replace` must be False. Raises RunIncomplete when the
    store has no graph or lacks a file, RunError for what is damaged and as `graph.prepare.prepare`, StorageError,
    DiskFull.
    """
    content = store.read(COMMIT_FILE)
    if content is None:
        raise RunIncomplete(
            f"{store.url} holds no prepared graph: {COMMIT_FILE} is missing. Make one with "
            f"`twhin prepare GRAPH.toml --out {store.url}`."
        )
    record = parse_record(content.data, f"{store.url}/{COMMIT_FILE}", ANEW)
    if record.files is None:
        raise RunError(f"{store.url} holds a graph of an earlier release, without digests of its files. {ANEW}")
    if _is_there(out_dir, content.data):
        return
    if not may_replace and (out_dir / COMMIT_FILE).exists():
        raise RunError(
            f"{out_dir} is not the graph in {store.url}, and a finished run stands on it. Train in another directory."
        )
    require_replaceable(out_dir)
    busy = RunError(f"Another process makes {out_dir}. Wait for it, or name another directory.")
    full = full_disk_named(beside(out_dir, "partial"), "Free some space and run it again.")
    with locked(beside(out_dir, "lock"), busy, remove=True), full:
        if _is_there(out_dir, content.data):  # another process has just fetched it
            return
        with placed(out_dir) as partial:
            _Fetching(store, partial, record.files).all_files(progress)
            write_text(partial / COMMIT_FILE, content.data.decode())


def _is_there(directory: Path, content: bytes) -> bool:
    """Whether `directory` holds the graph of this `graph.json`."""
    try:
        return read_plain(directory / COMMIT_FILE) == content
    except FileNotFoundError:
        return False


@dataclass(slots=True)
class _Fetching:
    """The arrays of one graph on their way into `directory`."""

    store: Store
    directory: Path
    digests: dict[str, str]

    def all_files(self, progress: Progress) -> None:
        sizes = {each.name: each.size for each in self.store.listed() if each.name in self.digests}
        for name in self.digests:
            if name not in sizes:
                raise RunIncomplete(f"{self.store.url}/{name} is missing. {ANEW}")
            (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        need, free = sum(sizes.values()), shutil.disk_usage(self.directory).free
        if need > free:
            raise DiskFull(
                f"{self.directory.parent} has room for {free:,} bytes, the graph in {self.store.url} needs {need:,}. "
                "Make room and run it again."
            )
        with progress.stage("fetching the graph", need, "B") as stage:
            each_at_once(lambda name, stop: self._fetch(name, sizes[name], stage, stop), self.digests)
        for parent in {(self.directory / name).parent for name in self.digests}:
            make_durable(parent)

    def _fetch(self, name: str, size: int, stage: Stage, stop: Event) -> None:
        path, where = self.directory / name, f"{self.store.url}/{name}"
        try:
            with replacing(path) as file:
                for part in self.store.parts(name, size):
                    if stop.is_set():
                        raise Stopped
                    file.write(part)
                    stage.advance(len(part))
            found = array_digest(path)
        except FileNotFoundError:
            raise RunIncomplete(f"{where} is missing. {ANEW}") from None
        except BundleError:  # no array, or a part of one
            found = ""
        if found != self.digests[name]:
            raise RunError(f"{where} differs from its digest in {COMMIT_FILE}. {ANEW}")
