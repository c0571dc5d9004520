"""Searchers side by side: hnswlib, FAISS HNSW, usearch and what a build would choose, in CPU time, recall beside it.

    python -m benchmarks.index                       200,000 × 128 clustered vectors
    python -m benchmarks.index --rows 1000000        the full set; an hour of two cores
    python -m benchmarks.index --bundle VERSION_DIR  the real vectors and queries of a version's default type

Everything is seeded. A query is asked alone on one thread, as a service does; its time is the thread's CPU time.
Scores by approximate libraries are as they come; the configurations of a build score exactly what they return.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from usearch.index import Index as Usearch

from bundle.reader import open_bundle
from index.build.choose import plans_for
from index.build.config import IndexConfig
from index.build.devices import find_device, one_thread
from index.build.indexes import write_index
from index.build.measure import Truth, find_truth, measure, recall_of
from index.build.queries import RealQueries
from index.search.open import read_searcher
from index.search.protocol import Hits
from index.search.ranking import exact_scores

Array = npt.NDArray[np.float32]
DEPTHS = (50, 60, 80, 100, 150, 200, 400, 800)
CENTRES, SPREAD, INNER_DIM = 4000, 0.5, 32
FLOORS = (0.95, 0.99)


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


def clustered(rows: int, dim: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Vectors about centres of uneven size and length, and 400 queries drawn alike.

    About a centre they spread in 32 directions, as learnt embeddings do: noise in all 128 has no neighbours.
    """
    centres = rng.normal(0, 1, (CENTRES, dim)).astype(np.float32) * rng.gamma(9, 1 / 9, (CENTRES, 1)).astype(np.float32)
    sizes = rng.zipf(1.3, CENTRES).clip(max=1000).astype(np.float64)
    directions = (rng.normal(0, 1, (INNER_DIM, dim)) / np.sqrt(INNER_DIM / 4)).astype(np.float32)

    def drawn(n: int) -> Array:
        chosen = rng.choice(CENTRES, n, p=sizes / sizes.sum())
        spread: Array = SPREAD * rng.normal(0, 1, (n, INNER_DIM)).astype(np.float32) @ directions
        return centres[chosen] + spread

    return drawn(rows), drawn(400)


def of_bundle(path: Path) -> tuple[Array, Array]:
    """The vectors of a version's default candidate type, and 400 blended queries of its users."""
    space = open_bundle(path).space()
    default = space.entry.default
    relation = space.relation(default.relation)
    users, targets = space.table(default.user_type), space.table(default.candidate_type)
    known = np.flatnonzero(relation.targets.degrees() >= 3)
    queries = []
    for user in np.random.default_rng(1).choice(known, 400):
        folded = targets.embeddings[relation.targets.row(int(user))].mean(axis=0)
        queries.append(np.append(0.3 * users.embeddings[user] + 0.7 * folded + relation.forward, np.float32(0.3)))
    return np.array(targets.vectors), np.stack(queries).astype(np.float32)


def ask(search: Callable[[Array], npt.NDArray[np.integer]], vectors: Array, truth: Truth) -> tuple[float, float]:
    """Recall and CPU microseconds of a query."""
    queries = truth.queries.queries
    search(queries[:1])
    started = time.thread_time()
    found = [search(queries[i : i + 1]) for i in range(len(queries))]
    spent = time.thread_time() - started
    hits = []
    for query, rows in zip(queries, found, strict=True):
        kept = np.unique(rows[rows >= 0]).astype(np.int32)
        hits.append(Hits(kept, exact_scores(vectors, query, kept)))
    return float(recall_of(hits, truth).mean()), 1e6 * spent / len(queries)


def with_hnswlib(vectors: Array, truth: Truth, directory: Path) -> Iterator[Point]:
    """hnswlib with M = 16 and a build depth of 200."""
    started = time.process_time()
    built = hnswlib.Index(space="ip", dim=vectors.shape[1])
    built.init_index(max_elements=len(vectors), M=16, ef_construction=200, random_seed=1)
    built.add_items(vectors)
    cost = time.process_time() - started
    path = directory / "plain.hnsw"
    built.save_index(str(path))
    started = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.load_index(str(path))
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        index.set_ef(depth)
        measured = ask(lambda q: index.knn_query(q, k=truth.k, num_threads=1)[0], vectors, truth)
        yield Point("hnswlib M=16", f"ef {depth}", *measured, path.stat().st_size / len(vectors), cost, opened)


def with_faiss_hnsw(vectors: Array, truth: Truth, directory: Path) -> Iterator[Point]:
    """FAISS HNSW with M = 16 and a build depth of 200."""
    started = time.process_time()
    built = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    built.hnsw.efConstruction = 200
    built.add(vectors)
    cost = time.process_time() - started
    path = directory / "plain.faiss"
    faiss.write_index(built, str(path))
    started = time.perf_counter()
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        parameters = faiss.SearchParametersHNSW(efSearch=depth)
        with one_thread():
            measured = ask(lambda q, p=parameters: index.search(q, truth.k, params=p)[1], vectors, truth)  # type: ignore[misc]
        yield Point("FAISS HNSW16", f"ef {depth}", *measured, path.stat().st_size / len(vectors), cost, opened)


def with_usearch(vectors: Array, truth: Truth, directory: Path) -> Iterator[Point]:
    """usearch with connectivity 16 and a build depth of 200, float32."""
    started = time.process_time()
    built = Usearch(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
    built.add(np.arange(len(vectors)), vectors)
    cost = time.process_time() - started
    path = directory / "plain.usearch"
    built.save(str(path))
    started = time.perf_counter()
    index: Any = Usearch.restore(str(path), view=True)
    opened = time.perf_counter() - started
    for depth in DEPTHS:
        index.expansion_search = depth
        measured = ask(
            lambda q: np.asarray(index.search(q, truth.k, threads=1).keys).astype(np.int64).ravel(), vectors, truth
        )
        yield Point("usearch 16", f"ef {depth}", *measured, path.stat().st_size / len(vectors), cost, opened)


def with_build(vectors: Array, truth: Truth, directory: Path) -> Iterator[Point]:
    """Every configuration that a build sweeps, through the searchers that the service uses."""
    config = IndexConfig() if vectors.shape[1] % 2 else IndexConfig(popularity_scale=1.0)  # no popularity column
    cost, made = 0.0, None
    for plan in plans_for(len(vectors), config, with_hnsw=True):
        path = directory / plan.file_name
        if plan.kind != "exact" and plan.same_file != made:
            started = time.process_time()
            write_index(plan, vectors, path, seed=1, threads=0, device=find_device())
            cost, made = time.process_time() - started, plan.same_file
        started = time.perf_counter()
        searcher = read_searcher(path, plan.entry(path.name, vectors.shape[1]), vectors)
        opened = time.perf_counter() - started
        measured = measure(searcher, truth)
        size = path.stat().st_size / len(vectors) if path.exists() else 4.0 * vectors.shape[1]
        setting = f"depth {plan.depth}" + (f", refine {plan.refine:g}" if plan.refine != 1 else "")
        if plan.lists:
            setting = f"{plan.lists} lists, {setting}"
        yield Point(f"ours: {plan.kind}", setting, measured.recall, measured.cpu_us_per_query, size, cost, opened)


def show(points: list[Point], k: int) -> None:
    """The table, and what is quickest at each floor of recall beside hnswlib."""
    print(f"| index | setting | recall@{k} | CPU µs a query | bytes a vector | build CPU s | open s |")
    print("|---|---|---|---|---|---|---|")
    for p in points:
        print(
            f"| {p.library} | {p.setting} | {p.recall:.4f} | {p.cpu_us:.0f} | {p.bytes_per_vector:.0f} "
            f"| {p.build_cpu_seconds:.0f} | {p.open_seconds:.3f} |"
        )
    for floor in FLOORS:
        reaching = [p for p in points if p.recall >= floor]
        plain = min((p.cpu_us for p in reaching if p.library.startswith("hnswlib")), default=None)
        ours = min((p for p in reaching if p.library.startswith("ours")), key=lambda p: p.cpu_us, default=None)
        ratio = f"{plain / ours.cpu_us:.2f}× hnswlib" if plain and ours else "hnswlib does not reach it"
        print(f"\nrecall ≥ {floor}: {ours.library + ', ' + ours.setting if ours else 'none of ours'}: {ratio}")


def main(arguments: list[str]) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("-k", type=int, default=50)
    parser.add_argument("--skip", nargs="*", default=[], help="of hnswlib, faiss, usearch")
    chosen = parser.parse_args(arguments)
    vectors, queries = (
        of_bundle(chosen.bundle) if chosen.bundle else clustered(chosen.rows, 128, np.random.default_rng(1))
    )
    truth = find_truth(vectors, RealQueries(queries, ("query",), np.zeros(len(queries), dtype=np.int64)), chosen.k)
    sides = {"hnswlib": with_hnswlib, "faiss": with_faiss_hnsw, "usearch": with_usearch, "ours": with_build}
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as directory:
        for name, side in sides.items():
            if name not in chosen.skip:
                points += side(vectors, truth, Path(directory))
                print(f"{name} done", file=sys.stderr)
    print(f"{len(vectors)} × {vectors.shape[1]}, {'real' if chosen.bundle else 'clustered'}, {len(queries)} queries\n")
    show(points, chosen.k)


if __name__ == "__main__":
    main(sys.argv[1:])
