"""One of several trainers: trains its buckets of every round, then meets the others."""

import ctypes
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from bundle.errors import TwhinError
from bundle.prepared import load_prepared
from bundle.progress import Stage
from training.allocator import give_back_freed_memory
from training.bucket_files import Layout, training_edges
from training.bucket_order import rounds
from training.checkpoint import Checkpoint, Position, StoreKey, TableStore, read_checkpoint
from training.config import TrainConfig
from training.distributed.group import Team
from training.distributed.messages import Message, Relay, Task
from training.export import export_run, export_tables
from training.loop import Engine, Pace, train_bucket
from training.metrics import Sink, Sinks
from training.partition import BucketId
from training.partition_buffer import Residents
from training.setup import (
    Dealer,
    make_backend,
    metrics_sink,
    parent_name,
    relation_weights,
    share_of,
    vectors_at_start,
)
from training.sizing import choose

NEVER = float("inf")
PR_SET_PDEATHSIG = 1


def run_rank(task: Task, meeting_point: str, rank: int, pipe: Connection) -> None:
    """The whole life of one trainer's process. Tells by `pipe` how it goes and how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process; the one that started us decides
    _die_with_parent()
    relay = Relay(pipe, leads=rank == 0)
    config = TrainConfig.model_validate_json(task.config)
    if config.memory is not None:
        give_back_freed_memory()
    try:
        team = Team(Path(meeting_point), rank, config.devices)
        end, backend = _train(task, config, team, relay)
        team.leave()
        relay.send(Message(end=end, backend=backend))
    except TwhinError as error:
        relay.send(Message(error=str(error), code=error.code))
        raise SystemExit(error.exit_status) from None
    except Exception as error:  # a fault of ours: the traceback follows on standard error
        relay.send(Message(error=f"{type(error).__name__}: {error}"))
        raise


def _die_with_parent() -> None:
    """Where Linux can: a trainer that outlived a killed command would write beside the one that resumes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _train(task: Task, config: TrainConfig, team: Team, relay: Relay) -> tuple[Position, str]:
    """As one process trains, but by rounds. The first rank alone deals, checkpoints and exports."""
    run_dir, mine = Path(task.run_dir), share_of(config, team.rank, task.spoken_for)
    warm_start = None if task.warm_start is None else Path(task.warm_start)
    prepared = load_prepared(run_dir / "graph")
    checkpoint = read_checkpoint(run_dir / "checkpoint" / "tables") if task.resume else None
    backend = make_backend(mine)
    origin = vectors_at_start(prepared, config, warm_start)  # before memory is measured: it stays
    partitions = checkpoint.partitions if checkpoint else _together(team, choose(prepared, mine, backend.room()))
    dealer = Dealer(prepared, run_dir / "checkpoint" / "edges", partitions, config, relay)
    dealer.deal(checkpoint.dealt if checkpoint else 0, write=team.rank == 0)
    store = TableStore(run_dir / "checkpoint" / "tables", dealer.rows, origin.dealt(dealer.rows))
    relations = store.restore(checkpoint) if checkpoint else origin.relations()
    key = StoreKey(prepared.digest, config.model_dump(mode="json"), parent_name(warm_start))
    with Residents(backend.store(store), dealer.layout) as residents:
        engine = Engine(
            mine, backend, residents, relations, relation_weights(prepared, config), _no_save, _no_deal, Sinks([]),
            run_dir / "diverged" / f"trainer-{team.rank}",
        )  # fmt: skip
        sink = metrics_sink(run_dir, config, fresh=checkpoint is None) if team.rank == 0 else Sinks([])
        member = Member(config, team, dealer, store, engine, key, sink)
        end = member.run(checkpoint, sum(map(training_edges, prepared.relations)), relay)
    if team.rank == 0:
        export_tables(run_dir, [entity.name for entity in prepared.entities], dealer.rows, store, config.dim)
        export_run(run_dir, prepared, config, relations, key.parent, end)
    return end, backend.name


def _together(team: Team, partitions: int) -> int:
    """P for all: the most that a rank needs. Were they not alike, each rank would look for edges in other buckets."""
    most = np.array([partitions])
    team.most(most)
    return int(most[0])


def _no_save(position: Position) -> None:
    raise AssertionError("trainers checkpoint when they meet")


def _no_deal(position: Position) -> Layout:
    raise AssertionError("trainers deal when they meet")


@dataclass(slots=True)
class Tally:
    """What one rank did in a round, and the relations' optimiser state before it."""

    state: Float32[npt.NDArray[np.float32], "r 2 d"]
    counts: Float64[npt.NDArray[np.float64], " r"]
    edges: int = 0
    loss: float = 0.0


@dataclass(slots=True)
class Member:
    """A rank at work."""

    config: TrainConfig
    team: Team
    dealer: Dealer
    store: TableStore
    engine: Engine
    key: StoreKey
    sink: Sink
    checkpointed: float = field(default_factory=time.monotonic)

    def run(self, checkpoint: Checkpoint | None, edges_per_epoch: int, relay: Relay) -> Position:
        """Train from the checkpoint, or the start, to the end."""
        self._wait()  # until the first rank has dealt the edges
        position = checkpoint.position if checkpoint else Position()
        if self.dealer.epoch < position.epoch < self.config.epochs:
            self._deal(position)
        while position.epoch < self.config.epochs:
            name = f"epoch {position.epoch + 1}/{self.config.epochs}"
            with relay.stage(name, edges_per_epoch, "edges") as stage:
                if relay.leads:
                    stage.advance(position.epoch_edges)
                position = self._epoch(position, stage)
            loss = position.epoch_loss / max(1, position.epoch_edges)
            self.sink.write({"edges": position.edges_seen, "epoch": position.epoch + 1, "epoch_loss": loss})
            position = Position(epoch=position.epoch + 1, edges_seen=position.edges_seen, last_loss=loss)
            if position.epoch < self.config.epochs:
                self._deal(position)
        self._commit(position)
        return position

    def _epoch(self, position: Position, stage: Stage) -> Position:
        order = rounds(self.dealer.layout.partitions, self.team.size, self.config.seed, position.epoch)
        for step in range(position.step, len(order)):
            began = time.perf_counter()
            tally = self._round(order[step][self.team.rank], position, stage)
            position = self._meet(position, step, tally)
            self._report(position, tally, time.perf_counter() - began, stage)
            if self._due():
                self._commit(position)
        return position

    def _round(self, buckets: tuple[BucketId, ...], position: Position, stage: Stage) -> Tally:
        """Train this rank's buckets, and leave no partition in memory."""
        relations = len(self.engine.relation_weights)
        tally = Tally(self.engine.relations.accumulator.copy(), np.zeros(relations))
        pace = Pace(NEVER, self.config.chunks_per_update)
        for bucket, following in zip_longest(buckets, buckets[1:]):
            start = Position(epoch=position.epoch)
            end, groups = train_bucket(self.engine, self.dealer.layout, start, (bucket, following), pace, stage)
            tally.edges += end.epoch_edges
            tally.loss += end.epoch_loss
            for group in groups:
                tally.counts += np.bincount(group.rel, minlength=relations)
        self.engine.residents.empty()
        return tally

    def _meet(self, position: Position, step: int, tally: Tally) -> Position:
        """Share what was saved, average the relation vectors, add up their optimiser state and what was done."""
        self._adopt()
        relations = self.engine.relations
        self.team.average(relations.vectors, tally.counts)
        self.team.accumulate(relations.accumulator, tally.state)
        together = np.array([tally.edges, tally.loss], dtype=np.float64)
        self.team.sum(together)
        tally.edges = int(together[0])
        done = {
            "step": step + 1,
            "edges_seen": position.edges_seen + tally.edges,
            "epoch_edges": position.epoch_edges + tally.edges,
            "epoch_loss": position.epoch_loss + float(together[1]),
        }
        return position.model_copy(update=done)

    def _report(self, position: Position, tally: Tally, seconds: float, stage: Stage) -> None:
        loss = position.epoch_loss / max(1, position.epoch_edges)
        stage.note(f"loss {loss:.4f}")
        line = {"edges": position.edges_seen, "epoch": position.epoch + 1, "loss": loss}
        self.sink.write({**line, "edges_per_second": round(tally.edges / max(seconds, 1e-9))})

    def _due(self) -> bool:
        """True for all ranks when the first one's clock says that a checkpoint is due."""
        late = time.monotonic() - self.checkpointed >= self.config.checkpoint_seconds
        decision = np.array([float(late and self.team.rank == 0)])
        self.team.sum(decision)
        return bool(decision[0])

    def _commit(self, position: Position) -> None:
        if self.team.rank == 0:
            self.store.commit(self.key, self.dealer.epoch, position, self.engine.relations)
        else:
            self.store.follow_commit()
        self.checkpointed = time.monotonic()

    def _deal(self, position: Position) -> None:
        """Hash the rows anew: the first rank moves them, the others take note."""
        self.dealer.deal(position.epoch, write=self.team.rank == 0)
        if self.team.rank == 0:
            self.store.deal(self.dealer.rows)
        else:
            self.store.follow_deal(self.dealer.rows)
        self._adopt()
        self.engine.residents.use(self.dealer.layout)
        self._commit(position)

    def _adopt(self) -> None:
        """Know of every file that any rank saved. Waits for all of them."""
        saved = self.store.saved()
        self.team.most(saved)
        self.store.adopt(saved)

    def _wait(self) -> None:
        self.team.sum(np.zeros(1))
