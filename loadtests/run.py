"""`make load`: a short open-loop run against the service, with a version change in the middle, and thresholds.

Exits 1 when a request fails, p99 of /recommend is above its threshold, or recall under load is below its own.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import numpy as np

from bundle.versions import current_version, publish
from loadtests.open_loop import Report, open_loop
from loadtests.recall import RecallJudge
from loadtests.traffic import mixed, population

PROGRAM = (
    "from service.serve import serve; from service.settings import Settings; "
    "serve(Settings(), port={port}, workers={workers})"
)


@contextlib.contextmanager
def service(bundles: Path, workers: int) -> Iterator[int]:
    """The service over `bundles` on a free port."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {"TWHIN_BUNDLES": str(bundles), "TWHIN_WATCH_SECONDS": "0.5", "TWHIN_LOG_LEVEL": "warning"}
    program = PROGRAM.format(port=port, workers=workers)
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    try:
        _wait_until_ready(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("the service did not start")


@contextlib.contextmanager
def two_versions(bundles: Path) -> Iterator[tuple[Path, str]]:
    """A copy of the published version in a directory of its own, and beside it the same under another name."""
    version = current_version(bundles)
    if version is None:
        raise SystemExit(f"Nothing is published in {bundles}: make it with `make demo`.")
    again = f"{version[:60]}-2"
    with tempfile.TemporaryDirectory(prefix="twhin-load-") as name:
        copy = Path(name)
        for target in (version, again):
            shutil.copytree(bundles / version, copy / target)
        manifest = copy / again / "manifest.json"
        manifest.write_text(manifest.read_text().replace(f'"version": "{version}"', f'"version": "{again}"'))
        publish(copy, version)
        yield copy, again


def run(bundles: Path, options: argparse.Namespace) -> tuple[Report, float, set[str]]:
    """The load: what was measured, the recall under it, the versions that answered."""
    judge, versions = RecallJudge(), set[str]()

    def seen(shot, body):  # type: ignore[no-untyped-def]
        judge.seen(shot, body)
        if shot.name in ("recommend", "interests"):
            versions.add(body.rpartition(b'"version":"')[2].partition(b'"')[0].decode())

    with two_versions(bundles) as (copy, again), service(copy, options.workers) as port:
        swap = threading.Timer(options.seconds / 4, publish, (copy, again))
        swap.start()
        shots = mixed(population(copy), np.random.default_rng(1), options.k)
        report = asyncio.run(
            open_loop(
                port,
                shots,
                rate=options.rate,
                seconds=options.seconds,
                seen=seen,
                # A busy machine may take long to verify a version: the load goes on until the change has been seen.
                enough=lambda: len(versions) > 1,
                patience=options.patience,
            )
        )
        swap.join()
        return report, judge.recall(copy), versions


def verdict(report: Report, recall: float, versions: set[str], options: argparse.Namespace) -> list[str]:
    """What is not as it should be."""
    p99 = report.percentile_ms("recommend", 99)
    faults = [f"{count} × {error}" for error, count in report.errors.items()]
    if p99 > options.p99_ms:
        faults.append(f"p99 of /recommend is {p99:.1f} ms; at most {options.p99_ms:.1f} are wanted")
    if recall < options.recall:
        faults.append(f"recall under load is {recall:.3f}; at least {options.recall:.3f} is wanted")
    if len(versions) < 2:
        faults.append("the version did not change under load")
    return faults


def main() -> None:
    """Run, print the table, exit 1 for a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, default=Path(".demo/bundles"), help="directory of versions")
    parser.add_argument("--seconds", type=float, default=20, help="how long")
    parser.add_argument("--rate", type=float, default=150, help="requests a second")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument("--k", type=int, default=50, help="candidates in one answer")
    parser.add_argument(
        "--p99-ms", type=float, default=1000, help="threshold of /recommend; lower it on a quiet machine"
    )
    parser.add_argument("--patience", type=float, default=120, help="seconds more for the version to change")
    parser.add_argument("--recall", type=float, default=0.9, help="threshold of recall under load")
    options = parser.parse_args()
    report, recall, versions = run(options.bundles, options)
    print("\n".join(report.lines()))
    print(f"{report.answered} answers at {options.rate:.0f} a second, {len(versions)} versions among them")
    print(f"recall under load: {recall:.3f}")
    faults = verdict(report, recall, versions, options)
    for fault in faults:
        print(f"FAULT: {fault}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
