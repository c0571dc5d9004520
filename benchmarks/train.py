"""The trainer's speed, memory and quality, seeded, beside what this machine's arithmetic and memory can do.

    python benchmarks/train.py [--data ../shared/data] [--nodes 1000000 --edges 10000000] [--json FILE]

Rates are edges per second of CPU time in the epochs alone, all threads added up, so other load on the machine
matters little; what a second thread brings is by the clock, for which the machine should be idle. PyTorch-BigGraph's
figures were taken on another day on another 2-core machine (fp32 GEMM 85 to 97 GFLOP/s on one thread).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from bundle.prepared import load_prepared  # noqa: E402
from bundle.progress import SilentStage, Stage  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.train import train  # noqa: E402

PBG = {100: 39_000, 1000: 16_000}
NEGATIVES = {
    100: {"chunk": 64, "negatives_in_batch": 50, "negatives_uniform": 50},
    1000: {"chunk": 256, "negatives_in_batch": 200, "negatives_uniform": 800},
}
FB15K = {
    "epochs": 10,
    "chunk": 64,
    "negatives_in_batch": 0,
    "negatives_uniform": 1000,
    "learning_rate": 0.05,
    "init_scale": 0.01,
}


class Watch:
    """A progress that times the epochs."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        """Add an epoch's seconds."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield SilentStage()
        if name.startswith("epoch"):
            self.cpu += time.process_time() - cpu
            self.wall += time.perf_counter() - wall


def write_power_law(path: Path, nodes: int, edges: int) -> None:
    """A prepared graph whose degrees follow a power law: one relation among `nodes` entities."""
    rng = np.random.default_rng(1)
    label = rng.permutation(nodes).astype(np.int32)
    src, dst = (label[(nodes * rng.random(int(edges * 1.05)) ** 2).astype(np.int64)] for _ in range(2))
    keys = np.unique(src.astype(np.int64) * nodes + dst)
    keys = keys[rng.permutation(len(keys))[:edges]]
    for folder, name, array in (
        ("ids", "node", np.arange(nodes, dtype=np.int64)),
        ("edges", "000.src", (keys // nodes).astype(np.int32)),
        ("edges", "000.dst", (keys % nodes).astype(np.int32)),
    ):
        (path / folder).mkdir(parents=True, exist_ok=True)
        np.save(path / folder / f"{name}.npy", array)
    relation = {"name": "links", "source": "node", "target": "node", "symmetric": False, "coverage": "high"}
    relation |= {"weight": False, "time": False, "valid": 0, "test": 0, "duplicates": 0, "self_loops": 0}
    graph = {"format_version": 1, "digest": f"{nodes}-{edges}", "split": None}
    graph |= {
        "entities": [{"name": "node", "id": "int64", "count": nodes}],
        "relations": [relation | {"edges": len(keys)}],
    }
    (path / "graph.json").write_text(json.dumps(graph))


def run_case(graph: Path, settings: dict[str, object]) -> dict[str, float]:
    """Train once in this process; rates of the epochs and the peak of resident memory."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "graph").symlink_to(graph)
        prepared = load_prepared(Path(directory) / "graph")
        summary = train(prepared, Path(directory), TrainConfig.model_validate(settings), progress=watch)
        result = {
            "edges_per_cpu_second": summary.edges_seen / watch.cpu,
            "edges_per_second": summary.edges_seen / watch.wall,
        }
        if any(len(relation.test) for relation in prepared.relations):
            from evaluation.links import evaluate_links

            overall = evaluate_links(Path(directory)).overall
            result |= {"mrr": overall.mrr, "hits_at_1": overall.hits_at_1, "hits_at_10": overall.hits_at_10}
    return result | {"rss_mb": peak_memory()}


def peak_memory() -> float:
    """The largest resident size of this process so far (MB); getrusage would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def in_child(graph: Path, settings: dict[str, object]) -> dict[str, float]:
    """`run_case` in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--case", str(graph), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def machine() -> dict[str, float]:
    """This machine's limits on one thread: fp32 GEMM (GFLOP/s) and copying (GB/s)."""
    a = np.random.default_rng(1).standard_normal((2048, 2048), dtype=np.float32)
    block = np.ones(2**27, dtype=np.uint8)
    copy = np.empty_like(block)
    rates = []
    for work, size in ((lambda: a @ a, 2 * 2048**3), (lambda: np.copyto(copy, block), 2 * len(block))):
        work()
        began = time.process_time()
        for _ in range(3):
            work()
        rates.append(3 * size / (time.process_time() - began) / 1e9)
    return {"gemm_gflops": rates[0], "copy_gbytes": rates[1]}


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_case(Path(asked.case[0]), json.loads(asked.case[1]))))
        return
    limits = machine()
    print(f"machine, one thread: GEMM {limits['gemm_gflops']:.0f} GFLOP/s, copy {limits['copy_gbytes']:.1f} GB/s")
    print("| graph | negatives | threads | edges/CPU-s | × PBG | GFLOP/s | edges/s | MB | MRR | H@1 | H@10 |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        rows = power_law_rows(Path(directory), asked) + fb15k_rows(Path(directory), asked.data)
    second_thread(rows)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": limits, "rows": rows}, indent=1))


def power_law_rows(directory: Path, asked: argparse.Namespace) -> list[dict[str, object]]:
    """Speed and memory on one and on two threads; at 1000 negatives with a tenth of the edges."""
    rows = []
    for negatives, shape in NEGATIVES.items():
        graph, edges = directory / f"power-law-{negatives}", asked.edges * 100 // negatives
        write_power_law(graph, asked.nodes, edges)
        for threads in (1, 2):
            settings: dict[str, object] = {"dim": asked.dim, "epochs": 1, "threads": threads, **shape}
            name = f"{asked.nodes:,} nodes, {edges:,} edges"
            rows.append(report(name, negatives, settings, in_child(graph, settings)))
    return rows


def fb15k_rows(directory: Path, data: Path) -> list[dict[str, object]]:
    """Quality on FB15k-237, where it is at hand."""
    if not (data / "fb15k-237").is_dir():
        return []
    from graph.prepare import prepare

    graph = prepare(data / "fb15k-237" / "graph.toml", directory / "fb15k").path
    settings: dict[str, object] = {"threads": 1, **FB15K}
    return [report("FB15k-237", 1000, settings, in_child(graph, settings))]


def second_thread(rows: list[dict[str, object]]) -> None:
    """Print what two threads bring by the clock."""
    for one, two in zip(rows[:4:2], rows[1:4:2], strict=True):
        times = float(str(two["edges_per_second"])) / float(str(one["edges_per_second"]))
        print(f"second thread at {one['negatives']} negatives: {times:.2f} times the edges per second")


def report(graph: str, negatives: int, settings: dict[str, object], found: dict[str, float]) -> dict[str, object]:
    """Print one row and give it as data."""
    rate = found["edges_per_cpu_second"]
    flops = rate * 2 * negatives * int(str(settings.get("dim", 128))) * 2 * 3 / 1e9
    quality = " | ".join(f"{found[name]:.3f}" if name in found else "" for name in ("mrr", "hits_at_1", "hits_at_10"))
    print(
        f"| {graph} | {negatives} | {settings['threads']} | {rate:,.0f} | {rate / PBG[negatives]:.1f} | {flops:.0f} | "
        f"{found['edges_per_second']:,.0f} | {found['rss_mb']:.0f} | {quality} |",
        flush=True,
    )
    return {"graph": graph, "negatives": negatives, **settings, **found}


if __name__ == "__main__":
    main()
