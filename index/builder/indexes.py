"""Writing the file of one searcher, as its spec says: by hnswlib, by FAISS or by the engine."""

import os
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.arrays import save_array
from bundle.disk import require_written
from bundle.progress import QUIET, Stage
from index.builder.devices import Device
from index.builder.fit_projection import STEP, FittedProjection, fit_projection
from index.builder.ivf4 import write_ivf4
from index.builder.room import Room, blocks, in_memory
from index.builder.sample import sample
from index.builder.spec import IndexSpec
from index.search.eligible import Bitmap
from index.search.projection import projection_file

Vectors = Float32[npt.NDArray[np.float32], "_ width"]
TRAINING_POINTS_A_LIST = 64
LEAST_TRAINING_POINTS = 1 << 16
BLOCK_BYTES = 1 << 20


def write_index(
    spec: IndexSpec,
    vectors: Vectors,
    queries: Vectors,
    path: Path,
    *,
    seed: int,
    threads: int,
    device: Device,
    candidates: Bitmap | None = None,
    room: Room = in_memory,
    bar: Stage = QUIET,
) -> None:
    """Build the searcher that `spec` describes over `vectors` and write it to `path`; row = label. What an `ivf4` needs
    on the way lies in `room`; the libraries of the other kinds hold all of theirs in memory.

    An `ivf4` holds the `candidates` alone, where not all rows are: a row's number stands beside its code. The columns
    that it holds are learnt from `queries`, real ones; how to make them of a query goes beside it.
    """
    step = spec.subquantizers or STEP
    rng = np.random.default_rng(seed)
    projection = fit_projection(vectors, queries, scale=spec.popularity_scale, step=step, rng=rng)
    save_array(projection_file(path), projection.for_queries)
    if spec.cagra:
        _save(_cagra(spec, vectors, projection), path)
    elif spec.kind == "ivf4":
        write_ivf4(
            path,
            vectors,
            projection,
            lists=spec.lists,
            seed=seed,
            threads=threads or os.cpu_count() or 1,
            candidates=candidates,
            room=room,
            bar=bar,
        )
    elif spec.kind == "hnsw":
        _write_hnsw(spec, vectors, projection, path, seed, threads)
    else:
        _save(_faiss_index(spec, vectors, projection, seed, device), path)


def _write_hnsw(
    spec: IndexSpec, vectors: Vectors, projection: FittedProjection, path: Path, seed: int, threads: int
) -> None:
    index = hnswlib.Index(space="ip", dim=projection.held)
    index.init_index(max_elements=len(vectors), M=spec.links, ef_construction=spec.build_depth, random_seed=seed)
    for block in blocks(*vectors.shape):
        made = projection.of_vectors(vectors[block])
        index.add_items(made, np.arange(block.start, block.stop), num_threads=threads or -1)
    index.save_index(str(path))
    require_written(path, index.index_file_size())


def _cagra(spec: IndexSpec, vectors: Vectors, projection: FittedProjection) -> Any:
    """A CAGRA graph from the GPU, turned into the bottom layer of an HNSW for the processor."""
    settings = faiss.GpuIndexCagraConfig()
    settings.graph_degree = 2 * spec.links
    settings.intermediate_graph_degree = 4 * spec.links
    graph = faiss.GpuIndexCagra(faiss.StandardGpuResources(), projection.held, faiss.METRIC_INNER_PRODUCT, settings)
    graph.train(projection.of_vectors(vectors))
    index = faiss.IndexHNSWCagra(projection.held, spec.links, faiss.METRIC_INNER_PRODUCT)
    graph.copyTo(index)
    return index


def _faiss_index(spec: IndexSpec, vectors: Vectors, projection: FittedProjection, seed: int, device: Device) -> Any:
    index = faiss.index_factory(projection.held, _factory(spec, projection), faiss.METRIC_INNER_PRODUCT)
    limit = max(TRAINING_POINTS_A_LIST * spec.lists, LEAST_TRAINING_POINTS)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed
        ivf.cp.min_points_per_centroid = 1
        ivf.clustering_index = device.to_gpu(faiss.IndexFlatIP(projection.held))
    for part in filter(None, (ivf, faiss.downcast_index(index))):
        if hasattr(part, "pq"):  # or the library prints that there are few points for so many codewords
            part.pq.cp.min_points_per_centroid = 1
    index.train(projection.of_vectors(sample(vectors, limit, np.random.default_rng(seed))))
    if ivf is not None:
        ivf.clustering_index = None
    for block in blocks(*vectors.shape):
        index.add(projection.of_vectors(vectors[block]))
    return index


def _save(index: Any, path: Path) -> None:
    """Write by way of Python: FAISS's own writer only prints it when the last bytes found no room."""
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, BLOCK_BYTES))


def _factory(spec: IndexSpec, projection: FittedProjection) -> str:
    """FAISS's own name for the spec. Codes of 4 bits are scanned in registers ("fs"), several times as fast as 8."""
    parts = spec.subquantizers or projection.held // 2
    match spec.kind:
        case "ivf_sq8":
            return f"IVF{spec.lists},SQ8"
        case "ivf_pq":
            return f"IVF{spec.lists},PQ{parts}x4fsr"
        case "pq":
            return f"PQ{parts}x4fs"
        case other:
            raise ValueError(f"{other} is no index of FAISS's")
