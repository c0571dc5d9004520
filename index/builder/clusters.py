"""Clusters of candidates: one k-means over the configured types, its true medoids, what each would recommend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, UInt8

from bundle.errors import ConfigError
from bundle.space import CandidateLists
from index.builder.config import ClusterConfig
from index.builder.devices import CPU, Device
from index.search.eligible import Bitmap, count_of
from index.search.exact import ExactSearcher

Vectors = Float32[npt.NDArray[np.float32], "n d"]
Centroids = Float32[npt.NDArray[np.float32], "clusters d"]
BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Clustering:
    """`assignment` runs over the pooled rows of `types`; a medoid is (index into types, row)."""

    centroids: Centroids
    medoid_types: UInt8[npt.NDArray[np.uint8], " clusters"]
    medoid_rows: Int32[npt.NDArray[np.int32], " clusters"]
    sizes: Int64[npt.NDArray[np.int64], " clusters"]
    types: tuple[str, ...]
    assignment: Mapping[str, Int32[npt.NDArray[np.int32], " _"]]


def default_count(n: int) -> int:
    """Clusters for `n` entities: a power of two near √n, so 256 for 80 thousand, 1,024 for a million.

    On a graph with 64 planted communities of 20k users, ten modes over 32 clusters show .59 of a user's interests,
    over 128 all of them; on a follow graph of 81k users 64 and 512 clusters recall alike (docs/experiments.md).
    """
    return min(n, 1 << round(float(np.log2(max(n, 1))) / 2))


def cluster(
    vectors: Mapping[str, Float32[npt.NDArray[np.float32], "_ d"]],
    types: Sequence[str],
    config: ClusterConfig,
    seed: int,
    device: Device,
) -> Clustering:
    """k-means over the pooled embeddings of `types`. Raises ConfigError for more clusters than entities."""
    pooled = np.concatenate([vectors[name] for name in types]) if len(types) > 1 else vectors[types[0]]
    n_clusters = default_count(len(pooled)) if config.count is None else config.count
    if not 1 <= n_clusters <= len(pooled):
        raise ConfigError(f"clusters.count is {n_clusters}; there are {len(pooled)} entities to cluster.")
    centroids = _train(pooled, n_clusters, config, seed, device)
    assignment, distances = nearest_centroid(pooled, centroids, device)
    fill_empty(pooled, centroids, assignment, distances)
    medoids = medoids_of(pooled, centroids, assignment)
    offsets = np.cumsum([0, *(len(vectors[name]) for name in types)])
    of_type = np.searchsorted(offsets, medoids, side="right") - 1
    return Clustering(
        centroids=centroids,
        medoid_types=of_type.astype(np.uint8),
        medoid_rows=(medoids - offsets[of_type]).astype(np.int32),
        sizes=np.bincount(assignment, minlength=n_clusters).astype(np.int64),
        types=tuple(types),
        assignment={
            name: assignment[start:stop] for name, start, stop in zip(types, offsets[:-1], offsets[1:], strict=True)
        },
    )


def _train(pooled: Vectors, n_clusters: int, config: ClusterConfig, seed: int, device: Device) -> Centroids:
    kmeans = faiss.Kmeans(
        pooled.shape[1],
        n_clusters,
        niter=config.iterations,
        seed=seed,
        gpu=device.kmeans_gpus,
        min_points_per_centroid=1,
        max_points_per_centroid=config.points_per_centroid,
    )
    kmeans.train(np.ascontiguousarray(pooled))
    centroids: Centroids = np.array(kmeans.centroids, dtype=np.float32)
    return centroids


def nearest_centroid(
    pooled: Vectors, centroids: Centroids, device: Device = CPU
) -> tuple[Int32[npt.NDArray[np.int32], " n"], Float32[npt.NDArray[np.float32], " n"]]:
    """The nearest centroid of every row and the squared distance to it."""
    index = device.to_gpu(faiss.IndexFlatL2(centroids.shape[1]))
    index.add(centroids)
    assignment = np.empty(len(pooled), dtype=np.int32)
    distances = np.empty(len(pooled), dtype=np.float32)
    for start in range(0, len(pooled), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        squared, nearest = index.search(np.ascontiguousarray(pooled[block]), 1)
        assignment[block], distances[block] = nearest[:, 0], squared[:, 0]
    return assignment, distances


def fill_empty(
    pooled: Vectors,
    centroids: Centroids,
    assignment: Int32[npt.NDArray[np.int32], " n"],
    distances: Float32[npt.NDArray[np.float32], " n"],
) -> None:
    """Give every empty cluster the member of the largest cluster that lies farthest from its centroid; in place."""
    sizes = np.bincount(assignment, minlength=len(centroids))
    for empty in np.flatnonzero(sizes == 0):
        donor = int(np.argmax(sizes))
        members = np.flatnonzero(assignment == donor)
        moved = members[np.argmax(distances[members])]
        assignment[moved], distances[moved] = empty, 0.0
        centroids[empty] = pooled[moved]
        sizes[donor] -= 1
        sizes[empty] = 1


def medoids_of(
    pooled: Vectors, centroids: Centroids, assignment: Int32[npt.NDArray[np.int32], " n"]
) -> Int64[npt.NDArray[np.int64], " clusters"]:
    """The member nearest each centroid; equally near ones: the first."""
    to_own = np.empty(len(pooled), dtype=np.float32)
    for start in range(0, len(pooled), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        apart = pooled[block] - centroids[assignment[block]]
        to_own[block] = np.einsum("ij,ij->i", apart, apart)
    order = np.lexsort((to_own, assignment))
    firsts = np.searchsorted(assignment[order], np.arange(len(centroids)))
    return order[firsts]


def candidate_lists(
    queries: Float32[npt.NDArray[np.float32], "clusters d"],
    embeddings: Float32[npt.NDArray[np.float32], "n d"],
    length: int,
    candidates: Bitmap | None = None,
) -> CandidateLists:
    """The best `length` candidates (or all) of one type for each query by θᵀ·query, best first; no popularity term."""
    length = min(length, len(embeddings) if candidates is None else count_of(candidates))
    if length == 0:
        empty = (len(queries), 0)
        return CandidateLists(np.empty(empty, np.int32), np.empty(empty, np.float32))
    hits = ExactSearcher(embeddings).search(queries, length, eligible=candidates)
    return CandidateLists(np.stack([hit.rows for hit in hits]), np.stack([hit.scores for hit in hits]))
