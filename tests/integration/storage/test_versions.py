"""Versions go to a real S3 server and come back, whole or not at all, whatever happens on the way."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import obstore
import pytest

from bundle.disk import read_plain
from bundle.errors import (
    BundleAltered,
    BundleInvalid,
    BundleNotFound,
    BundlesBusy,
    ConfigError,
    DiskFull,
    StorageError,
    UsageError,
)
from bundle.layout import MANIFEST
from bundle.reader import open_bundle, read_manifest
from bundle.verify import digest_of, verify_bundle
from bundle.versions import (
    PULLING_PREFIX,
    current_version,
    list_versions,
    open_version,
    prune,
    rollback,
    version_before_current,
)
from storage.layout import HISTORY, line, read_current
from storage.pull import follow, only_puller, pull
from storage.push import publish, push
from storage.store import Store, open_store
from tests.integration.storage.conftest import URL
from tests.support.fault_proxy import FaultProxy
from tests.support.full_disk import files_end_at
from tests.support.object_store import S3Server
from tests.support.signing import rewrite_manifest


def send(store: Store, built: Path, version: str) -> None:
    """Push a version and publish it."""
    push(store, open_bundle(built / version))
    publish(store, version, digest_of(built / version / MANIFEST), read_current(store))


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_what_is_pushed_and_published_is_pulled_byte_for_byte_and_current(
    store: Store, built: Path, tmp_path: Path
) -> None:
    send(store, built, "one")
    pulled = pull(store, tmp_path / "far", keep=2)
    assert contents(tmp_path / "far" / "one") == contents(built / "one")
    assert current_version(tmp_path / "far") == "one"
    verify_bundle(open_version(tmp_path / "far", "one"))
    assert (pulled.changed, pulled.fetched_files) == (True, len(read_manifest(built / "one").files))
    again = pull(store, tmp_path / "far", keep=2)
    assert (again.changed, again.fetched_files) == (False, 0)


def test_a_version_is_sent_once_and_a_push_that_was_cut_off_goes_on(store: Store, built: Path) -> None:
    bundle = open_bundle(built / "one")
    names = sorted(bundle.manifest.files)
    for name in names[:5]:
        store.upload(f"one/{name}", bundle.path / name, bundle.manifest.files[name].sha256)
    assert push(store, bundle) == len(names) - 5
    assert push(store, bundle) == 0


def test_a_version_is_there_when_all_of_it_is(store: Store, built: Path, raw: Any) -> None:
    seen: list[bool] = []

    class Watching(Store):
        def upload(self, name: str, path: Path, sha256: str) -> None:
            Store.upload(self, name, path, sha256)
            seen.append(self.read(f"one/{MANIFEST}") is None)

    push(Watching(store.url, store._store), open_bundle(built / "one"))
    assert len(seen) == len(read_manifest(built / "one").files)
    assert all(seen)
    assert store.read(f"one/{MANIFEST}") is not None


def test_another_version_of_the_same_name_is_refused(store: Store, built: Path, tmp_path: Path) -> None:
    push(store, open_bundle(built / "one"))
    (built / "two").rename(tmp_path / "elsewhere")
    text = (tmp_path / "elsewhere" / MANIFEST).read_text()
    (built / "one").rename(tmp_path / "first")
    (tmp_path / "elsewhere" / MANIFEST).write_text(text.replace('"two"', '"one"'))
    (tmp_path / "elsewhere").rename(built / "one")
    before = store.read(f"one/{MANIFEST}")
    with pytest.raises(BundleInvalid, match="another version of that name"):
        push(store, open_bundle(built / "one"))
    assert store.read(f"one/{MANIFEST}") == before


def test_of_publishers_who_race_one_wins_and_the_others_are_told(store: Store, built: Path) -> None:
    send(store, built, "one")
    push(store, open_bundle(built / "two"))
    before, barrier, outcomes = read_current(store), threading.Barrier(4), []
    digests = [digest_of(built / "two" / MANIFEST), *(sha256(bytes([n])).hexdigest() for n in range(3))]

    def race(digest: str) -> None:
        barrier.wait()
        try:
            publish(store, "two", digest, before)
            outcomes.append(digest)
        except BundlesBusy:
            outcomes.append("")

    threads = [threading.Thread(target=race, args=(digest,)) for digest in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [digest for digest in outcomes if digest]
    assert len(outcomes) == 4
    assert len(winners) == 1
    now = read_current(store)
    assert now is not None
    assert now.digest == winners[0]
    history = store.read(HISTORY)
    assert history is not None
    assert history.data.decode() == line("one", digest_of(built / "one" / MANIFEST)) + now.line


def test_the_history_has_what_a_kill_kept_from_being_written(store: Store, built: Path, raw: Any) -> None:
    send(store, built, "one")
    obstore.delete(raw, HISTORY)
    send(store, built, "two")
    history = store.read(HISTORY)
    assert history is not None
    assert [text.split("  ")[1] for text in history.data.decode().splitlines()] == [
        f"one/{MANIFEST}",
        f"two/{MANIFEST}",
    ]


def test_files_that_another_version_has_are_linked_and_not_fetched(store: Store, built: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    send(store, built, "one")
    pull(store, far, keep=2)
    send(store, built, "two")
    pulled = pull(store, far, keep=2)
    one, two = (read_manifest(built / name).files for name in ("one", "two"))
    known = {entry.sha256 for entry in one.values()}
    shared = [name for name, entry in two.items() if entry.sha256 in known]
    assert shared
    assert pulled.fetched_files == len(two) - len(shared)
    assert all((far / "two" / name).stat().st_nlink > 1 for name in shared)
    verify_bundle(open_version(far, "two"))
    assert version_before_current(far) == "one"
    assert rollback(far) == "one"


def test_a_linked_file_that_was_damaged_here_is_fetched(store: Store, built: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    send(store, built, "one")
    pull(store, far, keep=2)
    one, two = (read_manifest(built / name).files for name in ("one", "two"))
    digests = {entry.sha256: name for name, entry in one.items()}
    shared = next(name for name, entry in two.items() if entry.sha256 in digests and entry.size_bytes)
    damaged = far / "one" / digests[two[shared].sha256]
    damaged.write_bytes(b"?" * damaged.stat().st_size)
    send(store, built, "two")
    pull(store, far, keep=2)
    verify_bundle(open_version(far, "two"))


def test_no_more_versions_stay_than_asked(store: Store, built: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "one", "two"):
        send(store, built, name)
        pull(store, tmp_path / "far", keep=1)
    assert list_versions(tmp_path / "far") == ["one", "two"]  # the one before it stays for a rollback


def test_versions_in_use_stay_and_all_where_it_cannot_be_told(store: Store, built: Path, tmp_path: Path) -> None:
    names, far = ("one", "two", "v3", "v4"), tmp_path / "far"
    for name in names[2:]:
        copy = shutil.copytree(built / "two", built / name)
        rewrite_manifest(copy, lambda manifest, name=name: manifest.update(version=name))

    def unknown() -> list[str]:
        raise ConfigError("experiments.toml is no TOML")

    for name, in_use in zip(names, (frozenset[str], frozenset[str], unknown, lambda: ["one"]), strict=True):
        send(store, built, name)
        assert pull(store, far, keep=1, in_use=in_use).changed
        if in_use is unknown:
            assert sorted(list_versions(far)) == ["one", "two", "v3"]
    assert sorted(list_versions(far)) == ["one", "v3", "v4"]


@pytest.mark.parametrize("mode", ["reset", "garbage", "refuse"])
def test_cut_connections_leave_the_current_version_and_the_next_pull_brings_the_new_one(
    store: Store, far: Store, proxy: FaultProxy, built: Path, tmp_path: Path, mode: str
) -> None:
    here = tmp_path / "far"
    send(store, built, "one")
    pull(far, here, keep=2)
    send(store, built, "two")
    proxy.mode = mode
    with pytest.raises(StorageError, match="cut|status"):
        pull(far, here, keep=2)
    assert (current_version(here), list_versions(here)) == ("one", ["one"])
    proxy.mode = "pass"
    pull(far, here, keep=2)
    verify_bundle(open_version(here, "two"))
    assert current_version(here) == "two"


def test_connections_that_are_cut_now_and_then_are_made_anew(
    store: Store, s3: S3Server, proxy: FaultProxy, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.store.ATTEMPTS", 12)
    monkeypatch.setattr("storage.store.FIRST_WAIT_SECONDS", 0.001)
    for name, value in s3.environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    send(store, built, "one")
    done = threading.Event()

    def cut_and_mend() -> None:
        while not done.is_set():
            proxy.mode = "reset" if proxy.mode == "pass" else "pass"
            time.sleep(0.02)

    cutter = threading.Thread(target=cut_and_mend)
    cutter.start()
    try:
        pull(open_store(URL), tmp_path / "far", keep=2)
    finally:
        done.set()
        cutter.join()
    verify_bundle(open_version(tmp_path / "far", "one"))


def test_altered_bytes_are_refused_and_the_current_version_stays(
    store: Store, raw: Any, built: Path, tmp_path: Path
) -> None:
    here = tmp_path / "far"
    send(store, built, "one")
    pull(store, here, keep=2)
    send(store, built, "two")
    one, two = (read_manifest(built / name).files for name in ("one", "two"))
    known = {entry.sha256 for entry in one.values()}
    name = next(name for name, entry in two.items() if entry.sha256 not in known)
    content = bytearray((built / "two" / name).read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), bytes(content[:-1]), (built / "two" / name).read_bytes() + b"!"):
        obstore.put(raw, f"two/{name}", damaged)
        with pytest.raises(BundleAltered, match=f"two/{name} differs from its digest"):
            pull(store, here, keep=2)
        assert (current_version(here), list_versions(here)) == ("one", ["one"])
        assert list(here.glob(f"{PULLING_PREFIX}*")) == []
    obstore.delete(raw, f"two/{name}")
    with pytest.raises(BundleNotFound, match=f"two/{name} is missing"):
        pull(store, here, keep=2)
    obstore.put(raw, f"two/{name}", built / "two" / name)
    assert pull(store, here, keep=2).version == "two"


def test_a_manifest_that_is_not_the_published_one_is_refused(
    store: Store, raw: Any, built: Path, tmp_path: Path
) -> None:
    send(store, built, "one")
    obstore.put(raw, f"one/{MANIFEST}", read_plain(built / "one" / MANIFEST) + b" ")
    with pytest.raises(BundleAltered, match="not as it was published"):
        pull(store, tmp_path / "far", keep=2)
    assert current_version(tmp_path / "far") is None


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a/../../b", "a//b"])
def test_a_manifest_cannot_name_files_elsewhere(store: Store, raw: Any, built: Path, tmp_path: Path, name: str) -> None:
    manifest = read_manifest(built / "one")
    entry = next(iter(manifest.files.values()))
    text = manifest.model_copy(update={"files": {**manifest.files, name: entry}}).model_dump_json().encode()
    obstore.put(raw, f"one/{MANIFEST}", text)
    publish(store, "one", sha256(text).hexdigest(), None)
    with pytest.raises(BundleInvalid, match="should match pattern"):
        pull(store, tmp_path / "far", keep=2)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"two\n",
        b"\xff\xfe",
        b"0" * 64 + b"  ../x/manifest.json\n",
        b"0" * 64 + b"  TIMELINE/manifest.json\n",
        b"0" * 64 + b"  v.partial/manifest.json\n",
    ],
)
def test_a_current_that_names_no_version_is_refused(store: Store, raw: Any, tmp_path: Path, text: bytes) -> None:
    obstore.put(raw, "CURRENT", text)
    with pytest.raises(BundleInvalid, match="names no version"):
        pull(store, tmp_path / "far", keep=2)


def test_a_full_disk_ends_a_pull_and_leaves_no_part_of_it(store: Store, built: Path, tmp_path: Path) -> None:
    here = tmp_path / "far"
    send(store, built, "one")
    pull(store, here, keep=2)
    send(store, built, "two")
    largest = max(entry.size_bytes for entry in read_manifest(built / "two").files.values())
    with files_end_at(largest - 1), pytest.raises(DiskFull, match="The disk is full"):
        pull(store, here, keep=2)
    assert (current_version(here), list_versions(here)) == ("one", ["one"])
    assert list(here.glob(f"{PULLING_PREFIX}*")) == []
    assert pull(store, here, keep=2).version == "two"


def test_a_puller_that_is_killed_leaves_the_current_version_and_the_next_goes_on(
    store: Store, s3: S3Server, built: Path, tmp_path: Path
) -> None:
    here, slow = tmp_path / "far", FaultProxy(s3.port)
    send(store, built, "one")
    pull(store, here, keep=2)
    send(store, built, "two")
    slow.mode, slow.delay_seconds = "delay", 0.2
    try:
        command = [sys.executable, "-c", "from cli.main import main; main()", "bundle", "pull", URL, "--bundles", here]
        puller = subprocess.Popen(
            [*map(str, command), "--follow"], env={**os.environ, **s3.environment(slow.port)}, stderr=subprocess.DEVNULL
        )
        staging, deadline = here / f"{PULLING_PREFIX}two", time.monotonic() + 60
        while sum(1 for path in staging.rglob("*.npy")) < 3:
            assert time.monotonic() < deadline
            assert puller.poll() is None
            time.sleep(0.005)
        puller.send_signal(signal.SIGKILL)
        puller.wait()
    finally:
        slow.close()
    assert (current_version(here), list_versions(here)) == ("one", ["one"])
    verify_bundle(open_version(here, "one"))
    kept = sum(1 for path in staging.rglob("*") if path.is_file() and not path.name.endswith(".partial"))
    pulled = pull(store, here, keep=2)
    assert kept > 0
    assert pulled.fetched_files <= pulled.files - kept
    verify_bundle(open_version(here, "two"))
    assert current_version(here) == "two"


def test_a_follower_survives_outages_and_says_so_once(
    store: Store, far: Store, proxy: FaultProxy, built: Path, tmp_path: Path
) -> None:
    here, told, stop = tmp_path / "far", [], threading.Event()
    follower = threading.Thread(target=follow, args=(far, here, 2, 0.05, told.append, stop))

    def wait_for(words: str) -> None:
        deadline = time.monotonic() + 30
        while not any(words in text for text in told):
            assert time.monotonic() < deadline, told
            time.sleep(0.01)

    follower.start()
    try:
        wait_for("Nothing is published")
        send(store, built, "one")
        wait_for("one is current")
        proxy.mode = "refuse"
        wait_for("cannot be reached")
        send(store, built, "two")
        time.sleep(0.5)
        proxy.mode = "pass"
        wait_for("two is current")
        wait_for("is well again")
    finally:
        stop.set()
        follower.join()
    assert current_version(here) == "two"
    assert sum("cannot be reached" in text for text in told) == 1
    assert "one stays current" in next(text for text in told if "cannot be reached" in text)


def test_one_process_pulls_into_a_directory(tmp_path: Path) -> None:
    new = tmp_path / "new"
    with only_puller(new), pytest.raises(BundlesBusy, match="One is enough"), only_puller(new):
        pass
    assert not new.exists()


def test_what_dead_pullers_left_is_pruned_and_what_a_living_one_has_is_not(built: Path) -> None:
    (built / f"{PULLING_PREFIX}three").mkdir()
    with only_puller(built):
        prune(built)
        assert (built / f"{PULLING_PREFIX}three").exists()
    prune(built)
    assert not (built / f"{PULLING_PREFIX}three").exists()


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/x", "s3://bucket/x?secret=1", "s3://bucket#secret", "file:///secret", "secret"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


def test_no_message_holds_credentials(s3: S3Server, far: Store, proxy: FaultProxy, tmp_path: Path) -> None:
    said = []
    for mode in ("refuse", "reset", "garbage"):
        proxy.mode = mode
        with pytest.raises(StorageError) as error:
            pull(far, tmp_path / "far", keep=2)
        said.append(f"{error.value} {error.value.__cause__}")
    command = [sys.executable, "-c", "from cli.main import main; main()", "bundle", "pull", "s3://versions/x"]
    done = subprocess.run(
        [*command, "--bundles", str(tmp_path / "far")], env={**os.environ, **s3.environment()}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "Nothing is published in s3://versions/x" in done.stderr
    secrets = [value for name, value in s3.environment().items() if name.startswith("AWS_") and "KEY" in name]
    assert not any(secret in text for secret in secrets for text in [*said, done.stderr, done.stdout])


def test_a_bucket_that_is_not_there_is_told_from_an_empty_one(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such bucket"):
        pull(open_store("s3://another-bucket/x"), tmp_path / "far", keep=2)
