"""Preparing a generated graph: CPU and clock, with integer ids far apart and string ids, from Parquet and from CSV.

    python -m benchmarks.prepare [--edges 3000000] [--nodes 300000] [--rounds 5] [--before TREE ...]

Each time in a process of its own, whose start does not count; --before names source trees of other versions, which are
measured in turns with this one. Degrees follow a power law.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ROOT = Path(__file__).resolve().parent.parent
GRAPH = """
[entities.user]
id = "{kind}"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.{ending}"
"""
TIMED = """
import sys, time
from pathlib import Path
from graph.prepare import prepare
began, used = time.perf_counter(), time.process_time()
prepare(Path(sys.argv[1]), Path(sys.argv[2]))
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(time.perf_counter() - began, time.process_time() - used, peak)
"""


def write_graphs(directory: Path, edges: int, nodes: int) -> list[Path]:
    """The same edges four times: the graph files."""
    rng = np.random.default_rng(1)
    rows = [(nodes * rng.random(edges) ** 1.5).astype(np.int64) for _ in range(2)]
    numbers = pa.array(rng.permutation(nodes) * 7 + 3)
    texts = pa.array([f"user:{number:09d}" for number in numbers.to_pylist()])
    found = []
    for kind, ids in (("int64", numbers), ("string", texts)):
        table = pa.table({end: ids.take(pa.array(row)) for end, row in zip(("src", "dst"), rows, strict=True)})
        for ending, write in (("parquet", pa.parquet.write_table), ("csv", pa.csv.write_csv)):
            folder = directory / f"{kind} {ending}"
            folder.mkdir()
            write(table, folder / f"follows.{ending}")
            (folder / "graph.toml").write_text(GRAPH.format(kind=kind, ending=ending))
            found.append(folder / "graph.toml")
    return found


def prepared(tree: Path, graph_toml: Path) -> tuple[float, float, float]:
    """Seconds by the clock, CPU seconds and the peak of resident memory (MB), by the code of `tree`."""
    with tempfile.TemporaryDirectory(dir=graph_toml.parent) as out:
        command = [sys.executable, "-c", TIMED, str(graph_toml), f"{out}/graph"]
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    clock, used, peak = map(float, done.stdout.split())
    return clock, used, peak


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=int, default=3_000_000)
    parser.add_argument("--nodes", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    trees = [*(tree.absolute() for tree in asked.before), ROOT]
    print(f"load {os.getloadavg()[0]:.0f}\n| ids, files | tree | clock s | CPU s | MB | clock, times | CPU, times |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as directory:
        for graph_toml in write_graphs(Path(directory), asked.edges, asked.nodes):
            rounds = [[prepared(tree, graph_toml) for tree in trees] for _ in range(asked.rounds)]
            for number, tree in enumerate(trees):
                clock, used, peak = (statistics.median(found[number][i] for found in rounds) for i in range(3))
                times = [statistics.median(found[0][i] / found[number][i] for found in rounds) for i in range(2)]
                print(
                    f"| {graph_toml.parent.name} | {tree.name} | {clock:.2f} | {used:.2f} | {peak:.0f} | "
                    f"{times[0]:.2f} | {times[1]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
