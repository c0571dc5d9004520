"""Builds of many entities: time, CPU seconds and private memory by stage, recall, sizes of files.

    python -m benchmarks.build --entities 10000000 --dim 64 --edges 5 --directory DIR --memory 2GiB

writes a graph of communities with hubs into DIR, prepares it as `twhin train` does, and draws vectors about the
centres of the communities in place of training. The build is `twhin build --quick`, with --learn the whole.
Everything is seeded; DIR is left as it is.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundle.arrays import save_array
from bundle.ids import IntIds
from bundle.progress import Progress, SilentStage, Stage
from bundle.run import GRAPH_DIRECTORY, RUN_FILE, write_run_record
from graph.prepare import prepare

BLOCK = 1 << 20
GRAPH = """
[entities.user]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.parquet"
[split]
by = "random"
fraction = 0.01
seed = 1
"""


def write_run(directory: Path, entities: int, dim: int, edges: int, seed: int) -> Path:
    """A run of about `entities` users with `edges` follows each, four fifths of them in communities of 2,000."""
    run = directory / "run"
    if (run / RUN_FILE).exists():
        return run
    directory.mkdir(parents=True, exist_ok=True)
    rng, communities = np.random.default_rng(seed), max(1, entities // 2000)
    schema = pa.schema([("src", pa.int64()), ("dst", pa.int64())])
    with pq.ParquetWriter(directory / "follows.parquet", schema) as writer:
        for start in range(0, entities, BLOCK):
            source = np.repeat(np.arange(start, min(start + BLOCK, entities)), edges)
            # The number of a member is drawn towards small ones: those are much followed.
            within = (rng.random(len(source)) ** 2 * (entities // communities)).astype(np.int64)
            community = np.where(rng.random(len(source)) < 0.8, source, rng.integers(0, entities, len(source)))
            target = within * communities + community % communities
            writer.write_table(pa.table({"src": source, "dst": target}, schema))
    (directory / "graph.toml").write_text(GRAPH)
    graph = prepare(directory / "graph.toml", run / GRAPH_DIRECTORY)
    ids = graph.entity("user").ids
    assert isinstance(ids, IntIds)
    _write_vectors(run, ids.values, dim, communities, rng)
    write_run_record(run, {"graph_digest": graph.digest, "config_digest": "0" * 64, "dim": dim})
    return run


def _write_vectors(run: Path, ids: Any, dim: int, communities: int, rng: np.random.Generator) -> None:
    """Centre of the community and as much of one's own, in columns of falling weight, as learnt vectors have them."""
    weights = (1 / np.sqrt(1 + np.arange(dim) / 8)).astype(np.float32)
    regions = rng.standard_normal((max(1, communities // 50), dim), dtype=np.float32)
    centres = regions[np.arange(communities) % len(regions)] + rng.standard_normal((communities, dim), dtype=np.float32)
    (run / "vectors").mkdir()
    path = run / "vectors" / "user.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(ids), dim))
    for start in range(0, len(ids), BLOCK):
        some = ids[start : start + BLOCK]
        own = rng.standard_normal((len(some), dim), dtype=np.float32)
        out[start : start + len(some)] = (centres[some % communities] + own) * weights
    save_array(run / "relations.npy", np.zeros((1, 2, dim), dtype=np.float32))


class Recorder:
    """A `Progress` that writes down for each stage: seconds, CPU seconds, those of them on the main thread, peak of
    private memory. Of T threads that share the work evenly the main one has a T-th; what it has beyond is not shared.
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self.peak_mb = 0.0
        self._stage_peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            now = _private_mb()
            self.peak_mb, self._stage_peak = max(self.peak_mb, now), max(self._stage_peak, now)
            time.sleep(0.02)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        self._stage_peak = 0.0
        began, cpu, main = time.perf_counter(), time.process_time(), time.thread_time()
        try:
            yield SilentStage()
        finally:
            self.stages[name] = {
                "seconds": round(time.perf_counter() - began, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "main_thread_cpu_seconds": round(time.thread_time() - main, 1),
                "peak_private_mb": round(max(self._stage_peak, _private_mb())),
            }
            print(name, self.stages[name], file=sys.stderr, flush=True)


def _private_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def build(directory: Path, settings: dict[str, Any], *, learn: bool) -> None:
    """Build in this process and print what it took."""
    from cli.compose import assessor
    from index.builder.config import parse_config
    from index.builder.version import build_version

    recorder = Recorder()
    progress: Progress = recorder
    config = parse_config(settings, "the settings")
    shutil.rmtree(directory / "bundles", ignore_errors=True)
    run = directory / "run"
    before, began, cpu = _private_mb(), time.perf_counter(), time.process_time()
    assess = assessor(run, config.seed, progress) if learn else None
    built = build_version(run, directory / "bundles", config, version="v1", progress=progress, assess=assess)
    answer = {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "private_mb_before": round(before),
        "peak_private_mb": round(recorder.peak_mb),
        "load_average": os.getloadavg()[0],
        "stages": recorder.stages,
        "files_mb": {name: round(entry.size_bytes / 1e6, 1) for name, entry in built.manifest.files.items()},
        "indexes": {name: entry.model_dump() for name, entry in built.manifest.spaces["default"].indexes.items()},
        "gates": [gate.model_dump() for gate in built.manifest.evaluation.gates],
    }
    print(json.dumps(answer, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--edges", type=int, default=5, help="of each entity")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={}, help="of the build, as JSON")
    parser.add_argument("--memory", help="as of `twhin build`")
    parser.add_argument("--learn", action="store_true", help="learn strategies too")
    parser.add_argument("--only-build", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_build:
        settings = args.settings | ({"memory": args.memory} if args.memory else {})
        build(args.directory, settings, learn=args.learn)
        return
    write_run(args.directory, args.entities, args.dim, args.edges, args.seed)
    # A process of its own, which has made no graph.
    subprocess.run([sys.executable, "-m", "benchmarks.build", "--only-build", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
