"""The loop over epochs, buckets and spans of chunks, with checkpoints between spans."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.progress import Progress, Stage
from training.backends.base import Backend, BucketWork
from training.bucket_files import Layout
from training.checkpoint import Position
from training.config import TrainConfig
from training.diverged import save_batch
from training.edges import BucketEdges
from training.metrics import Sink
from training.model import Relations
from training.partition import BucketId, bucket_order
from training.partition_buffer import Residents
from training.schedule import make_schedule

SPAN_SECONDS = 0.25
REPORT_SECONDS = 5.0
LONGEST_SPAN = 2**24


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of a run that the loop drives. `save` makes a position the checkpoint; `deal` hashes the rows anew for
    the position's epoch."""

    config: TrainConfig
    backend: Backend
    residents: Residents
    relations: Relations
    relation_weights: npt.NDArray[np.float32]
    save: Callable[[Position], None]
    deal: Callable[[Position], Layout]
    sink: Sink
    diverged_dir: Path


@dataclass(slots=True)
class Pace:
    """When a checkpoint or a line of metrics is due (seconds), and how many chunks make a span."""

    checkpoint_every: float
    span: int
    now: Callable[[], float] = time.monotonic
    checkpointed: float = field(init=False)
    reported: float = field(init=False)
    edges_reported: int = 0

    def __post_init__(self) -> None:
        self.checkpointed = self.reported = self.now()

    def adapt(self, seconds: float, unit: int) -> None:
        """Aim the next span at SPAN_SECONDS; it stays a multiple of `unit` chunks, so updates fall alike in any run."""
        ideal = min(LONGEST_SPAN, self.span * min(4.0, SPAN_SECONDS / max(seconds, 1e-6)))
        self.span = max(1, round(ideal / unit)) * unit

    def checkpoint_due(self) -> bool:
        """True once an interval has passed; starts the next one."""
        due = self.now() - self.checkpointed >= self.checkpoint_every
        if due:
            self.checkpointed = self.now()
        return due

    def rate(self, edges: int) -> float | None:
        """Edges a second since the last report when one is due, else None."""
        elapsed = self.now() - self.reported
        if elapsed < REPORT_SECONDS:
            return None
        rate = (edges - self.edges_reported) / elapsed
        self.reported, self.edges_reported = self.now(), edges
        return rate


def run_epochs(engine: Engine, layout: Layout, start: Position, edges_per_epoch: int, progress: Progress) -> Position:
    """Train from `start`, for whose epoch `layout` is dealt, to the last epoch. Raises Diverged, DiskFull.

    With several partitions each epoch deals the rows anew: only entities of one partition compete with one another,
    so a lasting division would leave the others' scores uncompared.
    """
    config, position = engine.config, start
    pace = Pace(config.checkpoint_seconds, config.chunks_per_update, edges_reported=start.edges_seen)
    while position.epoch < config.epochs:
        with progress.stage(f"epoch {position.epoch + 1}/{config.epochs}", edges_per_epoch, "edges") as stage:
            stage.advance(position.epoch_edges)
            position = _epoch(engine, layout, position, pace, stage)
        loss = position.epoch_loss / max(1, position.epoch_edges)
        engine.sink.write({"edges": position.edges_seen, "epoch": position.epoch + 1, "epoch_loss": loss})
        position = Position(epoch=position.epoch + 1, edges_seen=position.edges_seen, last_loss=loss)
        if layout.partitions > 1 and position.epoch < config.epochs:
            layout = engine.deal(position)
    return position


def _epoch(engine: Engine, layout: Layout, position: Position, pace: Pace, stage: Stage) -> Position:
    order = bucket_order(layout.partitions, engine.config.seed, position.epoch)
    again = layout.partitions == 1 and position.epoch + 1 < engine.config.epochs
    following = [*order[1:], order[0] if again else None]
    for step in range(position.step, len(order)):
        position, _ = train_bucket(engine, layout, position, (order[step], following[step]), pace, stage)
        position = position.model_copy(update={"step": step + 1, "chunk": 0})
    return position


def train_bucket(
    engine: Engine,
    layout: Layout,
    position: Position,
    buckets: tuple[BucketId, BucketId | None],
    pace: Pace,
    stage: Stage,
) -> tuple[Position, tuple[BucketEdges, ...]]:
    """Train one bucket from the position's chunk on, and fetch the next; gives the bucket's edges too."""
    config, bucket = engine.config, buckets[0]
    loaded = engine.residents.open(bucket, buckets[1])
    schedule = make_schedule(loaded.groups, config.chunk, config.seed, position.epoch, *bucket)
    work = BucketWork(
        loaded.groups, loaded.sources, loaded.targets, engine.relations, engine.relation_weights, schedule
    )
    visit = engine.backend.visit(work)
    while position.chunk < len(schedule):
        began, end = time.perf_counter(), min(position.chunk + pace.span, len(schedule))
        result = visit.run(position.chunk, end)
        if result.diverged_at is not None:
            at = result.diverged_at, config.chunk
            raise save_batch(engine.diverged_dir, layout, bucket, loaded.groups, schedule, at)
        position = _moved(position, end, result.edges, result.loss)
        pace.adapt(time.perf_counter() - began, config.chunks_per_update)
        _report(engine, position, pace, stage, result.edges)
        if pace.checkpoint_due():
            visit.sync()
            engine.save(position)
    visit.sync()
    return position, loaded.groups


def _moved(position: Position, chunk: int, edges: int, loss: float) -> Position:
    return position.model_copy(
        update={
            "chunk": chunk,
            "edges_seen": position.edges_seen + edges,
            "epoch_edges": position.epoch_edges + edges,
            "epoch_loss": position.epoch_loss + loss,
        }
    )


def _report(engine: Engine, position: Position, pace: Pace, stage: Stage, edges: int) -> None:
    loss = position.epoch_loss / max(1, position.epoch_edges)
    stage.advance(edges)
    stage.note(f"loss {loss:.4f}")
    rate = pace.rate(position.edges_seen)
    if rate is not None:
        line = {
            "edges": position.edges_seen,
            "epoch": position.epoch + 1,
            "loss": loss,
            "edges_per_second": round(rate),
        }
        engine.sink.write(line)
