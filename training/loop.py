"""The training loop, of one process or each of several: epochs, rounds, buckets, spans of chunks, and checkpoints."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.progress import Progress, Stage
from training.backends.base import Backend, BucketWork, SpanResult
from training.bucket_order import Round
from training.buckets import Partitioner
from training.checkpoint import Position, RunKey
from training.chunks import make_schedule
from training.config import TrainConfig
from training.distributed.group import Group, put_together
from training.distributed.homes import Homes
from training.diverged import save_batch
from training.metrics import Sink
from training.model import Relations
from training.partition import BucketId
from training.partition_buffer import Loaded, PartitionBuffer

# A span is what a backend trains in one call: how long it should take, and the most chunks it may have.
SPAN_SECONDS = 0.25
LONGEST_SPAN = 2**24
# Between two lines of metrics.
REPORT_SECONDS = 5.0


@dataclass(slots=True)
class SpanTimer:
    """How many chunks make a span, and when a checkpoint or a line of metrics is due (seconds)."""

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
        """True once an interval has passed since the last one."""
        return self.now() - self.checkpointed >= self.checkpoint_every

    def rate(self, edges: int) -> float | None:
        """Edges a second since the last report when one is due, else None."""
        elapsed = self.now() - self.reported
        if elapsed < REPORT_SECONDS:
            return None
        rate = (edges - self.edges_reported) / elapsed
        self.reported, self.edges_reported = self.now(), edges
        return rate


@dataclass(slots=True)
class RoundResult:
    """What was done in a round: by this process, and once it is synchronised by all."""

    edges: int = 0
    loss: float = 0.0

    def after(self, start: Position) -> Position:
        """Where training is when this has been done since `start`."""
        done = {
            "edges_seen": start.edges_seen + self.edges,
            "epoch_edges": start.epoch_edges + self.edges,
            "epoch_loss": start.epoch_loss + self.loss,
        }
        return start.model_copy(update=done)


@dataclass(slots=True)
class TrainingLoop:
    """One process's part of a run, from a position to the end.

    A process alone trains bucket after bucket. Several train in rounds: each its own buckets, of partitions that no
    other one holds in that round. After every bucket they put their relations together, after the round they
    synchronise. The first of them reports. `rounds` gives an epoch's order.
    """

    config: TrainConfig
    group: Group
    backend: Backend
    partitioner: Partitioner
    rounds: Callable[[int], list[Round]]
    homes: Homes
    buffer: PartitionBuffer
    relations: Relations
    relation_weights: Float32[npt.NDArray[np.float32], " r"]
    key: RunKey
    sink: Sink
    progress: Progress
    diverged_dir: Path
    timer: SpanTimer = field(init=False)

    def __post_init__(self) -> None:
        self.timer = SpanTimer(self.config.checkpoint_seconds, self.config.chunks_per_update)

    def run(self, position: Position, edges_per_epoch: int) -> Position:
        """Train from `position` to the end of the last epoch, which becomes a checkpoint. Raises Diverged, DiskFull.

        With several partitions each epoch groups the shards anew: only entities of one partition compete with one
        another, so a lasting division would leave the others' scores uncompared.
        """
        self.timer.edges_reported = position.edges_seen
        while position.epoch < self.config.epochs:
            if self.partitioner.partitions > 1 and self.partitioner.epoch < position.epoch:
                self._regroup(position)
            name = f"epoch {position.epoch + 1}/{self.config.epochs}"
            with self.progress.stage(name, edges_per_epoch, "edges") as stage:
                if self.group.rank == 0:
                    stage.advance(position.epoch_edges)
                position = self._epoch(position, stage)
            line = {"edges": position.edges_seen, "epoch": position.epoch + 1, "epoch_loss": _mean_loss(position)}
            self.sink.write({**line, **self._sent()})
            position = Position(
                epoch=position.epoch + 1, edges_seen=position.edges_seen, last_loss=_mean_loss(position)
            )
        self.buffer.empty()
        self._checkpoint(position)
        return position

    def _epoch(self, position: Position, stage: Stage) -> Position:
        """Train the rounds of an epoch that are left at `position`."""
        rounds = self.rounds(position.epoch)
        mine = [buckets[self.group.rank] for buckets in rounds]
        for step in range(position.step, len(mine)):
            self.homes.begin(position.epoch, step)
            turns = max(map(len, rounds[step]))
            result = self._round(mine[step], turns, self._next(mine, position.epoch, step), position, stage)
            self._synchronise(result, stage)
            position = result.after(position).model_copy(update={"step": step + 1, "chunk": 0})
            self._report(position, stage)
            if self._all_checkpoint():
                self._checkpoint(position)
        return position

    def _next(self, mine: list[tuple[BucketId, ...]], epoch: int, step: int) -> BucketId | None:
        """The bucket to read from disk while the last one of a round trains. None where the shards are grouped anew
        first, or where there is none."""
        if self.group.size > 1:
            return next(iter(mine[step + 1]), None) if step + 1 < len(mine) else None
        if step + 1 < len(mine):
            return mine[step + 1][0]
        again = len(mine) == 1 and epoch + 1 < self.config.epochs
        return mine[0][0] if again else None

    def _round(
        self, buckets: tuple[BucketId, ...], turns: int, following: BucketId | None, start: Position, stage: Stage
    ) -> RoundResult:
        """Train this process's buckets of a round, the first of them from the start's chunk on.

        `turns` is the most buckets that a process has: whoever has fewer still takes part in each meeting.
        """
        result = RoundResult()
        for turn in range(turns):
            before = self.relations.vectors.copy(), self.relations.accumulator.copy()
            if turn < len(buckets):
                self._bucket(buckets[turn], self._open(buckets, turn, following), start, result, stage)
            if self.group.size > 1:
                put_together(self.group, self.relations.vectors, self.relations.accumulator, before)
        return result

    def _open(self, buckets: tuple[BucketId, ...], turn: int, following: BucketId | None) -> Loaded:
        """A bucket of a round in memory; what comes after it is read meanwhile."""
        if turn + 1 < len(buckets):
            return self.buffer.open(buckets[turn], buckets[turn + 1])
        alone = self.group.size == 1
        return self.buffer.open(buckets[turn], following) if alone else self.buffer.open(buckets[turn], None, following)

    def _bucket(self, bucket: BucketId, loaded: Loaded, start: Position, result: RoundResult, stage: Stage) -> None:
        """Train one bucket."""
        config, timer = self.config, self.timer
        schedule = make_schedule(loaded.groups, config.chunk, config.seed, start.epoch, *bucket)
        session = self.backend.open(
            BucketWork(loaded.groups, loaded.sources, loaded.targets, self.relations, self.relation_weights, schedule)
        )
        chunk = start.chunk
        while chunk < len(schedule):
            began, end = time.perf_counter(), min(chunk + timer.span, len(schedule))
            span: SpanResult = session.run(chunk, end)
            if span.diverged_at is not None:
                at = span.diverged_at, config.chunk
                raise save_batch(self.diverged_dir, self.partitioner.buckets, bucket, loaded.groups, schedule, at)
            chunk, result.edges, result.loss = end, result.edges + span.edges, result.loss + span.loss
            timer.adapt(time.perf_counter() - began, config.chunks_per_update)
            stage.advance(span.edges)
            self.group.check()
            if self.group.size == 1:  # several write a checkpoint when they meet, of a state that all have reached
                position = result.after(start).model_copy(update={"chunk": chunk})
                self._report(position, stage)
                if timer.checkpoint_due():
                    session.sync()
                    self._checkpoint(position)
        session.sync()

    def _synchronise(self, result: RoundResult, stage: Stage) -> None:
        """Make what all processes did in a round known, and let partitions change hands."""
        if self.group.size == 1:
            return
        self.buffer.empty()
        self.homes.meet()
        together = np.array([result.edges, result.loss], dtype=np.float64)
        self.group.sum(together)
        if self.group.apart:  # nobody else shows what the others did
            stage.advance(int(together[0]) - result.edges)
        result.edges, result.loss = int(together[0]), float(together[1])

    def _sent(self) -> dict[str, int]:
        """The bytes of tables that all processes have sent since they were started, to other machines and within."""
        mine = self.homes.sent()
        if mine is None:
            return {}
        sent = np.array(mine, dtype=np.float64)
        self.group.sum(sent)
        return {"bytes_sent": int(sent[1]), "bytes_within": int(sent[0])}

    def _regroup(self, position: Position) -> None:
        """Group the shards anew for the position's epoch."""
        self.buffer.empty()
        self.partitioner.regroup(position.epoch)
        self.homes.regroup(position.epoch, self.partitioner.rows)
        self.buffer.use(self.partitioner.buckets)
        self._checkpoint(position)

    def _all_checkpoint(self) -> bool:
        """True for every process when the first one's clock says that a checkpoint is due."""
        decision = np.array([float(self.timer.checkpoint_due() and self.group.rank == 0)])
        self.group.sum(decision)
        return bool(decision[0])

    def _checkpoint(self, position: Position) -> None:
        """Make `position`, which all processes have reached, the checkpoint."""
        self.buffer.save()
        self.homes.commit(self.key, self.partitioner.epoch, position, self.relations)
        self.timer.checkpointed = self.timer.now()

    def _report(self, position: Position, stage: Stage) -> None:
        """Show the epoch's loss so far, and write a line of metrics when one is due."""
        loss = _mean_loss(position)
        stage.note(f"loss {loss:.4f}")
        rate = self.timer.rate(position.edges_seen)
        if rate is not None:
            line = {"edges": position.edges_seen, "epoch": position.epoch + 1, "loss": loss}
            self.sink.write({**line, "edges_per_second": round(rate)})


def _mean_loss(position: Position) -> float:
    """The mean loss of an edge in the epoch so far."""
    return position.epoch_loss / max(1, position.epoch_edges)
