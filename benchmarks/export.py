"""How fast a version is exported: a million vectors of 128 numbers, made up, to each of the fast formats.

    python -m benchmarks.export --out SCRATCH

Beside the export stands the time to write the same bytes to the same disk: no format is faster than that.
"""

import argparse
import os
import resource
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bundle.arrays import map_array
from bundle.ids import IntIds
from bundle.progress import SilentProgress
from bundle.space import Bundle, EntityTable, Space
from export.table import ExportedTable
from export.write import Format, export

FORMATS: tuple[Format, ...] = ("parquet", "npy", "safetensors")


def made_up(path: Path, n: int, dim: int) -> ExportedTable:
    """A table of `n` random vectors in a file as a version has them."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim + 1))
    rng = np.random.default_rng(0)
    for start in range(0, n, 100_000):
        out[start : start + 100_000] = rng.standard_normal((min(100_000, n - start), dim + 1), dtype=np.float32)
    out.flush()
    table = EntityTable("user", IntIds(np.arange(n, dtype=np.int64) * 7), map_array(path), dim)
    bundle = SimpleNamespace(version="made-up", manifest=SimpleNamespace(created=datetime.now(UTC)))
    return ExportedTable(
        cast(Bundle, bundle), cast(Space, SimpleNamespace(name="main", clusters=None)), table, ("vector",)
    )


def seconds(work: Any) -> tuple[float, float]:
    """Wall and CPU seconds of `work`."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def copy(table: ExportedTable, path: Path) -> None:
    """The bare bytes, written and synced."""
    with path.open("wb") as file:
        for part in table.parts():
            file.write(cast(Any, part.columns["vector"]).data)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Parse the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(description="How fast a version is exported.")
    parser.add_argument("--out", type=Path, required=True, help="directory for scratch files, a few GB")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = made_up(arguments.out / "vectors.npy", arguments.rows, arguments.dim)
    print("| format | seconds | CPU seconds |\n|---|---|---|")
    for to in FORMATS:
        wall, cpu = seconds(lambda to=to: export([table], to, arguments.out / to, SilentProgress()))
        print(f"| {to} | {wall:.2f} | {cpu:.2f} |")
        shutil.rmtree(arguments.out / to)
    wall, cpu = seconds(lambda: copy(table, arguments.out / "bytes"))
    print(f"| the bare bytes, written and synced | {wall:.2f} | {cpu:.2f} |")
    print(f"\nmost memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    (arguments.out / "bytes").unlink()
    (arguments.out / "vectors.npy").unlink()


if __name__ == "__main__":
    main()
