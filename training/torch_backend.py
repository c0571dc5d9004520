"""The torch backend: chunks one after another, their gradients applied every `chunks_per_update` chunks."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.backend import BucketWork, SpanResult, relation_rate
from training.batch import Chunk, Pairs, make_chunk
from training.config import TrainConfig
from training.model import FORWARD, INVERSE, Table
from training.torch_step import Gradient, Rates, TorchTable, adagrad, adagrad_rows, direction

PRODUCTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where tensors lie during a visit, and whether they are copies that must be brought back."""

    device: torch.device
    copies: bool

    def bring(self, array: npt.NDArray[np.float32]) -> Tensor:
        """The array as a tensor there."""
        return torch.from_numpy(array).to(self.device, copy=self.copies)


@dataclass(slots=True)
class Pending:
    """Gradients of one table that wait for the update."""

    table: TorchTable
    rows: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)

    def add(self, rows: Tensor, gradient: Tensor) -> None:
        """Keep one gradient row for each of `rows`."""
        self.rows.append(rows)
        self.gradients.append(gradient)


class TorchBackend:
    """Trains on any torch device. On the CPU it works on the numpy arrays themselves, unless `copies` is set."""

    name = "torch"

    def __init__(self, config: TrainConfig, threads: int, copies: bool = False) -> None:
        self._config = config
        self._place = Place(torch.device(config.device), copies or torch.device(config.device).type != "cpu")
        torch.set_num_threads(threads)

    def visit(self, work: BucketWork) -> "TorchVisit":
        """See Backend."""
        return TorchVisit(self._config, self._place, work)


class TorchVisit:
    """A bucket's tables as tensors during one visit, and the gradients that wait."""

    def __init__(self, config: TrainConfig, place: Place, work: BucketWork) -> None:
        self._config, self._place, self._work = config, place, work
        self._device = place.device
        self._rates = Rates(config.learning_rate, config.l2_previous, config.l2)
        self._tables: dict[int, Pending] = {}
        self._relations = place.bring(work.relations.vectors)
        self._relation_state = place.bring(work.relations.accumulator)
        self._relation_rows: list[Tensor] = []
        self._relation_gradients: list[Tensor] = []
        sizes = [len(table) for table in (*work.sources, *work.targets)]
        self._flags: npt.NDArray[np.bool_] = np.zeros(max(sizes, default=0), dtype=np.bool_)

    def run(self, begin: int, end: int) -> SpanResult:
        """See Visit. Waiting gradients are applied at the end of the span."""
        loss, edges = 0.0, 0
        for position in range(begin, end):
            chunk_loss, chunk_edges = self._chunk(position)
            if not math.isfinite(chunk_loss):
                return SpanResult(loss, edges, position)
            loss, edges = loss + chunk_loss, edges + chunk_edges
            if (position + 1) % self._config.chunks_per_update == 0:
                self._update()
        self._update()
        return SpanResult(loss, edges)

    def _chunk(self, position: int) -> tuple[float, int]:
        """Compute one chunk's loss and keep its gradients."""
        work = self._work
        edges = work.groups[work.schedule.group[position]]
        chunk = make_chunk(edges, work.schedule, position, self._config, work.relation_weights, self._flags)
        sources, targets = (
            self._pending(work.sources[edges.source_type]),
            self._pending(work.targets[edges.target_type]),
        )
        loss = self._forward(chunk, sources, targets) + self._inverse(chunk, sources, targets)
        return loss, len(chunk.src)

    def _update(self) -> None:
        """Apply the waiting gradients."""
        for pending in self._tables.values():
            if pending.rows:
                rows, gradient = torch.cat(pending.rows), torch.cat(pending.gradients)
                adagrad_rows(pending.table, rows, gradient, self._rates)
                pending.rows.clear()
                pending.gradients.clear()
        if self._relation_rows:
            vectors, state = self._relations.flatten(0, 1), self._relation_state.flatten(0, 1)
            rows, gradient = torch.cat(self._relation_rows), torch.cat(self._relation_gradients)
            adagrad(vectors, state, rows, gradient, relation_rate(self._config))
            self._relation_rows.clear()
            self._relation_gradients.clear()

    def sync(self) -> None:
        """Bring the tables back from another device."""
        if not self._place.copies:
            return
        for table in (*self._work.sources, *self._work.targets):
            if id(table) in self._tables:
                moved = self._tables[id(table)].table
                torch.from_numpy(table.vectors).copy_(moved.vectors)
                torch.from_numpy(table.accumulator).copy_(moved.accumulator)
        torch.from_numpy(self._work.relations.vectors).copy_(self._relations)
        torch.from_numpy(self._work.relations.accumulator).copy_(self._relation_state)

    def _pending(self, table: Table) -> Pending:
        if id(table) not in self._tables:
            previous = None if table.previous is None else self._place.bring(table.previous)
            vectors, state = self._place.bring(table.vectors), self._place.bring(table.accumulator)
            self._tables[id(table)] = Pending(TorchTable(vectors, state, previous))
        return self._tables[id(table)]

    def _rows(self, rows: npt.NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self._device)

    def _forward(self, chunk: Chunk, sources: Pending, targets: Pending) -> float:
        """Rank targets by (θs + θr)·θt."""
        src, dst, negatives = self._rows(chunk.src), self._rows(chunk.dst), self._rows(chunk.negative_targets)
        translation = self._rows(2 * chunk.rel + FORWARD)
        query = sources.table.vectors[src] + self._relations.flatten(0, 1)[translation]
        weight, zero = self._weight(chunk)
        gradient = self._direction(chunk.known_targets, weight, query, targets.table.vectors, (dst, negatives), zero)
        sources.add(src, gradient.query)
        self._relation(translation, gradient.query)
        targets.add(dst, gradient.positive)
        targets.add(negatives, gradient.candidate)
        return float(gradient.loss)

    def _inverse(self, chunk: Chunk, sources: Pending, targets: Pending) -> float:
        """Rank sources by (θt + θr')·θs; with a single vector by eq. 1 as it is, where θr·θt is a bias."""
        src, dst, negatives = self._rows(chunk.src), self._rows(chunk.dst), self._rows(chunk.negative_sources)
        slot = INVERSE if self._config.inverse_relations else FORWARD
        translation = self._rows(2 * chunk.rel + slot)
        tail, vector = targets.table.vectors[dst], self._relations.flatten(0, 1)[translation]
        weight, zero = self._weight(chunk)
        single = not self._config.inverse_relations
        query, bias = (tail, (tail * vector).sum(1)) if single else (tail + vector, zero)
        gradient = self._direction(chunk.known_sources, weight, query, sources.table.vectors, (src, negatives), bias)
        by_tail = gradient.query + gradient.bias[:, None] * vector if single else gradient.query
        targets.add(dst, by_tail)
        self._relation(translation, gradient.bias[:, None] * tail if single else gradient.query)
        sources.add(src, gradient.positive)
        sources.add(negatives, gradient.candidate)
        return float(gradient.loss)

    def _weight(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        weight = torch.from_numpy(chunk.weight).to(self._device)
        return weight, torch.zeros_like(weight)

    def _relation(self, rows: Tensor, gradient: Tensor) -> None:
        self._relation_rows.append(rows)
        self._relation_gradients.append(gradient)

    def _direction(
        self, known: Pairs, weight: Tensor, query: Tensor, vectors: Tensor, rows: tuple[Tensor, Tensor], bias: Tensor
    ) -> Gradient:
        positive, candidate = vectors[rows[0]], vectors[rows[1]]
        logistic, products = self._config.loss == "logistic", PRODUCTS[self._config.products]
        return direction(query, positive, candidate, bias, known, weight, logistic, products)
