"""How the studio fares with very many entities: time to the first picture, frames a second, bytes sent.

    python -m tests.browser.large_map FOLDER [POINTS]

makes a version of a million users (or POINTS) in FOLDER unless one is there, serves it on a free port, opens the map
three times in Chromium and says what it measured. The browser draws with the processor here, so frames a second are of
a machine without a graphics card, the worst case.
"""

import contextlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from bundle.attributes import Attribute, AttributeEntry, Categories, Scalars, arrays_of, packed
from bundle.csr import Csr, csr_from_pairs
from bundle.ids import string_ids
from bundle.layout import SpaceLayout
from bundle.manifest import (
    ClustersEntry,
    DefaultQuery,
    EntityEntry,
    IndexEntry,
    Lineage,
    Manifest,
    QueryWeights,
    RelationEntry,
    SpaceEntry,
    Strategy,
)
from bundle.versions import publish
from bundle.writer import BundleWriter
from service.settings import Settings
from tests.browser.studio import DRAWS, choose
from tests.support.browser import Page, browser
from tests.support.servers import running

POINTS, DIM, CLUSTERS, COUNTRIES = 1_000_000, 8, 200, 14
LAYOUT = SpaceLayout("main")
DRAWN = "performance.getEntriesByName('map drawn').length > 0"
SPIN = """new Promise(done => {
    const place = document.querySelector('.plane canvas:not(.raster)'), box = place.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    let frames = 0;
    const began = performance.now();
    const turn = () => {
        const about = {deltaY: frames % 40 < 20 ? -40 : 40, clientX: x, clientY: y, bubbles: true, cancelable: true};
        place.dispatchEvent(new WheelEvent('wheel', about));
        frames++;
        const passed = performance.now() - began;
        if (passed < 4000) requestAnimationFrame(turn); else done(frames);
    };
    requestAnimationFrame(turn);
})"""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_version(bundles: Path, version: str, n: int) -> None:
    """Write a version of `n` users in clusters that lie apart on the map, with three attributes."""
    rng = np.random.default_rng(1)
    home = rng.zipf(1.3, n) % CLUSTERS
    middles = rng.uniform(-0.85, 0.85, (CLUSTERS, 2))
    places = middles[home] + rng.normal(0, 0.03 + 0.05 * rng.random((CLUSTERS, 1))[home], (n, 2))
    centres = rng.normal(size=(CLUSTERS, DIM)).astype(np.float32)
    vectors = centres[home] + 0.3 * rng.standard_normal((n, DIM), dtype=np.float32)
    edges = np.unique(np.repeat(np.arange(n), 2) * n + rng.integers(0, n, 2 * n))
    sources, targets = edges // n, edges % n
    with BundleWriter(bundles, version) as writer:
        writer.array(LAYOUT.ids("user", "int64")[0], np.arange(n))
        writer.array(LAYOUT.vectors("user"), np.column_stack([vectors, np.zeros(n)]).astype(np.float32))
        writer.array(LAYOUT.coordinates("user"), np.clip(places, -1, 1).astype(np.float32))
        writer.array(LAYOUT.relations, np.zeros((1, 2, DIM), dtype=np.float32))
        for direction, csr in (
            ("targets", csr_from_pairs(sources.astype(np.int32), targets.astype(np.int32), n)),
            ("sources", csr_from_pairs(targets.astype(np.int32), sources.astype(np.int32), n)),
        ):
            for file, array in zip(LAYOUT.edges(0, direction), (csr.indptr, csr.indices), strict=False):  # type: ignore[arg-type]
                writer.array(file, array)
        writer.array(LAYOUT.popular(0), np.argsort(-np.bincount(targets, minlength=n))[:100].astype(np.int32))
        _write_clusters(writer, centres, home)
        attributes = _attributes(rng, home)
        for number, attribute in enumerate(attributes.values()):
            for part, array in arrays_of(attribute).items():
                writer.array(LAYOUT.attribute("user", number, part), array)
        writer.commit(_manifest(writer, version, n, attributes))


def _write_clusters(writer: BundleWriter, centres: Any, home: Any) -> None:
    writer.array(LAYOUT.clusters("centroids"), centres)
    writer.array(LAYOUT.clusters("medoid_types"), np.zeros(CLUSTERS, dtype=np.uint8))
    firsts = np.unique(home, return_index=True)
    medoids = np.zeros(CLUSTERS, dtype=np.int32)
    medoids[firsts[0]] = firsts[1]
    writer.array(LAYOUT.clusters("medoid_rows"), medoids)
    writer.array(LAYOUT.clusters("sizes"), np.bincount(home, minlength=CLUSTERS).astype(np.int64))
    writer.array(LAYOUT.assignment("user"), home.astype(np.int32))
    writer.array(LAYOUT.mixtures("indptr"), np.arange(len(home) + 1))
    writer.array(LAYOUT.mixtures("clusters"), home.astype(np.int32))
    writer.array(LAYOUT.mixtures("weights"), np.ones(len(home), dtype=np.float32))


def _attributes(rng: np.random.Generator, home: Any) -> dict[str, Attribute]:
    n = len(home)
    names = string_ids(sorted(f"country {i:02d}" for i in range(COUNTRIES)))
    codes = np.where(rng.random(n) < 0.8, home % COUNTRIES, rng.integers(0, COUNTRIES, n)).astype(np.int32)
    return {
        "country": Categories(names, Csr(np.arange(n + 1), codes)),
        "age": Scalars("number", 18 + 60 * rng.random(n), packed(rng.random(n) < 0.9)),
        "bot": Scalars("boolean", (rng.random(n) < 0.05).astype(np.uint8), packed(np.ones(n, dtype=np.bool_))),
    }


def _manifest(writer: BundleWriter, version: str, n: int, attributes: dict[str, Attribute]) -> Manifest:
    entries = tuple(AttributeEntry(name=name, kind=one.kind) for name, one in attributes.items())
    space = SpaceEntry(
        dim=DIM,
        entities=(EntityEntry(name="user", id="int64", count=n, attributes=entries),),
        relations=(RelationEntry(name="follows", source="user", target="user", edges=0),),
        default=DefaultQuery(relation="follows", user_type="user", candidate_type="user"),
        clusters=ClustersEntry(count=CLUSTERS, types=("user",), modes=1, mixture_type="user", list_length=1),
        compression={},
        indexes={"user": IndexEntry(kind="exact", depth=1)},
        strategies={"unimodal": Strategy(merge="single", weights=QueryWeights(user=1))},
        auto="unimodal",
    )
    lineage = Lineage(graph_digest="0" * 64, training_config_digest="1" * 64, build_config_digest="2" * 64)
    made = datetime.now(UTC)
    return Manifest(version=version, created=made, lineage=lineage, spaces={"main": space}, files=writer.files)


def _cpu_seconds() -> dict[str, float]:
    """CPU time that the browser has taken so far: its page, and the process that draws in a graphics card's place."""
    taken = {"renderer": 0.0, "gpu-process": 0.0}
    for process in psutil.Process().children(recursive=True):
        for kind in taken:
            with contextlib.suppress(psutil.Error):
                if f"--type={kind}" in process.cmdline():
                    taken[kind] += sum(process.cpu_times()[:2])
    return taken


def _patiently(page: Page, expression: str) -> Any:
    """The value of an expression once there is one, on a machine that draws however slowly."""
    while True:
        with contextlib.suppress(TimeoutError, RuntimeError):
            value = page.evaluate(expression)
            if value:
                return value
        time.sleep(0.02)


def measure(page: Page, url: str) -> None:
    """Say what one visit takes: with nothing kept, then with what the browser and the service keep."""
    for visit in ("first", "second", "third"):
        before = _cpu_seconds()
        page.command("Page.navigate", url=f"{url}/?visit={visit}")
        _patiently(page, f"location.search === '?visit={visit}' && {DRAWN}")
        after = _cpu_seconds()
        paint, drawn, sent = _patiently(
            page,
            "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            "performance.getEntriesByName('map drawn')[0].startTime,"
            "performance.getEntriesByType('resource').reduce((sum, one) => sum + one.transferSize, 0)]",
        )
        page_cpu, drawing_cpu = (after[kind] - before[kind] for kind in after)
        _say(
            f"{visit} visit: page painted after {paint:.0f} ms, points after {drawn:.0f} ms; {sent / 1e6:.1f} MB sent; "
            f"CPU {page_cpu:.2f} s of the page, {drawing_cpu:.2f} s of drawing"
        )
    before = _cpu_seconds()
    frames = _patiently(page, SPIN)
    used = sum(_cpu_seconds().values()) - sum(before.values())
    _say(f"zooming for four seconds: {frames / 4:.1f} frames a second, {1000 * used / frames:.0f} ms of CPU a frame")
    began = time.perf_counter()
    choose(page, "#colour", ".age")
    _patiently(page, "Boolean(document.querySelector('.scale'))")
    _say(f"coloured by an attribute after {1000 * (time.perf_counter() - began):.0f} ms")


def main() -> None:
    """Make the version, and measure."""
    folder, points = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else POINTS
    version = f"points-{points}"
    if not (folder / version).exists():
        write_version(folder, version, points)
    publish(folder, version)
    settings = Settings(bundles=folder, verify=False, self_test_queries=0, warm_up_queries=0)  # type: ignore[call-arg]
    with (
        running(settings) as url,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser(Path(profile), *DRAWS) as page,
    ):
        for path in ("/v1/map", "/v1/map/user"):
            began = time.perf_counter()
            patient = {"x-request-timeout-ms": "10000"}
            size = len(httpx.get(url + path, headers=patient, timeout=60).raise_for_status().content)
            taken = [time.perf_counter() - began]
            for _ in range(5):
                began = time.perf_counter()
                httpx.get(url + path, headers={"accept-encoding": "gzip"}, timeout=60)
                taken.append(time.perf_counter() - began)
            _say(f"{path}: {size / 1e6:.2f} MB, made in {1000 * taken[0]:.0f} ms, kept {1000 * min(taken[1:]):.0f} ms")
        measure(page, url)


if __name__ == "__main__":
    main()
