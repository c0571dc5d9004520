"""Searchers side by side: hnswlib, FAISS HNSW, usearch and what a build would choose, in CPU time, recall beside it.

    python -m benchmarks.index                       200,000 × 128 clustered vectors
    python -m benchmarks.index --rows 1000000        the full set; an hour of two cores
    python -m benchmarks.index --bundle VERSION_DIR  the real vectors and queries of a version's default type
    python -m benchmarks.index --trained 1000000     the vectors of a generated graph of so many users, trained shortly
    python -m benchmarks.index --open VERSION_DIR    how long a version takes until it answers
    python -m benchmarks.index --forms               `ivf4` over float16 and int8 rows besides

Everything is seeded. A query is asked alone on one thread, as a service does; its time is the thread's CPU time, the
best of three passes. Ours are the searchers of the service, with checks and exact scores; the others are called
directly, and ScaNN, where it is installed. With a version all hold its popularity column scaled
(decision 11). At the end stands how near `ivf4` comes to what the machine can do. `--work DIR` keeps what was
built, so that building and timing can be done apart.
"""

import argparse
import functools
import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from usearch.index import Index as Usearch

from benchmarks.roofline import Machine, in_words, measured_machine, work_of
from benchmarks.trained import trained
from bundle.reader import open_bundle
from bundle.rows import CompactKind, CompactRows, ScoredRows, encoded
from index.builder.config import IndexConfig
from index.builder.devices import find_device, one_thread
from index.builder.fit_projection import STEP, fit_projection
from index.builder.indexes import write_index
from index.builder.measure import find_truth, recall_of
from index.builder.queries import RealQueries
from index.builder.spec import IndexSpec, specs_for
from index.search.ivf4 import Ivf4Searcher
from index.search.open import open_searcher, read_searcher
from index.search.projection import scaled_projection
from index.search.protocol import Hits
from index.search.ranking import exact_scores, ranked

Array = npt.NDArray[np.float32]
DEPTHS = (50, 60, 80, 100, 150, 200, 300, 500, 800, 1600)
PASSES = 3
QUERIES = 800  # half of them to learn from, half to ask
CENTRES, SPREAD, INNER_DIM = 4000, 0.5, 32
FLOORS = (0.95, 0.99)
FORMS: tuple[CompactKind, ...] = ("float16", "int8")
SCANN_LEAVES, SCANN_REORDERED = (10, 20, 40, 60, 80, 120, 160, 320), 200


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration at one depth."""

    library: str
    setting: str
    recall: float
    cpu_us: float
    bytes_per_vector: float
    build_cpu_seconds: float
    open_seconds: float
    spec: IndexSpec | None = None  # of ours


def clustered(rows: int, dim: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Vectors about centres of uneven size and length, and queries drawn alike.

    About a centre they spread in 32 directions, as learnt embeddings do: noise in all 128 has no neighbours.
    """
    centres = rng.normal(0, 1, (CENTRES, dim)).astype(np.float32) * rng.gamma(9, 1 / 9, (CENTRES, 1)).astype(np.float32)
    sizes = rng.zipf(1.3, CENTRES).clip(max=1000).astype(np.float64)
    directions = (rng.normal(0, 1, (INNER_DIM, dim)) / np.sqrt(INNER_DIM / 4)).astype(np.float32)

    def drawn(n: int) -> Array:
        chosen = rng.choice(CENTRES, n, p=sizes / sizes.sum())
        spread: Array = SPREAD * rng.normal(0, 1, (n, INNER_DIM)).astype(np.float32) @ directions
        return centres[chosen] + spread

    return drawn(rows), drawn(QUERIES)


def of_bundle(path: Path) -> tuple[Array, Array]:
    """The vectors of a version's default candidate type, and blended queries of its users."""
    space = open_bundle(path).space()
    default = space.entry.default
    relation = space.relation(default.relation)
    users, targets = space.table(default.user_type), space.table(default.candidate_type)
    known = np.flatnonzero(relation.targets.degrees() >= 3)
    queries = []
    for user in np.random.default_rng(1).choice(known, QUERIES):
        folded = targets.embeddings[relation.targets.row(int(user))].mean(axis=0)
        queries.append(np.append(0.3 * users.embeddings[user] + 0.7 * folded + relation.forward, np.float32(0.3)))
    return np.array(targets.vectors), np.stack(queries).astype(np.float32)


class Task:
    """Vectors and queries with the exact answers, the same scaled as the libraries get them, and where to build."""

    def __init__(self, vectors: Array, queries: Array, k: int, scale: float, directory: Path, dim: int) -> None:
        half = len(queries) // 2
        self.vectors, self.dim = vectors, dim
        self.learning = RealQueries(queries[:half], ("query",), np.zeros(half, dtype=np.int64))
        asked = RealQueries(queries[half:], ("query",), np.zeros(len(queries) - half, dtype=np.int64))
        self.truth = find_truth(vectors, asked, k)
        self.k = self.truth.k
        self.queries = asked.queries
        self.scale = scale
        self.directory = directory

    @functools.cached_property
    def scaled_vectors(self) -> Array:
        """The last column times the scale."""
        return _with_last_column(self.vectors, self.scale)

    @functools.cached_property
    def scaled_queries(self) -> Array:
        """The last coordinate divided by it."""
        return _with_last_column(self.queries, 1 / self.scale)

    def ask(self, search: Callable[[Array], npt.NDArray[np.integer]], queries: Array) -> tuple[float, float]:
        """Recall, and CPU microseconds of one query asked alone."""
        spent = []
        with one_thread():
            search(queries[:1])
            for _ in range(PASSES):
                started = time.thread_time()
                found = [search(queries[i : i + 1]) for i in range(len(queries))]
                spent.append(time.thread_time() - started)
        hits = []
        for query, rows in zip(self.queries, found, strict=True):
            kept = np.unique(rows[rows >= 0]).astype(np.int32)
            hits.append(Hits(kept, exact_scores(self.vectors, query, kept)))
        return float(recall_of(hits, self.truth).mean()), 1e6 * min(spent) / len(queries)

    def built(self, path: Path, build: Callable[[], None]) -> float:
        """CPU seconds that `build` took to write `path`, now or when the file was made."""
        note = path.with_name(path.name + ".seconds")
        if not note.exists():
            started = time.process_time()
            build()
            note.write_text(str(time.process_time() - started))
        return float(note.read_text())

    def point(self, library: str, setting: str, measured: tuple[float, float], path: Path, *cost: float) -> Point:
        """A row of the table; `cost` is the CPU seconds of building and the seconds of opening."""
        size = path.stat().st_size if path.exists() else self.vectors.nbytes
        build, opened = cost
        return Point(library, setting, *measured, size / len(self.vectors), build, opened)


def _with_last_column(rows: Array, scale: float) -> Array:
    if scale == 1:
        return rows
    scaled = rows.copy()
    scaled[:, -1] *= np.float32(scale)
    return scaled


def with_hnswlib(task: Task) -> Iterator[Point]:
    """hnswlib with M = 16 and a build depth of 200."""
    path = task.directory / "plain.hnsw"
    dim = task.vectors.shape[1]

    def build() -> None:
        made = hnswlib.Index(space="ip", dim=dim)
        made.init_index(max_elements=len(task.vectors), M=16, ef_construction=200, random_seed=1)
        made.add_items(task.scaled_vectors)
        made.save_index(str(path))

    cost = task.built(path, build)
    index = hnswlib.Index(space="ip", dim=dim)
    started = time.perf_counter()
    index.load_index(str(path))
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        index.set_ef(depth)
        measured = task.ask(lambda q: index.knn_query(q, k=task.k, num_threads=1)[0], task.scaled_queries)
        yield task.point("hnswlib M=16", f"ef {depth}", measured, path, cost, opened)


def with_faiss_hnsw(task: Task) -> Iterator[Point]:
    """FAISS HNSW with M = 16 and a build depth of 200."""
    path = task.directory / "plain.faiss"

    def build() -> None:
        made = faiss.IndexHNSWFlat(task.vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = 200
        made.add(task.scaled_vectors)
        faiss.write_index(made, str(path))

    cost = task.built(path, build)
    started = time.perf_counter()
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        index.hnsw.efSearch = depth
        measured = task.ask(lambda q: index.search(q, task.k)[1], task.scaled_queries)
        yield task.point("FAISS HNSW16", f"ef {depth}", measured, path, cost, opened)


def with_usearch(task: Task) -> Iterator[Point]:
    """usearch with connectivity 16 and a build depth of 200, float32."""
    path = task.directory / "plain.usearch"

    def build() -> None:
        made = Usearch(ndim=task.vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
        made.add(np.arange(len(task.vectors)), task.scaled_vectors)
        made.save(str(path))

    cost = task.built(path, build)
    started = time.perf_counter()
    index: Any = Usearch.restore(str(path), view=True)
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        index.expansion_search = depth
        measured = task.ask(
            lambda q: np.asarray(index.search(q, task.k, threads=1).keys).astype(np.int64).ravel(), task.scaled_queries
        )
        yield task.point("usearch 16", f"ef {depth}", measured, path, cost, opened)


def with_scann(task: Task) -> Iterator[Point]:
    """ScaNN with a tree and 4-bit codes: on all columns, and on those that ours hold, with 2k scored exactly."""
    rng, width = np.random.default_rng(1), int(task.vectors.shape[1])
    ours = fit_projection(task.vectors, task.learning.queries, scale=task.scale, step=STEP, rng=rng)
    whole = scaled_projection(width, width, task.scale).for_queries
    yield from _scann(task, "ScaNN, all columns", task.scaled_vectors, whole, task.k)
    yield from _scann(task, "ScaNN, our columns", ours.of_vectors(task.vectors), ours.for_queries, 2 * task.k)


def _scann(task: Task, name: str, held: Array, for_queries: Array, final: int) -> Iterator[Point]:
    """Over `held`; of more than k answers the best k by exact scores are taken."""
    scann = importlib.import_module("scann.scann_ops.py.scann_ops_pybind")
    leaves = round(2 * len(held) ** 0.5)
    started = time.process_time()
    searcher = (
        scann.builder(held, final, "dot_product")
        .tree(num_leaves=leaves, num_leaves_to_search=20, training_sample_size=min(len(held), 100_000))
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(SCANN_REORDERED)
        .build()
    )
    cost = time.process_time() - started
    # What a row takes: its columns, a nibble for every two of them, and its number.
    size = 4 * held.shape[1] + held.shape[1] / 4 + 4
    for searched in SCANN_LEAVES:

        def search(q: Array, searched: int = searched) -> npt.NDArray[np.integer]:
            found, _ = searcher.search(
                (q @ for_queries)[0],
                final_num_neighbors=final,
                pre_reorder_num_neighbors=SCANN_REORDERED,
                leaves_to_search=searched,
            )
            rows: npt.NDArray[np.integer] = np.asarray(found)
            return rows if final == task.k else ranked(task.vectors, q[0], np.sort(rows), task.k).rows

        recall, cpu_us = task.ask(search, task.queries)
        yield Point(name, f"{leaves} leaves, {searched} searched", recall, cpu_us, size, cost, 0.0)


def with_build(task: Task, skipped: Collection[str], forms: Collection[CompactKind]) -> Iterator[Point]:
    """Every configuration that a build sweeps, through the searchers that the service uses; `ivf4` over compact rows
    of these forms too.
    """
    rows: dict[str, ScoredRows] = {"": task.vectors}
    for kind in forms:
        rows[f", {kind} rows"] = CompactRows(
            encoded(task.vectors, kind, task.dim), kind, task.dim, task.vectors.shape[1]
        )
    config = IndexConfig(popularity_scale=task.scale)
    for spec in specs_for(len(task.vectors), config, with_hnsw=True):
        if spec.kind in skipped:
            continue
        path = task.directory / spec.file_name
        cost = 0.0 if spec.kind == "exact" else task.built(path, functools.partial(_write, spec, task, path))
        setting = f"depth {spec.depth}" + (f", refine {spec.refine:g}" if spec.refine != 1 else "")
        if spec.lists:
            setting = f"{spec.lists} lists, {setting}"
        for name, scored in rows.items() if spec.kind == "ivf4" else [("", task.vectors)]:
            started = time.perf_counter()
            searcher = read_searcher(path, spec.entry(path.name, task.k), scored)
            opened = time.perf_counter() - started
            measured = task.ask(lambda q, s=searcher: s.search(q, task.k)[0].rows, task.queries)  # type: ignore[misc]
            point = task.point(f"ours: {spec.kind}{name}", setting, measured, path, cost, opened)
            yield replace(point, spec=spec)


def _write(spec: IndexSpec, task: Task, path: Path) -> None:
    write_index(spec, task.vectors, task.learning.queries, path, seed=1, threads=0, device=find_device())


def show(points: list[Point], k: int) -> None:
    """The table, and what is quickest at each floor of recall beside hnswlib."""
    print(f"| index | setting | recall@{k} | CPU µs a query | bytes a vector | build CPU s | open s |")
    print("|---|---|---|---|---|---|---|")
    for p in points:
        print(
            f"| {p.library} | {p.setting} | {p.recall:.4f} | {p.cpu_us:.0f} | {p.bytes_per_vector:.0f} "
            f"| {p.build_cpu_seconds:.0f} | {p.open_seconds:.3f} |"
        )
    plain = [p for p in points if p.library.startswith("hnswlib")]
    for floor in FLOORS:
        reaching = [p for p in points if p.recall >= floor and p.library.startswith("ours")]
        if not reaching:
            print(f"\nrecall ≥ {floor}: none of ours")
            continue
        ours = min(reaching, key=lambda p: p.cpu_us)
        theirs = _time_at(plain, ours.recall)
        times = (
            _time_at([p for p in points if p.library == name], ours.recall)
            for name in {p.library for p in points if p.library.startswith("ScaNN")}
        )
        scann = min(filter(None, times), default=None)
        beside = f", {scann / ours.cpu_us:.2f}× ScaNN" if scann else ""
        ratio = f"{theirs / ours.cpu_us:.2f}× hnswlib" if theirs else "hnswlib does not reach it"
        print(f"\nrecall ≥ {floor}: {ours.library}, {ours.setting}, {ours.recall:.4f}: {ratio}{beside} at equal recall")


def show_roofline(task: Task, points: list[Point]) -> None:
    """How near the quickest `ivf4` at each floor of recall comes to the limits of this machine."""
    machine: Machine = measured_machine()
    for floor in FLOORS:
        reaching = [p for p in points if p.library == "ours: ivf4" and p.recall >= floor]
        best = min(reaching, key=lambda p: p.cpu_us, default=None)
        if best is None or best.spec is None:
            continue
        path = task.directory / best.spec.file_name
        searcher = read_searcher(path, best.spec.entry(path.name, task.k), task.vectors)
        if isinstance(searcher, Ivf4Searcher):
            work = work_of(searcher, path, task.queries, task.k, 4 * task.vectors.shape[1])
            words = in_words(work, machine, path.stat().st_size, task.vectors.nbytes, best.cpu_us)
            print(f"\n{best.setting}, recall {best.recall:.4f}: {words}")


def _time_at(points: list[Point], recall: float) -> float | None:
    """CPU microseconds at `recall` on the line through `points` in log(1 - recall) and log(time)."""
    points = sorted(points, key=lambda p: p.recall)
    if not points or not points[0].recall <= recall <= points[-1].recall:
        return None
    missed = [-np.log(1 - min(p.recall, 0.9999)) for p in points]
    return float(np.exp(np.interp(-np.log(1 - min(recall, 0.9999)), missed, [np.log(p.cpu_us) for p in points])))


def show_opening(path: Path) -> None:
    """Print wall seconds until a version is mapped, until its index file is verified and open, until it answers."""
    started = time.perf_counter()
    bundle = open_bundle(path)
    mapped = time.perf_counter()
    space = bundle.space()
    name = space.entry.default.candidate_type
    searcher = open_searcher(bundle, None, name)
    opened = time.perf_counter()
    searcher.search(np.ascontiguousarray(space.table(name).vectors[:1]), 50)
    answered = time.perf_counter()
    print(f"{searcher.size} × {searcher.width}, {space.entry.indexes[name].kind}, seconds:")
    print(f"mapped {mapped - started:.3f}, index verified and open {opened - mapped:.3f}", end="")
    print(f", first answer {answered - opened:.3f}, together {answered - started:.3f}")


def main(arguments: list[str]) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--trained", type=int, metavar="USERS")
    parser.add_argument("--open", type=Path)
    parser.add_argument("--work", type=Path, help="keep what is built here, and use what is here")
    parser.add_argument("-k", type=int, default=50)
    parser.add_argument("--forms", action="store_true", help="`ivf4` over float16 and int8 rows too")
    parser.add_argument("--skip", nargs="*", default=[], help="of hnswlib, faiss, usearch, scann, ours, and its kinds")
    chosen = parser.parse_args(arguments)
    if chosen.open:
        show_opening(chosen.open)
        return
    with tempfile.TemporaryDirectory() as directory:
        (chosen.work or Path(directory)).mkdir(parents=True, exist_ok=True)
        compare(chosen, chosen.work or Path(directory))


def compare(chosen: argparse.Namespace, directory: Path) -> None:
    """Build, ask and print."""
    if chosen.bundle or chosen.trained:
        vectors, queries = of_bundle(chosen.bundle) if chosen.bundle else trained(chosen.trained, QUERIES, directory)
        dim = vectors.shape[1] - 1
        task = Task(vectors, queries, chosen.k, IndexConfig().popularity_scale, directory, dim)
    else:
        task = Task(*clustered(chosen.rows, 128, np.random.default_rng(1)), chosen.k, 1.0, directory, 128)
    ours = functools.partial(with_build, skipped=chosen.skip, forms=FORMS if chosen.forms else ())
    sides: dict[str, Callable[[Task], Iterator[Point]]] = {
        "hnswlib": with_hnswlib,
        "faiss": with_faiss_hnsw,
        "usearch": with_usearch,
        "scann": with_scann,
        "ours": ours,
    }
    points: list[Point] = []
    for name, side in sides.items():
        if name == "scann" and importlib.util.find_spec("scann") is None:
            print("scann is not installed: left out", file=sys.stderr)
        elif name not in chosen.skip:
            points += side(task)
            print(f"{name} done", file=sys.stderr)
    rows, width = task.vectors.shape
    drawn = "real" if chosen.bundle else "trained" if chosen.trained else "clustered"
    print(f"{rows} × {width}, {drawn}, {len(task.queries)} queries\n")
    show(points, chosen.k)
    show_roofline(task, points)


if __name__ == "__main__":
    main(sys.argv[1:])
