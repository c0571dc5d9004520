"""Clusters of candidates: a k-means for each group of types, the true medoids, what each would recommend."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, UInt8

from bundle.errors import ConfigError
from bundle.progress import QUIET, Stage
from bundle.space import CandidateLists
from index.builder.candidates import Degrees
from index.builder.config import ClusterConfig
from index.builder.devices import CPU, Device
from index.builder.room import Room, blocks, in_memory
from index.builder.sample import sample_rows
from index.search.eligible import Bitmap, count_of
from index.search.exact import ExactSearcher

Vectors = Float32[npt.NDArray[np.float32], "n d"]
Centroids = Float32[npt.NDArray[np.float32], "clusters d"]


@dataclass(frozen=True, slots=True)
class Clustering:
    """`assignment` has the cluster of every row of `types`; a medoid is (index into types, row). `counts` are the
    clusters of each group of types, which follow one another.
    """

    centroids: Centroids
    medoid_types: UInt8[npt.NDArray[np.uint8], " clusters"]
    medoid_rows: Int32[npt.NDArray[np.int32], " clusters"]
    sizes: Int64[npt.NDArray[np.int64], " clusters"]
    types: tuple[str, ...]
    assignment: Mapping[str, Int32[npt.NDArray[np.int32], " _"]]
    counts: tuple[int, ...]


def joined(parts: Sequence[Clustering]) -> Clustering:
    """The clusterings of several groups as one; clusters are numbered on, in the arrays of the assignments."""
    firsts = np.cumsum([0, *(len(part.centroids) for part in parts)])
    types = np.cumsum([0, *(len(part.types) for part in parts)])
    for part, first in zip(parts[1:], firsts[1:].tolist(), strict=False):
        for assigned in part.assignment.values():
            for block in blocks(len(assigned), 1):
                assigned[block] += first
    return Clustering(
        centroids=np.concatenate([part.centroids for part in parts]),
        medoid_types=np.concatenate([part.medoid_types + np.uint8(n) for part, n in zip(parts, types, strict=False)]),
        medoid_rows=np.concatenate([part.medoid_rows for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        types=tuple(name for part in parts for name in part.types),
        assignment={name: assigned for part in parts for name, assigned in part.assignment.items()},
        counts=tuple(count for part in parts for count in part.counts),
    )


def default_count(n: int) -> int:
    """Clusters for `n` entities: a power of two near √n, so 256 for 80 thousand, 1,024 for a million.

    On a graph with 64 planted communities of 20k users, ten modes over 32 clusters show .59 of a user's interests,
    over 128 all of them; on a follow graph of 81k users 64 and 512 clusters recall alike (docs/experiments.md).
    """
    return min(n, 1 << round(float(np.log2(max(n, 1))) / 2))


def cluster(
    vectors: Mapping[str, Float32[npt.NDArray[np.float32], "_ d"]],
    degrees: Mapping[str, Degrees],
    types: Sequence[str],
    config: ClusterConfig,
    seed: int,
    device: Device,
    room: Room = in_memory,
    bar: Stage = QUIET,
) -> Clustering:
    """k-means over the pooled embeddings of `types`. Raises ConfigError for more clusters than entities.

    `degrees` are the training edges of each entity, by type, which say whose vectors are trained well enough to be a
    medoid. The sample that it learns from, and the assignment, lie in `room`. `bar` advances by vectors.
    """
    pooled = Pooled([vectors[name] for name in types])
    n_clusters = default_count(len(pooled)) if config.count is None else config.count
    if not 1 <= n_clusters <= len(pooled):
        raise ConfigError(f"clusters.count is {n_clusters}; there are {len(pooled)} entities to cluster.")
    bar.note(f"{n_clusters:,} centroids")
    centroids = _train(pooled, n_clusters, config, seed, device, room)
    assignment = [room(f"assignment-{name}", np.int32, (len(vectors[name]),)) for name in types]
    bar.note("the nearest of each vector")
    assign_nearest(pooled, centroids, assignment, device, bar)
    fill_empty(pooled, centroids, assignment)
    of_type, rows = medoids_of(pooled, [degrees[name] for name in types], centroids, assignment)
    return Clustering(
        centroids=centroids,
        medoid_types=of_type.astype(np.uint8),
        medoid_rows=rows.astype(np.int32),
        sizes=_sizes(assignment, n_clusters),
        types=tuple(types),
        assignment=dict(zip(types, assignment, strict=True)),
        counts=(n_clusters,),
    )


@dataclass(frozen=True, slots=True)
class Pooled:
    """The vectors of several types as if one followed the other."""

    parts: Sequence[Float32[npt.NDArray[np.float32], "_ d"]]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def blocks(self) -> Iterator[tuple[int, slice]]:
        """Which type, and which of its rows: a block of all, in order."""
        for number, part in enumerate(self.parts):
            for block in blocks(*part.shape):
                yield number, block

    def sample(self, limit: int, rng: np.random.Generator, room: Room) -> Vectors:
        """At most `limit` of the vectors, all of them where they are no more and of one type."""
        if len(self.parts) == 1 and len(self) <= limit:
            return np.ascontiguousarray(self.parts[0])
        rows = sample_rows(len(self), limit, rng)
        drawn: Vectors = room("clusters.sample", np.float32, (len(rows), int(self.parts[0].shape[1])))
        first = done = 0
        for part in self.parts:
            mine = rows[(rows >= first) & (rows < first + len(part))] - first
            for some in (mine[block] for block in blocks(len(mine), part.shape[1])):
                drawn[done : done + len(some)] = part[some]
                done += len(some)
            first += len(part)
        return drawn


Assignment = Sequence[Int32[npt.NDArray[np.int32], " _"]]
Numbers = Int64[npt.NDArray[np.int64], " clusters"]


def _train(pooled: Pooled, n_clusters: int, config: ClusterConfig, seed: int, device: Device, room: Room) -> Centroids:
    drawn = pooled.sample(config.points_per_centroid * n_clusters, np.random.default_rng(seed), room)
    kmeans = faiss.Kmeans(
        drawn.shape[1],
        n_clusters,
        niter=config.iterations,
        seed=seed,
        gpu=device.kmeans_gpus,
        min_points_per_centroid=1,
        max_points_per_centroid=config.points_per_centroid,
    )
    kmeans.train(drawn)
    centroids: Centroids = np.array(kmeans.centroids, dtype=np.float32)
    return centroids


def assign_nearest(
    pooled: Pooled, centroids: Centroids, assignment: Assignment, device: Device = CPU, bar: Stage = QUIET
) -> None:
    """The nearest centroid of every row, into `assignment`."""
    index = device.to_gpu(faiss.IndexFlatL2(centroids.shape[1]))
    index.add(centroids)
    for number, block in pooled.blocks():
        assignment[number][block] = index.search(np.ascontiguousarray(pooled.parts[number][block]), 1)[1][:, 0]
        bar.advance(block.stop - block.start)


def _sizes(assignment: Assignment, n_clusters: int) -> Numbers:
    sizes: Numbers = np.zeros(n_clusters, np.int64)
    for part in assignment:
        sizes += np.bincount(part, minlength=n_clusters)
    return sizes


def fill_empty(pooled: Pooled, centroids: Centroids, assignment: Assignment) -> None:
    """Give every empty cluster the member of the largest cluster that lies farthest from its centroid; in place."""
    sizes = _sizes(assignment, len(centroids))
    for empty in np.flatnonzero(sizes == 0):
        donor = int(np.argmax(sizes))
        number, row = _farthest(pooled, centroids[donor], assignment, donor)
        assignment[number][row] = empty
        centroids[empty] = pooled.parts[number][row]
        sizes[donor] -= 1
        sizes[empty] = 1


def _farthest(
    pooled: Pooled, centroid: Float32[npt.NDArray[np.float32], " d"], assignment: Assignment, cluster: int
) -> tuple[int, int]:
    """The member of a cluster that lies farthest from `centroid`, as type and row; of equally far ones the first."""
    found, most = (0, 0), -1.0
    for number, block in pooled.blocks():
        members = block.start + np.flatnonzero(assignment[number][block] == cluster)
        if len(members):
            squared = np.square(pooled.parts[number][members] - centroid).sum(axis=1)
            if float(squared.max()) > most:
                found, most = (number, int(members[np.argmax(squared)])), float(squared.max())
    return found


def medoids_of(
    pooled: Pooled, degrees: Sequence[Degrees], centroids: Centroids, assignment: Assignment
) -> tuple[Numbers, Numbers]:
    """Of the members with as many edges as the cluster's members have on average, or more, the one nearest the
    centroid, as type and row; of equally near ones the first.

    An entity that came with the last edges lies where its few neighbours point, often nearest of all: it does not
    stand for a cluster that it hardly belongs to.
    """
    edges = np.zeros(len(centroids), np.float64)
    for number, block in pooled.blocks():
        edges += np.bincount(assignment[number][block], degrees[number][block], len(centroids))
    average = edges / np.maximum(_sizes(assignment, len(centroids)), 1)
    types, rows = np.zeros(len(centroids), np.int64), np.zeros(len(centroids), np.int64)
    least = np.full(len(centroids), np.inf, dtype=np.float32)
    for number, block in pooled.blocks():
        mine = assignment[number][block]
        apart = pooled.parts[number][block] - centroids[mine]
        squared = np.where(
            degrees[number][block] >= average[mine], np.einsum("ij,ij->i", apart, apart), np.float32(np.inf)
        )
        order = np.lexsort((squared, mine))
        clusters, first = np.unique(mine[order], return_index=True)
        nearest = order[first]
        better = squared[nearest] < least[clusters]
        clusters, nearest = clusters[better], nearest[better]
        types[clusters], rows[clusters], least[clusters] = number, block.start + nearest, squared[nearest]
    return types, rows


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
