"""Building one searcher's file with hnswlib or FAISS from a plan."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.arrays import save_array
from bundle.disk import require_written
from bundle.manifest import IndexEntry
from index.builder.config import IndexKind
from index.builder.devices import Device
from index.builder.projection import STEP, Projection, fit
from index.search.projection import columns_file

Vectors = Float32[npt.NDArray[np.float32], "_ width"]
TRAINING_POINTS_A_LIST = 64
BLOCK_ROWS = 1 << 17
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration of a searcher: everything that makes its file, and how it is asked.

    `subquantizers` of 0 means two columns to a 4-bit code. Fields that a kind has no use for stay 0. `cagra`: the
    graph is built on a GPU and kept as an HNSW of FAISS, which the processor searches.
    """

    kind: IndexKind
    depth: int
    refine: float = 1.0
    popularity_scale: float = 1.0
    links: int = 0
    build_depth: int = 0
    lists: int = 0
    subquantizers: int = 0
    cagra: bool = False

    @property
    def extension(self) -> str:
        """Which library reads the file."""
        return "hnsw" if self.kind == "hnsw" and not self.cagra else "faiss"

    @property
    def file_name(self) -> str:
        """A name for the file while it is tried; plans that share a file share it."""
        return f"{self.kind}-{self.links}-{self.build_depth}-{self.lists}-{self.subquantizers}.{self.extension}"

    @property
    def same_file(self) -> "Plan":
        """The plan without what only the search needs: plans that agree in it share a file."""
        return replace(self, depth=0, refine=0.0)

    def entry(self, file: str | None) -> IndexEntry:
        """The manifest's entry, without measurements."""
        parameters: dict[str, int | float | str | bool] = {
            "popularity_scale": self.popularity_scale,
            "refine": self.refine,
        }
        named = {
            "links": self.links,
            "build_depth": self.build_depth,
            "lists": self.lists,
            "subquantizers": self.subquantizers,
        }
        parameters |= {name: value for name, value in named.items() if value}
        return IndexEntry(
            kind=self.kind, file=file, parameters={} if self.kind == "exact" else parameters, depth=self.depth
        )


def write_index(
    plan: Plan, vectors: Vectors, queries: Vectors, path: Path, *, seed: int, threads: int, device: Device
) -> None:
    """Build the searcher that `plan` describes over `vectors` and write it to `path`; row = label.

    The columns that it holds are learnt from `queries`, real ones; how to make them of a query goes beside it.
    """
    step = plan.subquantizers or STEP
    rng = np.random.default_rng(seed)
    projection = fit(vectors, queries, scale=plan.popularity_scale, step=step, rng=rng)
    save_array(columns_file(path), projection.for_queries)
    if plan.cagra:
        _save(_cagra(plan, vectors, projection), path)
    elif plan.kind == "hnsw":
        _write_hnsw(plan, vectors, projection, path, seed, threads)
    else:
        _save(_faiss_index(plan, vectors, projection, seed, device), path)


def _write_hnsw(plan: Plan, vectors: Vectors, projection: Projection, path: Path, seed: int, threads: int) -> None:
    index = hnswlib.Index(space="ip", dim=projection.held)
    index.init_index(max_elements=len(vectors), M=plan.links, ef_construction=plan.build_depth, random_seed=seed)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = projection.of_vectors(vectors[start : start + BLOCK_ROWS])
        index.add_items(block, np.arange(start, start + len(block)), num_threads=threads or -1)
    index.save_index(str(path))
    require_written(path, index.index_file_size())


def _cagra(plan: Plan, vectors: Vectors, projection: Projection) -> Any:
    """A CAGRA graph from the GPU, turned into the bottom layer of an HNSW for the processor."""
    settings = faiss.GpuIndexCagraConfig()
    settings.graph_degree = 2 * plan.links
    settings.intermediate_graph_degree = 4 * plan.links
    graph = faiss.GpuIndexCagra(faiss.StandardGpuResources(), projection.held, faiss.METRIC_INNER_PRODUCT, settings)
    graph.train(projection.of_vectors(vectors))
    index = faiss.IndexHNSWCagra(projection.held, plan.links, faiss.METRIC_INNER_PRODUCT)
    graph.copyTo(index)
    return index


def _faiss_index(plan: Plan, vectors: Vectors, projection: Projection, seed: int, device: Device) -> Any:
    index = faiss.index_factory(projection.held, _factory(plan, projection), faiss.METRIC_INNER_PRODUCT)
    sample = _training_sample(plan, vectors, seed)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed
        ivf.cp.min_points_per_centroid = 1
        ivf.clustering_index = device.to_gpu(faiss.IndexFlatIP(projection.held))
    index.train(projection.of_vectors(sample))
    if ivf is not None:
        ivf.clustering_index = None
    for start in range(0, len(vectors), BLOCK_ROWS):
        index.add(projection.of_vectors(vectors[start : start + BLOCK_ROWS]))
    return index


def _save(index: Any, path: Path) -> None:
    """Write by way of Python: FAISS's own writer only prints it when the last bytes found no room."""
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, BLOCK_BYTES))


def _factory(plan: Plan, projection: Projection) -> str:
    """FAISS's own name for the plan. Codes of 4 bits are scanned in registers ("fs"), several times as fast as 8."""
    parts = plan.subquantizers or projection.held // 2
    match plan.kind:
        case "ivf_sq8":
            return f"IVF{plan.lists},SQ8"
        case "ivf_pq":
            return f"IVF{plan.lists},PQ{parts}x4fsr"
        case _:
            return f"PQ{parts}x4fs"


def _training_sample(plan: Plan, vectors: Vectors, seed: int) -> Vectors:
    limit = max(TRAINING_POINTS_A_LIST * plan.lists, 1 << 16)
    if len(vectors) <= limit:
        return vectors
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), limit, replace=False))
    return vectors[chosen]
