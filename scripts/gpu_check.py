"""What a machine with a GPU is asked in a quarter of an hour: is it right, how fast is it, where does the time go?

    python scripts/gpu_check.py --collect FOLDER                  # where all is installed: copies the libraries needed
    python scripts/gpu_check.py --libraries FOLDER --json FILE    # on the bare machine: torch with CUDA, and Triton
    python scripts/gpu_check.py --device cpu --small              # the rehearsal

Ends within --seconds (480): correctness first, then rates, each part only while there is time for it. Every finished
part is printed and written to --json at once, so that nothing is lost when the machine is taken away. Parts run in a
process of their own; one that hangs, dies or leaves the card unusable is replaced, and the next part goes on.
"""

import argparse
import importlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# What the trainer imports beside torch, and pytest for the tests; a folder of them goes where nothing is installed.
LIBRARIES = (
    "numpy", "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "jaxtyping",
    "wadler_lindig", "psutil", "pytest", "iniconfig", "pluggy", "packaging", "pygments",
)  # fmt: skip
TESTS = (
    "tests/integration/training/test_cuda.py",
    "tests/unit/training/test_triton_update.py",
    "tests/unit/training/test_triton_step.py",
)
# After 200 updates: the devices add up in another order, and Adagrad's first steps enlarge a difference near zero.
LOSS_TOLERANCE = 0.005
UPDATES = 200


@dataclass(frozen=True)
class Sizes:
    """How large everything is: on a card, and in the rehearsal."""

    nodes: int
    edges: int
    seconds: float
    chunks: int
    vectors: int
    dims: tuple[int, ...]
    negatives: tuple[int, ...]


FULL = Sizes(20_000_000, 100_000_000, 5.0, 1024, 1_000_000, (128, 256), (100, 1000))
SMALL = Sizes(2_000, 20_000, 0.2, 4, 2_000, (32,), (20,))


@dataclass(frozen=True)
class Part:
    """What is asked: it takes about `needs` seconds, without which it is left out, and is stopped after `limit`."""

    needs: float
    limit: float
    work: Callable[[], Any]


@dataclass
class Check:
    """What the parts share in the process that does them: the large edges, once they are made."""

    device: str
    sizes: Sizes
    made: "World | None" = None

    def world(self) -> "World":
        """Edges, schedule and tables, made at the first call."""
        if self.made is None:
            self.made = world(self.sizes.nodes, self.sizes.edges, self.device)
        return self.made


@dataclass
class Report:
    """The parts so far, and the time that is left."""

    device: str
    deadline: float
    out: Path | None
    parts: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, found: Any, began: float) -> None:
        """Print a part and write all that there are."""
        self.parts[name] = {"result": found, "seconds": round(time.monotonic() - began, 1)}
        print(f"{name} ({self.parts[name]['seconds']} s)\n  {json.dumps(found)}", flush=True)
        if self.out:
            self.out.write_text(json.dumps({"device": self.device, "parts": self.parts}, indent=1))

    def right(self) -> bool:
        """Whether nothing is wrong."""
        results = [part["result"] for part in self.parts.values()]
        return not any(
            isinstance(r, dict) and ("failed" in r or r.get("right") is False or r.get("exit")) for r in results
        )


class Worker:
    """The process that does parts."""

    def __init__(self, device: str, small: bool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._asked, there = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(there, device, small), daemon=True)
        self._process.start()
        there.close()

    def ask(self, name: str, seconds: float) -> Any:
        """What the part of that name found, or how it failed."""
        try:
            self._asked.send(name)
            if self._asked.poll(seconds):
                return self._asked.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return {"failed": f"its process ended with status {self._process.exitcode}"}
        return {"failed": f"no answer within {seconds:.0f} s"}

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._process.kill()
        self._process.join()


def serve(asked: Connection, device: str, small: bool) -> None:
    """Do the parts whose names come in, until there are no more; a failure is a result too."""
    parts = plan(Check(device, SMALL if small else FULL))
    while True:
        try:
            name = asked.recv()
        except EOFError:
            return
        try:
            found = parts[name].work()
        except Exception as error:  # what fails on this machine is what is asked
            found = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        asked.send(found)


def machine(device: str) -> dict[str, Any]:
    """The card, its driver, versions, and its limits: products (TFLOP/s) and a copy (GB/s)."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0]}
    found["triton"] = importlib.util.find_spec("triton") is not None
    if device != "cpu":
        found["card"] = torch.cuda.get_device_name(device)
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        if shutil.which("nvidia-smi"):
            found["driver"] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    size = 8192 if device != "cpu" else 512
    for name, numbers, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(size, size, device=device, dtype=numbers)
        found[f"{name}_tflops"] = round(2 * size**3 / timed(partial(torch.matmul, a, a), device) / 1e12, 2)
    torch.backends.cuda.matmul.allow_tf32 = False
    block = torch.empty(size * size * 4, device=device)
    found["copy_gbytes"] = round(2 * block.nbytes / timed(block.clone, device) / 1e9, 1)
    return found


def timed(work: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Seconds a call, after one to warm up."""
    work()
    finish(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    finish(device)
    return (time.perf_counter() - began) / repeats


def finish(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def run_tests(file: str, seconds: float) -> dict[str, Any]:
    """Tests of the GPU paths, in a process of their own; of those that do not end, what there is."""
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]
    command += ["--confcutdir=tests/integration/training", file]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return {"failed": f"not done within {seconds:.0f} s", "end": said.splitlines()[-15:]}
    return {"exit": done.returncode, "end": done.stdout.splitlines()[-15:], "errors": done.stderr[-500:]}


def random_edges(nodes: int, edges: int, device: str) -> Any:
    """Edges of four relations whose ends follow a power law, made and sorted on the device; equal pairs stay in."""
    import numpy as np
    import torch

    from training.edges import Adjacency, BucketEdges

    generator = torch.Generator(device).manual_seed(1)

    def ends() -> torch.Tensor:
        drawn = torch.rand(edges, device=device, generator=generator) ** 1.5 * nodes
        return drawn.int().clamp_(max=nodes - 1)

    src = ends().sort().values
    dst, rel = ends(), torch.randint(0, 4, (edges,), device=device, generator=generator, dtype=torch.int32)
    columns = [column.cpu().numpy() for column in (dst, src, rel)]
    nothing = Adjacency(
        np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)
    )  # the device indexes itself
    return BucketEdges(0, 0, nodes, nodes, *columns, None, nothing, nothing)


@dataclass(frozen=True)
class World:
    """Edges, the order in which they are trained, and tables by dimension, which take longer to make than to use."""

    edges: Any
    schedule: Any
    tables: dict[int, Any] = field(default_factory=dict)

    def table(self, dim: int) -> Any:
        """Vectors of 65,536 rows, repeated: a normal number for each coordinate would take a minute."""
        import numpy as np

        from training.model import EmbeddingTable

        if dim not in self.tables:
            rows = self.edges.n_source
            block = np.random.default_rng(1).standard_normal((2**16, dim), dtype=np.float32) * np.float32(
                0.1 * dim**-0.5
            )
            vectors = np.concatenate([block] * (rows // 2**16 + 1))[:rows] if rows > 2**16 else block[:rows].copy()
            self.tables[dim] = EmbeddingTable(vectors, np.zeros(rows, dtype=np.float32))
        return self.tables[dim]


def world(nodes: int, edges: int, device: str) -> World:
    """Power-law edges and their schedule, in chunks of 64."""
    from training.chunks import make_schedule

    made = random_edges(nodes, edges, device)
    return World(made, make_schedule((made,), 64, 1))


def session(made: World, device: str, chunks: int, **settings: object) -> Any:
    """A bucket of these edges open for training there."""
    import numpy as np

    from training.backends.base import BucketWork
    from training.backends.torch_backend import TorchBackend
    from training.config import TrainConfig
    from training.model import zero_relations

    config = TrainConfig.model_validate({"device": device, "chunks_per_update": chunks, **settings})
    table, weights = (made.table(config.dim),), np.ones(4, dtype=np.float32)
    work = BucketWork((made.edges,), table, table, zero_relations(4, config.dim), weights, made.schedule)
    return TorchBackend(config, 1, copies=True).open(work)


def same_loss(device: str) -> dict[str, Any]:
    """The loss of 200 updates there and on the CPU: the same draws, the same order."""
    made = world(2_000, 4 * UPDATES * 64, "cpu")
    losses = {}
    for where in ("cpu", device):
        opened = session(made, where, 4, dim=64, negatives_in_batch=32, negatives_uniform=32, products="float32")
        losses[where] = opened.run(0, 4 * UPDATES)
    found = {where: result.loss / result.edges for where, result in losses.items()}
    apart = abs(found[device] / found["cpu"] - 1)
    return {"loss": found, "apart": apart, "tolerance": LOSS_TOLERANCE, "right": apart < LOSS_TOLERANCE}


class _Stop:
    """A progress that stops training in its second epoch."""

    def stage(self, name: str, total: int | None, unit: str) -> Any:
        from bundle.progress import SILENT

        if name.startswith("epoch 2"):
            raise KeyboardInterrupt
        return SILENT.stage(name, total, unit)


def resumed(device: str) -> dict[str, Any]:
    """A run that is stopped and resumed there ends as one that is not."""
    import numpy as np

    from bundle.prepared import load_prepared
    from training.config import TrainConfig
    from training.train import train

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_graph(directory / "graph", 500, 5_000)
        settings = {"device": device, "backend": "torch", "products": "float32", "dim": 32, "epochs": 3, "threads": 1}
        config = TrainConfig.model_validate({**settings, "partitions": 2, "checkpoint_seconds": 1e-3})
        graph = load_prepared(directory / "graph")
        train(graph, directory / "whole", config)
        try:
            train(graph, directory / "stopped", config, progress=_Stop())
            raise RuntimeError("it did not stop")
        except KeyboardInterrupt:
            pass
        train(graph, directory / "stopped", config, resume=True)
        one, other = (np.load(directory / run / "vectors" / "node.npy") for run in ("whole", "stopped"))
    apart = float(np.linalg.norm(one - other) / np.linalg.norm(one))
    return {"apart": apart, "tolerance": 1e-3, "right": apart < 1e-3}


def write_graph(path: Path, nodes: int, edges: int) -> None:
    """A prepared graph of one relation, with power-law ends."""
    import numpy as np

    rng = np.random.default_rng(1)
    src, dst = ((nodes * rng.random(edges) ** 1.5).astype(np.int64) for _ in range(2))
    keys = np.unique(src * nodes + dst)
    ids = np.arange(nodes, dtype=np.int64)
    ends = (keys // nodes).astype(np.int32), (keys % nodes).astype(np.int32)
    for file, array in (("ids/node", ids), ("edges/000.src", ends[0]), ("edges/000.dst", ends[1])):
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        np.save(path / f"{file}.npy", array)
    relation = {"name": "links", "source": "node", "target": "node", "symmetric": False, "coverage": "high"}
    relation |= {"weight": False, "time": False, "valid": 0, "test": 0, "duplicates": 0, "self_loops": 0}
    record = {"format_version": 1, "digest": "made", "split": None, "relations": [relation | {"edges": len(keys)}]}
    record["entities"] = [{"name": "node", "id": "int64", "count": nodes}]
    (path / "graph.json").write_text(json.dumps(record))


def bytes_moved(dim: int, negatives: int, chunk: int, in_batch: int) -> float:
    """Bytes an edge at the least: each row that a chunk touches is read, its gradient written and read, and the row
    read and written by the update. In-batch negatives are rows that are there already."""
    rows = 2 * chunk + 2 * (negatives - in_batch)
    return rows * dim * 4 * 5 / chunk


def rate(check: Check, dim: int, negatives: int, numbers: str) -> dict[str, Any]:
    """Edges a second, waiting for the device included, with memory and time by kernel."""
    import torch

    made = check.world()
    in_batch = min(64, negatives // 2)
    torch.backends.cuda.matmul.allow_tf32 = numbers == "tf32"
    settings: dict[str, object] = {
        "dim": dim,
        "negatives_in_batch": in_batch,
        "negatives_uniform": negatives - in_batch,
    }
    settings["products"] = "bfloat16" if numbers == "bfloat16" else "float32"
    chunks = max(1, check.sizes.chunks * 100 // negatives // (dim // 128 or 1))
    if check.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(check.device)
    opened, schedule = session(made, check.device, chunks, **settings), made.schedule
    span = min(8 * chunks, len(schedule) // 4 // chunks * chunks or chunks)
    opened.run(0, span)
    finish(check.device)
    at, seen, began = span, 0, time.perf_counter()
    while at + span <= len(schedule) and time.perf_counter() - began < check.sizes.seconds:
        seen += opened.run(at, at + span).edges
        at += span
    found = seen / (time.perf_counter() - began)
    moved = bytes_moved(dim, negatives, 64, in_batch)
    result = {"edges_per_second": round(found), "chunks_per_update": chunks, "kilobytes_an_edge": round(moved / 1e3, 1)}
    result |= {"gbytes_per_second": round(found * moved / 1e9, 1)}
    result |= {"tflops": round(found * 2 * 3 * 2 * dim * negatives / 1e12, 2)}
    if check.device != "cpu":
        result["memory_gb"] = round(torch.cuda.max_memory_allocated(check.device) / 1e9, 2)
    try:
        result["kernels"] = kernels(opened, at if at + span <= len(schedule) else 0, span)
    except Exception as error:  # the profiler may lack what it needs: the rate stands without it
        result["kernels"] = {"failed": f"{type(error).__name__}: {error}"[:500]}
    return result


def rate_without_triton(check: Check, dim: int, negatives: int, numbers: str) -> dict[str, Any]:
    """The same by torch alone, as where Triton is not installed."""
    before = sys.modules.get("triton")
    sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        return rate(check, dim, negatives, numbers)
    finally:
        del sys.modules["triton"]
        if before is not None:
            sys.modules["triton"] = before


def kernels(opened: Any, at: int, span: int) -> dict[str, float]:
    """Of one more span, the share of the device's time (of the CPU's, there) that the eight longest kernels take."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
        opened.run(at, at + span)
    times = {
        e.key[:80]: float(e.self_device_time_total if gpu else e.self_cpu_time_total) for e in found.key_averages()
    }
    whole = sum(times.values()) or 1.0
    return {name: round(times[name] / whole, 3) for name in sorted(times, key=times.__getitem__, reverse=True)[:8]}


def streamed(check: Check) -> dict[str, Any]:
    """Edges a second of an epoch whose partitions come from disk, four of them, beside one that holds all."""
    from bundle.prepared import load_prepared
    from training.config import TrainConfig
    from training.train import train

    found = {}
    with tempfile.TemporaryDirectory() as name:
        graph = Path(name) / "graph"
        write_graph(graph, check.sizes.nodes // 20, check.sizes.edges // 20)
        for partitions in (1, 4):
            settings = {"device": check.device, "backend": "torch", "dim": check.sizes.dims[0], "epochs": 1}
            settings |= {"chunks_per_update": check.sizes.chunks, "partitions": partitions, "products": "float32"}
            settings |= {"negatives_in_batch": 50, "negatives_uniform": 50}
            config = TrainConfig.model_validate(settings)
            summary = train(load_prepared(graph), Path(name) / f"run-{partitions}", config)
            found[f"P={partitions}"] = round(summary.edges_per_second)
    return found


def index_builds(check: Check) -> dict[str, Any]:
    """Seconds of k-means and of PQ codebooks with codes by FAISS, on one core and on the card."""
    if importlib.util.find_spec("faiss") is None:
        return {"skipped": "no faiss here"}
    import numpy as np

    faiss = importlib.import_module("faiss")
    cards = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    dim = check.sizes.dims[0]
    vectors = np.random.default_rng(1).standard_normal((check.sizes.vectors, dim), dtype=np.float32)
    found: dict[str, Any] = {"cards": cards}
    for where in ("one core", *(["card"] if cards else [])):
        faiss.omp_set_num_threads(1)
        began = time.perf_counter()
        kmeans = faiss.Kmeans(dim, min(1024, check.sizes.vectors // 40), niter=5, gpu=where == "card")
        kmeans.train(vectors[: 256 * kmeans.k])
        found[f"k-means, {where}"] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()
        quantizer = faiss.ProductQuantizer(dim, dim // 4, 8)
        if where == "card":
            quantizer.assign_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(quantizer.dsub))
        quantizer.train(vectors[:65_536] if len(vectors) >= 9_984 else np.resize(vectors, (9_984, dim)))
        quantizer.compute_codes(vectors)
        found[f"PQ, {where}"] = round(time.perf_counter() - began, 3)
    return found


def collect(folder: Path) -> None:
    """Copy the libraries from this environment, with what they say of themselves (some ask for their own version)."""
    from importlib.metadata import distribution, packages_distributions

    folder.mkdir(parents=True, exist_ok=True)
    left_out = shutil.ignore_patterns(
        "tests", "__pycache__", "include", "f2py", "_pyinstaller", "*.pyi", "*.a", "*_tests.*"
    )
    for name in LIBRARIES:
        for found in {distribution(each) for each in packages_distributions().get(name, ())}:
            tops = {file.parts[0] for file in found.files or () if file.parts[0] != ".."}
            for source in (Path(str(found.locate_file(top))) for top in tops - {"__pycache__"}):
                if source.is_dir():
                    shutil.copytree(source, folder / source.name, dirs_exist_ok=True, ignore=left_out)
                else:
                    shutil.copy(source, folder / source.name)


def plan(check: Check) -> dict[str, Part]:
    """All parts in order."""
    device, sizes, full = check.device, check.sizes, check.sizes is FULL

    def part(needs: float, limit: float, work: Callable[[], Any]) -> Part:
        return Part(needs, limit, work) if full else Part(1, 480, work)

    parts = {"machine": part(10, 60, lambda: machine(device))}
    for file in TESTS if full else ():
        parts[file] = part(20, 100, partial(run_tests, file, 90))
    parts["loss after 200 updates as on the CPU"] = part(20, 60, lambda: same_loss(device))
    parts["stopped and resumed"] = part(20, 60, lambda: resumed(device))
    made = f"{sizes.edges:,} edges, {sizes.nodes:,} nodes"
    parts["edges"] = part(40, 90, lambda: made if check.world() else None)
    for dim in sizes.dims:
        for negatives in sizes.negatives:
            for numbers in ("float32", "tf32", "bfloat16"):
                name = f"d = {dim}, {negatives} negatives, {numbers}"
                parts[name] = part(25, 75, partial(rate, check, dim, negatives, numbers))
    least = (sizes.dims[0], sizes.negatives[0], "float32")
    parts["without Triton, d = {}, {} negatives, {}".format(*least)] = part(
        25, 75, partial(rate_without_triton, check, *least)
    )
    parts["partitions from disk"] = part(45, 90, lambda: streamed(check))
    parts["k-means and PQ"] = part(40, 90, lambda: index_builds(check))
    return parts


def run(report: Report, small: bool) -> bool:
    """Do all parts in order, each while there is time; True when nothing is wrong."""
    worker: Worker | None = None
    for name, part in plan(Check(report.device, SMALL if small else FULL)).items():
        began = time.monotonic()
        left = report.deadline - began
        if left < part.needs:
            report.add(name, {"skipped": f"{max(left, 0):.0f} s left, about {part.needs:.0f} needed"}, began)
            continue
        worker = worker or Worker(report.device, small)
        found = worker.ask(name, min(part.limit, left))
        if isinstance(found, dict) and "failed" in found:  # after some errors a card serves its process no more
            worker.end()
            worker = None
        report.add(name, found, began)
    if worker is not None:
        worker.end()
    return report.right()


def main() -> None:
    """Check the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--small", action="store_true", help="the rehearsal's sizes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--libraries", type=Path, help="a folder that --collect made")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="copy the libraries and end")
    asked = parser.parse_args()
    if asked.collect:
        collect(asked.collect)
        return
    sys.path.insert(0, str(ROOT))
    if asked.libraries:
        sys.path.append(str(asked.libraries.absolute()))
    right = run(Report(asked.device, time.monotonic() + asked.seconds, asked.json), asked.small)
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
