"""Building one searcher's file with hnswlib or FAISS from a plan."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.manifest import IndexEntry
from index.build.config import IndexKind
from index.build.devices import Device
from index.search.columns import Columns

Vectors = Float32[npt.NDArray[np.float32], "n width"]
TRAINING_POINTS_A_LIST = 64
BLOCK_ROWS = 1 << 17
# With 129 columns FAISS falls back to scalar arithmetic on 8-bit codes, ten times as slow as with 144.
_COLUMN_STEPS = {"hnsw": 4, "ivf_sq8": 16, "ivf_pq": 2, "pq": 2}


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

    def columns(self, width: int) -> Columns:
        """How the library holds `width` columns: as many as its vector instructions, or its codes, come in."""
        step = _COLUMN_STEPS.get(self.kind, 1)
        if self.kind in ("ivf_pq", "pq") and self.subquantizers:
            step = self.subquantizers
        return Columns(width, step * math.ceil(width / step), self.popularity_scale)

    def entry(self, file: str | None, width: int) -> IndexEntry:
        """The manifest's entry, without measurements."""
        parameters: dict[str, int | float | str | bool] = {
            "padded_width": self.columns(width).padded,
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


def write_index(plan: Plan, vectors: Vectors, path: Path, *, seed: int, threads: int, device: Device) -> None:
    """Build the searcher that `plan` describes over `vectors` and write it to `path`; row = label."""
    columns = plan.columns(vectors.shape[1])
    if plan.cagra:
        faiss.write_index(_cagra(plan, vectors, columns), str(path))
    elif plan.kind == "hnsw":
        _write_hnsw(plan, vectors, columns, path, seed, threads)
    else:
        faiss.write_index(_faiss_index(plan, vectors, columns, seed, device), str(path))


def _write_hnsw(plan: Plan, vectors: Vectors, columns: Columns, path: Path, seed: int, threads: int) -> None:
    index = hnswlib.Index(space="ip", dim=columns.padded)
    index.init_index(max_elements=len(vectors), M=plan.links, ef_construction=plan.build_depth, random_seed=seed)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = columns.of_vectors(vectors[start : start + BLOCK_ROWS])
        index.add_items(block, np.arange(start, start + len(block)), num_threads=threads or -1)
    index.save_index(str(path))


def _cagra(plan: Plan, vectors: Vectors, columns: Columns) -> Any:
    """A CAGRA graph from the GPU, turned into the bottom layer of an HNSW for the processor."""
    settings = faiss.GpuIndexCagraConfig()
    settings.graph_degree = 2 * plan.links
    settings.intermediate_graph_degree = 4 * plan.links
    graph = faiss.GpuIndexCagra(faiss.StandardGpuResources(), columns.padded, faiss.METRIC_INNER_PRODUCT, settings)
    graph.train(columns.of_vectors(vectors))
    index = faiss.IndexHNSWCagra(columns.padded, plan.links, faiss.METRIC_INNER_PRODUCT)
    graph.copyTo(index)
    return index


def _faiss_index(plan: Plan, vectors: Vectors, columns: Columns, seed: int, device: Device) -> Any:
    index = faiss.index_factory(columns.padded, _factory(plan, columns), faiss.METRIC_INNER_PRODUCT)
    sample = _training_sample(plan, vectors, seed)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed
        ivf.cp.min_points_per_centroid = 1
        ivf.clustering_index = device.to_gpu(faiss.IndexFlatIP(columns.padded))
    index.train(columns.of_vectors(sample))
    if ivf is not None:
        ivf.clustering_index = None
    for start in range(0, len(vectors), BLOCK_ROWS):
        index.add(columns.of_vectors(vectors[start : start + BLOCK_ROWS]))
    return index


def _factory(plan: Plan, columns: Columns) -> str:
    """FAISS's own name for the plan. Codes of 4 bits are scanned in registers ("fs"), several times as fast as 8."""
    parts = plan.subquantizers or columns.padded // 2
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
