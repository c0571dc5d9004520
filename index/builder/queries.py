"""Real queries to judge an index by: what held-out users will ask, not random vectors.

A random vector has no near neighbours to miss: recall on such queries says nothing about a user's.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.csr import Csr
from bundle.prepared import Part, RowArray
from bundle.run import Run
from bundle.strategies import BLEND
from index.builder.room import blocks

Queries = Float32[npt.NDArray[np.float32], "_ width"]
Embeddings = Float32[npt.NDArray[np.float32], "_ d"]
MAX_RELATIONS = 8
HELD_OUT: tuple[Part, ...] = ("valid", "test")


@dataclass(frozen=True, slots=True)
class RealQueries:
    """Queries of one candidate type; `kinds[kind_of[i]]` says how query i was made."""

    queries: Float32[npt.NDArray[np.float32], "q width"]
    kinds: tuple[str, ...]
    kind_of: Int64[npt.NDArray[np.int64], " q"]

    def __len__(self) -> int:
        return len(self.queries)

    def first(self, n: int) -> "RealQueries":
        """The first `n` queries alone."""
        return RealQueries(self.queries[:n], self.kinds, self.kind_of[:n])

    def joined(self, other: "RealQueries") -> "RealQueries":
        """These queries and those of `other`, which were made in the same ways."""
        queries = np.concatenate([self.queries, other.queries])
        return RealQueries(queries, self.kinds, np.concatenate([self.kind_of, other.kind_of]))


@dataclass(frozen=True, slots=True)
class QueryMaker:
    """Makes queries from a run. `targets[i]` is relation i by source; `popular` are the types with that column;
    `centroids` are those of the clusters that a type is in, by type."""

    run: Run
    targets: Mapping[int, Csr]
    popular: Collection[str]
    centroids: Mapping[str, Embeddings]

    def make(self, entity_type: str, n_queries: int, rng: np.random.Generator) -> RealQueries:
        """About `n_queries` for candidates of `entity_type`, in shuffled order, width d + 1.

        Users are sources of validation edges where there are any, else of test, else of training edges.
        """
        made = self._from_sources(entity_type, n_queries, rng)
        share = max(1, n_queries // 5)
        if entity_type in self.centroids:
            made["centroid"] = _with_popularity(_sampled(self.centroids[entity_type], share, rng), 0.0)
        # "More like this", and a target's query for its sources.
        made["similar"] = _with_popularity(_sampled(self.run.vectors[entity_type], share, rng), 0.0)
        kinds = tuple(made)
        queries = np.concatenate([made[kind] for kind in kinds])
        kind_of = np.repeat(np.arange(len(kinds)), [len(made[kind]) for kind in kinds])
        order = rng.permutation(len(queries))[:n_queries]
        return RealQueries(queries[order], kinds, kind_of[order])

    def _from_sources(self, entity_type: str, n_queries: int, rng: np.random.Generator) -> dict[str, Queries]:
        positions = [i for i, relation in enumerate(self.run.graph.relations) if relation.target == entity_type]
        if len(positions) > MAX_RELATIONS:
            positions = sorted(rng.choice(positions, MAX_RELATIONS, replace=False).tolist())
        weight = BLEND.popularity if entity_type in self.popular else 0.0
        made: dict[str, list[Queries]] = {"unimodal": [], "fold_in": [], "blend": []}
        for position in positions:
            sources = self._sources(position, max(1, n_queries // 5 // len(positions)), rng)
            own = self.run.vectors[self.run.graph.relations[position].source][sources]
            folded = self._fold_in(position, sources)
            forward = self.run.relation_vectors[position, 0]
            blended = BLEND.user * own + BLEND.fold_in * folded + BLEND.relation * forward
            made["unimodal"].append(_with_popularity(own + forward, 0.0))
            made["fold_in"].append(_with_popularity(folded + forward, 0.0))
            made["blend"].append(_with_popularity(blended, weight))
        return {kind: np.concatenate(parts) for kind, parts in made.items() if parts}

    def _sources(self, position: int, n: int, rng: np.random.Generator) -> RowArray:
        for part in HELD_OUT:
            edges = self.run.graph.relations[position].part(part)
            if len(edges):
                return edges.src[np.sort(rng.integers(0, len(edges), n))]
        # Training edges as they were staged: how a graph was sharded must not choose the queries.
        csr = self.targets[position]
        if len(csr.indices):
            return sources_of(csr, np.sort(rng.integers(0, len(csr.indices), n)))
        return np.empty(0, dtype=np.int32)

    def _fold_in(self, position: int, sources: RowArray) -> Embeddings:
        """The mean of each source's targets; zero for one without training edges."""
        targets, csr = self.run.vectors[self.run.graph.relations[position].target], self.targets[position]
        folded = np.zeros((len(sources), self.run.dim), dtype=np.float32)
        for i, source in enumerate(sources):
            rows = csr.row(int(source))
            if len(rows):
                folded[i] = mean_of(targets, rows)
        return folded


def mean_of(vectors: Embeddings, rows: RowArray) -> Float32[npt.NDArray[np.float32], " d"]:
    """The mean of some rows, at least one. A block at a time: somebody may have a million edges."""
    total = np.zeros(vectors.shape[1], dtype=np.float32)
    for block in blocks(len(rows), vectors.shape[1]):
        total += vectors[rows[block]].sum(axis=0)
    return total / np.float32(len(rows))


def sources_of(targets: Csr, entries: Int64[npt.NDArray[np.int64], " some"]) -> Int64[npt.NDArray[np.int64], " some"]:
    """The source of each of some entries of the edges by source."""
    return np.searchsorted(targets.indptr, entries, side="right") - 1


def _sampled(vectors: Embeddings, n: int, rng: np.random.Generator) -> Embeddings:
    rows = rng.choice(len(vectors), min(n, len(vectors)), replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)])


def _with_popularity(queries: Embeddings, weight: float) -> Queries:
    """The queries with one more coordinate, which meets the popularity column."""
    column = np.full((len(queries), 1), weight, dtype=np.float32)
    return np.concatenate([queries.astype(np.float32), column], axis=1)
