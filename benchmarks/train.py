"""The trainer beside PyTorch-BigGraph in one run, and beside what this machine's arithmetic and memory can do.

    python -m benchmarks.train [--data ../shared/data] [--nodes 1000000 --edges 10000000] [--rounds 2]
        [--biggraph DIR] [--json FILE]

Both train on one thread, in turns, each in a process of its own. A rate is edges per CPU second of the whole process,
all its children included, of some epochs less that of fewer: reading, starting and compiling cancel out, and other load
on the machine matters less than it does to the clock. --biggraph names the environment of PyTorch-BigGraph (see
benchmarks/train_pbg.py), which is made there where it is missing. For a second thread see benchmarks/train_threads.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from benchmarks import train_pbg  # noqa: E402
from bundle.prepared import load_prepared  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.train import train  # noqa: E402

DIM = 128
SMALL: dict[str, object] = {"chunk": 64, "negatives_in_batch": 50, "negatives_uniform": 50}
LARGE: dict[str, object] = {"chunk": 256, "negatives_in_batch": 0, "negatives_uniform": 1000, "masks": "chunk"}
LARGE |= {"learning_rate": 0.05, "init_scale": 0.01}


@dataclass(frozen=True)
class Case:
    """One row of the table: a graph, our settings, and which numbers of epochs are compared, theirs and ours."""

    graph: str
    negatives: int
    settings: dict[str, object]
    theirs: tuple[int, int]
    ours: tuple[int, int]


CASES = [
    Case("FB15k-237", 100, SMALL, (1, 3), (1, 9)),
    Case("FB15k-237", 1000, LARGE, (1, 2), (1, 5)),
    Case("power law", 100, SMALL, (1, 2), (1, 2)),
]
# Quality on FB15k-237: 10 epochs of the second case.
QUALITY: dict[str, object] = {**LARGE, "epochs": 10}


def write_power_law(path: Path, nodes: int, edges: int) -> None:
    """A prepared graph whose degrees follow a power law: one relation among `nodes` entities."""
    rng = np.random.default_rng(1)
    label = rng.permutation(nodes).astype(np.int32)
    src, dst = (label[(nodes * rng.random(int(edges * 1.05)) ** 2).astype(np.int64)] for _ in range(2))
    keys = np.unique(src.astype(np.int64) * nodes + dst)
    keys = keys[rng.permutation(len(keys))[:edges]]
    write_prepared(path, nodes, (keys // nodes).astype(np.int32), (keys % nodes).astype(np.int32))


def write_prepared(path: Path, nodes: int, src: npt.NDArray[np.int32], dst: npt.NDArray[np.int32]) -> None:
    """A prepared graph of one relation among `nodes` entities."""
    for folder, name, array in (
        ("ids", "node", np.arange(nodes)),
        ("edges", "000.src", src),
        ("edges", "000.dst", dst),
    ):
        (path / folder).mkdir(parents=True, exist_ok=True)
        np.save(path / folder / f"{name}.npy", np.ascontiguousarray(array))
    relation = {"name": "links", "source": "node", "target": "node", "symmetric": False, "coverage": "high"}
    relation |= {"weight": False, "time": False, "valid": 0, "test": 0, "duplicates": 0, "self_loops": 0}
    graph = {"format_version": 1, "digest": f"{nodes}-{len(src)}", "split": None}
    graph |= {
        "entities": [{"name": "node", "id": "int64", "count": nodes}],
        "relations": [relation | {"edges": len(src)}],
    }
    (path / "graph.json").write_text(json.dumps(graph))


def run_case(graph: Path, settings: dict[str, object]) -> dict[str, float]:
    """Train once in this process; the peak of resident memory, and quality where the graph has test edges."""
    evaluate = settings.pop("evaluate")
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "graph").symlink_to(graph)
        train(load_prepared(Path(directory) / "graph"), Path(directory), TrainConfig.model_validate(settings))
        result = {"rss_mb": peak_memory()}
        if evaluate:
            from evaluation.links import evaluate_links

            overall = evaluate_links(Path(directory)).overall
            result |= {"mrr": overall.mrr, "hits_at_1": overall.hits_at_1, "hits_at_10": overall.hits_at_10}
    return result


def peak_memory() -> float:
    """The largest resident size of this process so far (MB); getrusage would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def timed(command: list[str]) -> tuple[float, str]:
    """CPU seconds of a process with its children, and the last line that it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:3]} ended with {process.returncode}")
        out.seek(0)
        lines = out.read().splitlines()
    return used.ru_utime + used.ru_stime, lines[-1] if lines else ""


def ours(
    graph: Path, settings: dict[str, object], epochs: int, evaluate: bool = False
) -> tuple[float, dict[str, float]]:
    """CPU seconds and what `run_case` found, in a process of its own."""
    asked = {"threads": 1, **settings, "epochs": epochs, "evaluate": evaluate}
    seconds, line = timed([sys.executable, __file__, "--case", str(graph), json.dumps(asked)])
    found: dict[str, float] = json.loads(line)
    return seconds, found


def machine() -> dict[str, float]:
    """This machine's limits on one thread: fp32 GEMM (GFLOP/s), copying (GB/s), random rows of 512 bytes (GB/s)."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2048, 2048), dtype=np.float32)
    block, rows = np.ones(2**27, dtype=np.uint8), rng.integers(0, 2**18, 2**18)
    copy, table = np.empty_like(block), np.ones((2**18, DIM), dtype=np.float32)
    rates = []
    works = (
        (lambda: a @ a, 2 * 2048**3),
        (lambda: np.copyto(copy, block), 2 * len(block)),
        (lambda: table[rows], table.nbytes),
    )
    for work, size in works:
        work()
        began = time.process_time()
        for _ in range(3):
            work()
        rates.append(3 * size / (time.process_time() - began) / 1e9)
    return {"gemm_gflops": rates[0], "copy_gbytes": rates[1], "gather_gbytes": rates[2]}


def compare(case: Case, graph: Path, biggraph: Path, rounds: int) -> dict[str, object]:
    """Both in turns; the median rates over the rounds (edges per CPU second)."""
    prepared = load_prepared(graph)
    edges = sum(len(relation.train) for relation in prepared.relations)
    archive = graph.with_name(f"{graph.name}.npz")
    if not archive.exists():
        columns = [(r.train.src, r.train.dst, np.full(len(r.train), i)) for i, r in enumerate(prepared.relations)]
        src, dst, rel = (np.concatenate(column).astype(np.int64) for column in zip(*columns, strict=True))
        np.savez(archive, src=src, dst=dst, rel=rel, nodes=prepared.entities[0].count)
    script = str(Path(__file__).with_name("train_pbg.py"))
    rates: tuple[list[float], list[float]] = ([], [])
    memory = 0.0
    for _ in range(rounds):
        seconds = [
            timed([str(biggraph), "-W", "ignore", script, str(archive), str(case.negatives), str(n)])[0]
            for n in case.theirs
        ]
        rates[0].append(edges * (case.theirs[1] - case.theirs[0]) / (seconds[1] - seconds[0]))
        found = [ours(graph, case.settings, n) for n in case.ours]
        rates[1].append(edges * (case.ours[1] - case.ours[0]) / (found[1][0] - found[0][0]))
        memory = max(memory, found[1][1]["rss_mb"])
    theirs, mine = map(statistics.median, rates)
    return {"graph": case.graph, "edges": edges, "negatives": case.negatives, "biggraph": theirs, "twhin": mine,
            "rounds": rates, "times": mine / theirs, "rss_mb": memory}  # fmt: skip


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--biggraph", type=Path, default=ROOT / ".cache" / "biggraph")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_case(Path(asked.case[0]), json.loads(asked.case[1]))))
        return
    biggraph, limits = train_pbg.environment(asked.biggraph.absolute()), machine()
    print(
        f"machine, one thread: GEMM {limits['gemm_gflops']:.0f} GFLOP/s, copy {limits['copy_gbytes']:.1f} GB/s, "
        f"random rows {limits['gather_gbytes']:.1f} GB/s"
    )
    print("| graph | edges | negatives | PyTorch-BigGraph | twhin | times | GFLOP/s | MB |\n" + "|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as directory:
        graphs = graphs_in(Path(directory), asked)
        rows = [
            report(compare(case, graphs[case.graph], biggraph, asked.rounds)) for case in CASES if case.graph in graphs
        ]
        if "FB15k-237" in graphs:
            seconds, found = ours(graphs["FB15k-237"], QUALITY, 10, evaluate=True)
            print(f"FB15k-237, 1,000 negatives, 10 epochs, {seconds:.0f} CPU s with evaluation: {json.dumps(found)}")
            rows.append({"graph": "FB15k-237", **QUALITY, **found})
    if asked.json:
        asked.json.write_text(json.dumps({"machine": limits, "rows": rows}, indent=1))


def graphs_in(directory: Path, asked: argparse.Namespace) -> dict[str, Path]:
    """The graphs by name, prepared; FB15k-237 where it is at hand."""
    from graph.prepare import prepare

    graphs = {}
    if (asked.data / "fb15k-237").is_dir():
        graphs["FB15k-237"] = prepare(asked.data / "fb15k-237" / "graph.toml", directory / "fb15k").path
    graphs["power law"] = directory / "power-law"
    write_power_law(graphs["power law"], asked.nodes, asked.edges)
    return graphs


def report(row: dict[str, object]) -> dict[str, object]:
    """Print one row."""
    rate, negatives = float(str(row["twhin"])), int(str(row["negatives"]))
    products = rate * 2 * negatives * DIM * 2 * 3 / 1e9
    print(
        f"| {row['graph']} | {row['edges']:,} | {negatives} | {row['biggraph']:,.0f} | {rate:,.0f} | "
        f"{row['times']:.1f} | {products:.0f} | {row['rss_mb']:.0f} |",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
