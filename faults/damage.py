"""Damage: bits flipped, files cut, lengthened, linked, swapped and removed, in every file of a version and of a run.

Three versions are harmed in turn: one searched exactly, one with an hnswlib index, one with FAISS's. Each was published
after one that is good. A start and a change of version are made in this process, as the service makes them; some are
made again by real services.
"""

import asyncio
import filecmp
import itertools
import json
import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry

from bundle.errors import BundleError, TwhinError
from bundle.run import RUN_FILE, open_run, write_run_record
from bundle.versions import CURRENT, publish
from faults.outcome import Outcome
from service.metrics import VersionMetrics
from service.settings import Settings
from service.versions.versions import Versions
from service.versions.watcher import follow_once
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle
from tests.support.signing import rewrite_manifest
from tests.support.toy import write_toy_run

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
FLIPS = 2  # bits of each file, at seeded places
BAD_BETWEEN_GOOD = 10
FLIPS_OF_A_RUN = 10
CHANGES = 50  # of a running service's version, to a damaged one
SERVICES_OF_A_KIND = 3

Damage = Callable[[Path, Path, random.Random], None]  # of the version, the file in it, and the chance


@dataclass
class Counts:
    """What was seen. `tried` counts by kind of damage; the lists hold what broke a promise, in words."""

    tried: Counter[str] = field(default_factory=Counter)
    served: list[str] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    no_start: list[str] = field(default_factory=list)
    not_followed: list[str] = field(default_factory=list)
    followed: int = 0
    published: list[str] = field(default_factory=list)
    runs: int = 0
    read: list[str] = field(default_factory=list)


class _Tracebacks(logging.Handler):
    """Notes what the watch over versions logs with a traceback."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self._counts = counts
        self.damage = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self._counts.tracebacks.append(f"{self.damage}: {record.exc_info[1]!r}")


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Yields what damage must not do. `long` flips a hundred times as many bits."""
    rng, counts = random.Random(seed), Counts()
    log, handler = logging.getLogger("twhin.versions"), _Tracebacks(counts)
    log.addHandler(handler)
    log.propagate = False  # a line for each refusal
    try:
        for kind, bundles in _harmed(scratch):
            for name, files, damage in _damages(bundles / "harmed", rng, FLIPS * 100 if long else FLIPS):
                handler.damage = f"{kind} {name}"
                counts.tried[name.partition(" ")[0]] += 1
                with _harm(bundles, files, damage, rng):
                    asyncio.run(_start(bundles, handler.damage, counts))
                    _publish(bundles, handler.damage, counts)
            handler.damage = f"{kind}, changes of version"
            asyncio.run(_changes(bundles, rng, counts))
        _services(scratch, rng, counts)
        _runs(scratch / "runs", rng, FLIPS_OF_A_RUN * 100 if long else FLIPS_OF_A_RUN, counts)
    finally:
        log.removeHandler(handler)
        log.propagate = True
    yield from _outcomes(counts)


def _harmed(scratch: Path) -> Iterator[tuple[str, Path]]:
    """Directories of versions: `good` was published, then `harmed`; `better` is good too and was never published."""
    for kind in ("exact", "hnsw", "faiss"):
        bundles = scratch / kind
        write_toy_bundle(bundles, "good", seed=1)
        write_toy_bundle(bundles, "better", seed=2)
        if kind == "exact":
            write_toy_bundle(bundles, "harmed", seed=3)
        else:
            shutil.copytree(GOLDEN / f"format-1-{kind}", bundles / "harmed")
            rewrite_manifest(bundles / "harmed", lambda manifest: manifest.update(version="harmed"))
        publish(bundles, "good")
        publish(bundles, "harmed")
        yield kind, bundles


def _damages(version: Path, rng: random.Random, flips: int) -> Iterator[tuple[str, tuple[Path, ...], Damage]]:
    """Every damage to be tried on `version`: what is done, to which files, and how."""
    files = sorted(path.relative_to(version) for path in version.rglob("*") if path.is_file())
    for file in files:
        yield from ((f"flip {file} ({number})", (file,), _flip) for number in range(flips))
        yield from ((f"{name} {file}", (file,), damage) for name, damage in BY_FILE.items())
        # A file with the bytes of another: those of the same bytes are no damage.
        other = rng.choice([one for one in files if not filecmp.cmp(version / one, version / file, shallow=False)])
        yield f"swap {file} with {other}", (file, other), _swap_with(other)
    for folder in sorted({file.parent for file in files} - {Path()}):
        yield f"link-folder {folder}", (folder,), _link_out


def _flip(version: Path, file: Path, rng: random.Random) -> None:
    content = bytearray((version / file).read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (version / file).write_bytes(content)


def _truncate(version: Path, file: Path, rng: random.Random) -> None:
    os.truncate(version / file, rng.randrange((version / file).stat().st_size))


def _extend(version: Path, file: Path, rng: random.Random) -> None:
    with (version / file).open("ab") as out:
        out.write(rng.randbytes(rng.randrange(1, 200)))


def _zero(version: Path, file: Path, rng: random.Random) -> None:
    """Bytes that never reached the disk, as after a power cut: all from one place on, the last one not 0 before."""
    content = (version / file).read_bytes().rstrip(b"\0")
    start = rng.randrange(len(content))
    size = (version / file).stat().st_size
    (version / file).write_bytes(content[:start].ljust(size, b"\0"))


def _remove(version: Path, file: Path, rng: random.Random) -> None:
    (version / file).unlink()


def _link_to_itself(version: Path, file: Path, rng: random.Random) -> None:
    (version / file).unlink()
    (version / file).symlink_to(file.name)


def _link_to_a_device(version: Path, file: Path, rng: random.Random) -> None:
    (version / file).unlink()
    (version / file).symlink_to("/dev/zero")


def _link_out(version: Path, file: Path, rng: random.Random) -> None:
    """The same file or folder, but outside of the version, where it may change."""
    outside = version.parent / ".outside"
    (version / file).rename(outside)
    (version / file).symlink_to(outside)


def _make_a_pipe(version: Path, file: Path, rng: random.Random) -> None:
    (version / file).unlink()
    os.mkfifo(version / file)


def _make_a_directory(version: Path, file: Path, rng: random.Random) -> None:
    (version / file).unlink()
    (version / file).mkdir()


def _swap_with(other: Path) -> Damage:
    def damage(version: Path, file: Path, rng: random.Random) -> None:
        first, second = (version / file).read_bytes(), (version / other).read_bytes()
        (version / file).write_bytes(second)
        (version / other).write_bytes(first)

    return damage


BY_FILE: dict[str, Damage] = {
    "truncate": _truncate,
    "extend": _extend,
    "zero": _zero,
    "remove": _remove,
    "link-self": _link_to_itself,
    "link-device": _link_to_a_device,
    "link-out": _link_out,
    "pipe": _make_a_pipe,
    "directory": _make_a_directory,
}


@contextmanager
def _harm(bundles: Path, files: tuple[Path, ...], damage: Damage, rng: random.Random) -> Iterator[None]:
    """Damage `harmed`, and put its `files` back as they were afterwards."""
    harmed, whole = bundles / "harmed", bundles / ".whole"
    if not whole.exists():
        shutil.copytree(harmed, whole)
    damage(harmed, files[0], rng)
    try:
        yield
    finally:
        for file in (bundles / ".outside", *(harmed / file for file in files)):
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            file.unlink(missing_ok=True)
        for file in files:
            put_back = shutil.copytree if (whole / file).is_dir() else shutil.copy
            put_back(whole / file, harmed / file)


@cache
def _settings(bundles: Path) -> Settings:
    return Settings(bundles=bundles, warm_up_queries=1, self_test_queries=1)


def _versions(bundles: Path) -> Versions:
    return Versions(_settings(bundles), VersionMetrics(CollectorRegistry()))


async def _start(bundles: Path, damage: str, counts: Counts) -> None:
    """What a service does when it starts on a damaged published version."""
    versions = _versions(bundles)
    try:
        await follow_once(versions)
        serving = None if versions.active is None else versions.active.version
        if serving == "harmed":
            counts.served.append(damage)
        elif serving != "good":
            counts.no_start.append(damage)
        if "harmed" not in versions.refused.get("harmed", ""):
            counts.nameless.append(f"{damage}: {versions.refused}")
    finally:
        versions.close()


def _publish(bundles: Path, damage: str, counts: Counts) -> None:
    """What `twhin publish` does with a damaged version. A changed manifest that is sound is a new one and may pass."""
    try:
        publish(bundles, "harmed")
    except BundleError:
        return
    except Exception as error:
        counts.tracebacks.append(f"publish, {damage}: {error!r}")
        return
    if "manifest.json" not in damage:
        counts.published.append(damage)
    (bundles / "CURRENT").write_text("harmed\n")


async def _changes(bundles: Path, rng: random.Random, counts: Counts) -> None:
    """A service that serves `good` meets damaged versions, and after every ten of them a good one."""
    versions = _versions(bundles)
    good = itertools.cycle(("better", "good"))
    damages = list(_damages(bundles / "harmed", rng, 1))
    (bundles / CURRENT).write_text("good\n")
    try:
        await follow_once(versions)
        for number, (name, files, damage) in enumerate(rng.sample(damages, CHANGES)):
            before = versions.serving().version
            with _harm(bundles, files, damage, rng):
                (bundles / CURRENT).write_text("harmed\n")
                await follow_once(versions)
            counts.tried["change"] += 1
            if versions.serving().version != before:
                counts.served.append(f"change of version, {name}")
            if number % BAD_BETWEEN_GOOD == BAD_BETWEEN_GOOD - 1:
                publish(bundles, wanted := next(good))
                await follow_once(versions)
                counts.followed += 1
                if versions.serving().version != wanted:
                    counts.not_followed.append(f"{wanted} after {name}")
    finally:
        versions.close()


def _services(scratch: Path, rng: random.Random, counts: Counts) -> None:
    """Real services that start on a damaged version, and then meet a good one."""
    for kind in ("exact", "hnsw", "faiss"):
        bundles = scratch / kind
        damages = list(_damages(bundles / "harmed", rng, 1))
        for name, files, damage in rng.sample(damages, SERVICES_OF_A_KIND):
            (bundles / CURRENT).write_text("good\n")
            publish(bundles, "harmed")
            with _harm(bundles, files, damage, rng):
                counts.tried["service"] += 1
                _service(bundles, f"service, {kind} {name}", counts)


def _service(bundles: Path, damage: str, counts: Counts) -> None:
    service = ServiceProcess(bundles, TWHIN_WATCH_SECONDS="0.1", TWHIN_DRAIN_SECONDS="0")
    try:
        service.wait_until_ready()
        if httpx.get(f"{service.url}/recommend/{user_ids()[0]}", timeout=20).json().get("version") != "good":
            counts.served.append(damage)
        publish(bundles, "better")
        deadline = time.monotonic() + 20
        while httpx.get(f"{service.url}/v1/info").json()["version"] != "better" and time.monotonic() < deadline:
            time.sleep(0.05)
        counts.followed += 1
        if time.monotonic() >= deadline or httpx.get(f"{service.url}/livez").status_code != 200:
            counts.not_followed.append(damage)
    except RuntimeError:
        counts.no_start.append(damage)
    finally:
        service.stop()
    if "Traceback" in service.log.read_text():
        counts.tracebacks.append(damage)


def _runs(directory: Path, rng: random.Random, flips: int, counts: Counts) -> None:
    """A run is opened, as a build and an evaluation open it, with one of its files damaged."""
    run = write_toy_run(directory / "harmed")
    fields = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    write_run_record(run, {name: value for name, value in fields.items() if name != "format_version"})
    for name, files, damage in list(_damages(run, rng, flips)):
        before = [(run / file).read_bytes() for file in files if (run / file).is_file()]
        with _harm(directory, files, damage, rng):
            counts.runs += 1
            try:
                open_run(run)
            except TwhinError:
                continue
            except Exception as error:
                counts.tracebacks.append(f"run, {name}: {error!r}")
                continue
            # What leads to the same bytes elsewhere is the same run.
            if before != [(run / file).read_bytes() for file in files if (run / file).is_file()]:
                counts.read.append(name)


def _outcomes(counts: Counts) -> Iterator[Outcome]:
    tried = sum(counts.tried.values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.tried.items()))

    def outcome(promise: str, broken: list[str], of: str) -> Outcome:
        return Outcome(
            promise, f"{len(broken)} failures in {of}" + "".join(f"; {each}" for each in broken[:3]), not broken
        )

    yield outcome(
        "no damaged version is served after a start or a change of version", counts.served, f"{tried} ({kinds})"
    )
    yield outcome("a start falls back to the earlier good version", counts.no_start, str(tried))
    yield outcome("a refusal names the version", counts.nameless, str(tried))
    yield outcome("no damaged version is published", counts.published, str(tried))
    yield outcome("no damaged run is read", counts.read, str(counts.runs))
    yield outcome("no traceback", counts.tracebacks, str(tried + counts.runs))
    yield outcome("a good version after bad ones is followed", counts.not_followed, str(counts.followed))
