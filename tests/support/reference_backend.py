"""A backend that trains edge by edge with the definitions of `training/model.py`: slow, and the judge of the others."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from training.backends.base import BucketWork, SpanResult
from training.checkpoint import PartitionStore
from training.chunks import Chunk, Pairs, make_chunk
from training.config import TrainConfig
from training.edges import BucketEdges
from training.model import (
    FORWARD,
    INVERSE,
    DirectionGradient,
    EmbeddingTable,
    adagrad,
    adagrad_row,
    rank,
    rank_sources_by_one_vector,
)

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReferenceBackend:
    """See Backend."""

    config: TrainConfig
    name: str = "reference"

    def open(self, work: BucketWork) -> "ReferenceSession":
        return ReferenceSession(self.config, work)

    def store(self, store: PartitionStore) -> PartitionStore:
        return store

    def room(self) -> None:
        return None


def sums() -> defaultdict[tuple[int, int], F64]:
    """Gradients, added up by table and row."""
    return defaultdict(lambda: np.zeros((), dtype=np.float64))


def unmasked(negatives: npt.NDArray[np.int32], known: Pairs, edge: int) -> list[int]:
    """The negatives of one edge of a chunk: those that are no true pairs with it."""
    masked = set(known[1][known[0] == edge].tolist())
    return [row for column, row in enumerate(negatives.tolist()) if column not in masked]


@dataclass
class ReferenceSession:
    """See BucketSession."""

    config: TrainConfig
    work: BucketWork
    entities: defaultdict[tuple[int, int], F64] = field(default_factory=sums)
    relations: defaultdict[tuple[int, int], F64] = field(default_factory=sums)

    def run(self, begin: int, end: int) -> SpanResult:
        loss, edges = 0.0, 0
        for position in range(begin, end):
            group = self.work.groups[self.work.schedule.group[position]]
            flags = np.zeros(max(group.n_source, group.n_target), dtype=np.bool_)
            chunk = make_chunk(group, self.work.schedule, position, self.config, self.work.relation_weights, flags)
            loss += sum(self._edge(group, chunk, i) for i in range(len(chunk.src)))
            edges += len(chunk.src)
            if (position + 1 - begin) % self.config.chunks_per_update == 0 or position + 1 == end:
                self._update()
        return SpanResult(loss, edges)

    def sync(self) -> None:
        pass

    def _edge(self, group: BucketEdges, chunk: Chunk, i: int) -> float:
        """Add one edge's gradient, of both directions; its loss."""
        sources, targets = self.work.sources[group.source_type], self.work.targets[group.target_type]
        src, dst, rel, weight = int(chunk.src[i]), int(chunk.dst[i]), int(chunk.rel[i]), float(chunk.weight[i])
        rows = [dst, *unmasked(chunk.negative_targets, chunk.known_targets, i)]
        loss = self._direction((sources, src), (rel, FORWARD), (targets, rows), rank, weight)
        rows = [src, *unmasked(chunk.negative_sources, chunk.known_sources, i)]
        if self.config.inverse_relations:
            return loss + self._direction((targets, dst), (rel, INVERSE), (sources, rows), rank, weight)
        return loss + self._direction(
            (targets, dst), (rel, FORWARD), (sources, rows), rank_sources_by_one_vector, weight
        )

    def _direction(
        self,
        end: tuple[EmbeddingTable, int],
        relation: tuple[int, int],
        candidates: tuple[EmbeddingTable, list[int]],
        how: Callable[[F64, F64, F64, str], DirectionGradient],
        weight: float,
    ) -> float:
        (table, row), (others, rows) = end, candidates
        vectors = table.vectors[row], self.work.relations.vectors[relation], others.vectors[rows]
        found = how(*(vector.astype(np.float64) for vector in vectors), self.config.loss)
        self.entities[id(table), row] = self.entities[id(table), row] + weight * found.end
        self.relations[relation] = self.relations[relation] + weight * found.relation
        for candidate, gradient in zip(rows, found.candidates, strict=True):
            self.entities[id(others), candidate] = self.entities[id(others), candidate] + weight * gradient
        return weight * found.loss

    def _update(self) -> None:
        config, relations = self.config, self.work.relations
        tables = {id(table): table for table in (*self.work.sources, *self.work.targets)}
        for (table, row), gradient in self.entities.items():
            adagrad_row(tables[table], row, gradient, config.learning_rate, config.l2, config.l2_previous)
        rate = config.relation_learning_rate or config.learning_rate
        for at, gradient in self.relations.items():
            adagrad(relations.vectors[at], relations.accumulator[at], gradient.astype(np.float32), rate)
        self.entities.clear()
        self.relations.clear()
