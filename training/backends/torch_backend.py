"""The torch backend: chunks of an update together, their gradients applied every `chunks_per_update` chunks."""

import importlib.util
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.backends.base import BucketWork, SpanResult, relation_rate
from training.backends.torch_batches import Batch, DeviceFeed, Feed, HostFeed, Positions
from training.backends.torch_step import Gradient, Known, Rates, TorchTable, adagrad, adagrad_rows, direction
from training.backends.torch_tables import DevicePlacement, DeviceStore, DeviceTables, device_memory
from training.checkpoint import PartitionStore
from training.chunks import Schedule, chunk_lengths
from training.config import TrainConfig
from training.model import FORWARD, INVERSE, EmbeddingTable

# Edges of a chunk that the fused step holds on the chip, at most.
MOST_EDGES = 128
PRODUCTS = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


@runtime_checkable
class Update(Protocol):
    """Moves rows by Adagrad, in place: row-wise, or each coordinate for itself where the table keeps state for each."""

    def __call__(
        self, table: TorchTable, rows: Int64[Tensor, " m"], gradient: Float[Tensor, "m d"], rates: Rates
    ) -> None:
        """One gradient for each of `rows`; those of equal rows are added up first."""
        ...


def torch_update(table: TorchTable, rows: Int64[Tensor, " m"], gradient: Float[Tensor, "m d"], rates: Rates) -> None:
    """See Update: the reference."""
    if table.accumulator.ndim == 2:
        adagrad(table.vectors, table.accumulator, rows, gradient, rates.learning_rate)
    else:
        adagrad_rows(table, rows, gradient, rates)


def choose_update(device: torch.device) -> Update:
    """The fused kernel on an NVIDIA GPU with Triton, which CUDA builds of torch bring along; else torch."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from training.backends.triton_update import triton_update

        return triton_update
    return torch_update


@runtime_checkable
class FusedStep(Protocol):
    """`torch_step.direction` with a softmax, for chunks of at most MOST_EDGES edges; candidates are rows of a table."""

    def __call__(
        self,
        query: Float[Tensor, "c b d"],
        positive: Float[Tensor, "c b d"],
        table: Float[Tensor, "n d"],
        rows: Int64[Tensor, "c k"],
        known: Bool[Tensor, "c b k"],
        weight: Float[Tensor, "c b"],
    ) -> Gradient:
        """Loss and gradients."""
        ...


def choose_fused(device: torch.device) -> FusedStep | None:
    """The fused step, where the fused update is."""
    if choose_update(device) is torch_update:
        return None
    from training.backends.triton_step import triton_direction

    return triton_direction


@dataclass(slots=True)
class PendingGradients:
    """Gradients of one table that wait for the update."""

    table: TorchTable
    rows: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)

    def add(self, rows: Int64[Tensor, "*m"], gradient: Float[Tensor, "*m d"]) -> None:
        """Keep one gradient row for each of `rows`."""
        self.rows.append(rows.flatten())
        self.gradients.append(gradient.flatten(0, -2))

    def apply(self, update: Update, rates: Rates) -> None:
        """Change the table by what waits."""
        if self.rows:
            update(self.table, torch.cat(self.rows), torch.cat(self.gradients), rates)
            self.rows.clear()
            self.gradients.clear()


class TorchBackend:
    """Trains on any torch device.

    On the CPU it works on the numpy arrays themselves. On another device, and with `copies` on the CPU too, tables,
    edges, draws and masks live on the device, and the loss is looked at once a span.
    """

    name = "torch"

    def __init__(
        self,
        config: TrainConfig,
        threads: int,
        copies: bool = False,
        update: Update | None = None,
        fused: FusedStep | None = None,
    ) -> None:
        self._config = config
        self._placement = DevicePlacement.of(config.device, copies)
        self._tables = DeviceTables(self._placement)
        self._update = update or choose_update(self._placement.device)
        fits = config.loss == "softmax" and config.products != "bfloat16" and config.chunk <= MOST_EDGES
        self._fused = (fused or choose_fused(self._placement.device)) if fits else None
        torch.set_num_threads(threads)

    def open(self, work: BucketWork) -> "TorchSession":
        """See Backend."""
        with device_memory():
            return TorchSession(self._config, self._placement, self._tables, (self._update, self._fused), work)

    def store(self, store: PartitionStore) -> PartitionStore:
        """See Backend: partitions reach the device, and come back, on the thread that reads and writes them."""
        return DeviceStore(store, self._tables) if self._placement.copies else store

    def room(self) -> int | None:
        """See Backend."""
        return self._placement.free_bytes()


class TorchSession:
    """A bucket's tables as tensors during one visit, and the gradients that wait."""

    def __init__(
        self,
        config: TrainConfig,
        placement: DevicePlacement,
        tables: DeviceTables,
        kernels: tuple[Update, FusedStep | None],
        work: BucketWork,
    ) -> None:
        self._config, self._placement, self._work = config, placement, work
        self._rates = Rates(config.learning_rate, config.l2_previous, config.l2)
        self._relation_rates = Rates(relation_rate(config), 0.0, 0.0)
        self._device_tables, (self._apply, self._fused) = tables, kernels
        self._tables: dict[int, PendingGradients] = {}
        vectors, state = (placement.bring(a) for a in (work.relations.vectors, work.relations.accumulator))
        self._relations = PendingGradients(TorchTable(vectors.flatten(0, 1), state.flatten(0, 1), None))
        self._feed: Feed = (DeviceFeed if placement.copies else HostFeed)(work, config, placement.device)

    def run(self, begin: int, end: int) -> SpanResult:
        """See BucketSession. Waiting gradients are applied at the end of the span.

        On another device a loss that is no finite number is noticed at the end of the span: asking earlier would make
        the device wait for the host. Raises ConfigError when the device's memory does not suffice.
        """
        with device_memory():
            return self._result(self._losses(begin, end))

    def _losses(self, begin: int, end: int) -> list[tuple[Positions, Tensor]]:
        """Train; of each set of chunks that were computed together, where they are in the schedule and their losses."""
        losses: list[tuple[Positions, Tensor]] = []
        step = self._config.chunks_per_update
        for first in range(begin, end, step):
            alike = alike_chunks(self._work.schedule, first, min(first + step, end), self._config.chunk)
            made = [(positions, self._gradients(self._feed.batch(positions))) for positions in alike]
            losses += made
            if not self._placement.copies and not all(torch.isfinite(loss).all() for _, loss in made):
                break
            self._update()
        return losses

    def _result(self, losses: list[tuple[Positions, Tensor]]) -> SpanResult:
        """Sums over the chunks before the first whose loss is not finite."""
        if not losses:
            return SpanResult(0.0, 0)
        positions = np.concatenate([alike for alike, _ in losses])
        loss = torch.cat([loss for _, loss in losses]).double().cpu().numpy()
        diverged = min(positions[~np.isfinite(loss)].tolist(), default=None)
        if diverged is not None:
            positions, loss = positions[positions < diverged], loss[positions < diverged]
        edges = chunk_lengths(self._work.schedule, positions, self._config.chunk)
        return SpanResult(float(loss.sum()), int(edges.sum()), diverged)

    def _gradients(self, batch: Batch) -> Float[Tensor, " c"]:
        """Compute each chunk's loss and keep the gradients."""
        sources = self._pending(self._work.sources[batch.source_type])
        targets = self._pending(self._work.targets[batch.target_type])
        return self._forward(batch, sources, targets) + self._inverse(batch, sources, targets)

    def _update(self) -> None:
        """Apply the waiting gradients."""
        for pending in self._tables.values():
            pending.apply(self._apply, self._rates)
        self._relations.apply(self._apply, self._relation_rates)

    def sync(self) -> None:
        """See BucketSession. Tables that the store keeps on the device come back when it saves them."""
        if not self._placement.copies:
            return
        for table in (*self._work.sources, *self._work.targets):
            if id(table.vectors) in self._tables and self._device_tables.find(table) is None:
                moved = self._tables[id(table.vectors)].table
                torch.from_numpy(table.vectors).copy_(moved.vectors)
                torch.from_numpy(table.accumulator).copy_(moved.accumulator)
        relations = self._work.relations
        torch.from_numpy(relations.vectors).flatten(0, 1).copy_(self._relations.table.vectors)
        torch.from_numpy(relations.accumulator).flatten(0, 1).copy_(self._relations.table.accumulator)

    def _pending(self, table: EmbeddingTable) -> PendingGradients:
        if id(table.vectors) not in self._tables:
            found = self._device_tables.find(table) or self._placement.table(table)
            self._tables[id(table.vectors)] = PendingGradients(found)
        return self._tables[id(table.vectors)]

    def _forward(self, batch: Batch, sources: PendingGradients, targets: PendingGradients) -> Float[Tensor, " c"]:
        """Rank targets by (θs + θr)·θt."""
        translation = 2 * batch.rel + FORWARD
        query = sources.table.vectors[batch.src] + self._relations.table.vectors[translation]
        gradient = self._direction(
            batch, (query, torch.zeros_like(batch.weight)), targets.table, (batch.dst, batch.negative_targets),
            batch.known_targets,
        )  # fmt: skip
        sources.add(batch.src, gradient.query)
        self._relations.add(translation, gradient.query)
        targets.add(batch.dst, gradient.positive)
        targets.add(batch.negative_targets, gradient.candidate)
        return gradient.loss

    def _inverse(self, batch: Batch, sources: PendingGradients, targets: PendingGradients) -> Float[Tensor, " c"]:
        """Rank sources by (θt + θr')·θs; with a single vector by eq. 1 as it is, where θr·θt is a bias."""
        single = not self._config.inverse_relations
        translation = 2 * batch.rel + (FORWARD if single else INVERSE)
        tail, vector = targets.table.vectors[batch.dst], self._relations.table.vectors[translation]
        asked = (tail, (tail * vector).sum(-1)) if single else (tail + vector, torch.zeros_like(batch.weight))
        rows = batch.src, batch.negative_sources
        gradient = self._direction(batch, asked, sources.table, rows, batch.known_sources)
        by_tail = gradient.query + gradient.bias[..., None] * vector if single else gradient.query
        targets.add(batch.dst, by_tail)
        self._relations.add(translation, gradient.bias[..., None] * tail if single else gradient.query)
        sources.add(batch.src, gradient.positive)
        sources.add(batch.negative_sources, gradient.candidate)
        return gradient.loss

    def _direction(
        self,
        batch: Batch,
        asked: tuple[Tensor, Tensor],
        table: TorchTable,
        rows: tuple[Tensor, Tensor],
        known: Known,
    ) -> Gradient:
        """`asked`: queries and their bias; `rows`: of the positives and of the candidates."""
        positive = table.vectors[rows[0]]
        logistic, products = self._config.loss == "logistic", PRODUCTS[self._config.products]
        if self._fused is not None and isinstance(known, Tensor):
            return self._fused(asked[0], positive, table.vectors, rows[1], known, batch.weight)
        candidate = table.vectors[rows[1]]
        return direction(asked[0], positive, candidate, asked[1], known, batch.weight, logistic, products)


def alike_chunks(schedule: Schedule, begin: int, end: int, chunk: int) -> list[Positions]:
    """The positions from `begin` to `end` sorted into chunks of one group and one length, which can be computed
    together. None is looked at by itself: an update of a GPU has a thousand of them, in less than a millisecond."""
    positions = np.arange(begin, end)
    keys = schedule.group[positions].astype(np.int64) * (chunk + 1) + chunk_lengths(schedule, positions, chunk)
    found = []
    while len(positions):
        alike = keys == keys[0]
        found.append(positions[alike])
        positions, keys = positions[~alike], keys[~alike]
    return found
