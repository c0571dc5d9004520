"""Starts a trainer for each device, shows their progress as one, and ends them all when one of them fails."""

import multiprocessing
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from bundle.errors import ConfigError, RunError
from bundle.prepared import PreparedGraph
from bundle.progress import Progress, SilentStage, Stage
from training.backends.choose import check_numbers
from training.bucket_order import check_partitions
from training.checkpoint import Position
from training.config import TrainConfig, relation_weights
from training.distributed.messages import GRACE_SECONDS, LOST, RESUME, Message, Task, error_class, receive
from training.memory import resident_bytes


@dataclass(slots=True)
class Trainer:
    """One process, the pipe from it, and why it failed."""

    rank: int
    process: SpawnProcess
    pipe: Connection
    error: Message | None = None
    done: Message | None = None


@dataclass(slots=True)
class RelayedProgress:
    """The stage that the first trainer opened, which all advance."""

    progress: Progress
    stage: Stage = field(default_factory=SilentStage)
    opened: ExitStack = field(default_factory=ExitStack)

    def show(self, message: Message) -> None:
        """Pass on one message."""
        if message.open is not None:
            self.stage = self.opened.enter_context(self.progress.stage(message.open, message.total, message.unit))
        if message.advance:
            self.stage.advance(message.advance)
        if message.note is not None:
            self.stage.note(message.note)
        if message.close:
            self.opened.close()
            self.stage = SilentStage()


def check_devices(config: TrainConfig) -> None:
    """Raise ConfigError for what several trainers could not work with here, whatever the graph.

    Nothing is opened on a card: this process would hold a context there beside its trainers, to the end.
    """
    check_numbers(config)
    if config.partitions:
        check_partitions(config.partitions, config.devices)
    if config.device not in ("cpu", "cuda"):
        raise ConfigError(
            f"device is {config.device!a:.40} and devices {config.devices}: expected 'cuda' for several GPUs, or 'cpu'."
        )
    if config.device == "cuda" and (found := _gpus()) < config.devices:
        raise ConfigError(
            f"devices is {config.devices}, but torch finds {found} GPUs here. Name fewer; docs/gpu.md helps."
        )


@cache
def _gpus() -> int:
    """GPUs that torch finds. Another process asks it: torch takes 200 MB, which this one needs for nothing else."""
    asked = [sys.executable, "-P", "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout)


def check_together(prepared: PreparedGraph, config: TrainConfig) -> None:
    """Raise ConfigError for what no trainer could work with: better said once, before they start."""
    check_devices(config)
    relation_weights(prepared, config)


def train_together(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    warm_start: Path | None,
    resume: bool,
    progress: Progress,
) -> tuple[Position, str]:
    """Train `prepared`, which lies in `run_dir`, on `config.devices` devices; the run is written when this returns.

    Gives the final position and the backend's name. A trainer that fails or dies ends the others, and the last
    checkpoint stays: raises what it raised, else RunError; ConfigError for settings that cannot work here.
    """
    check_together(prepared, config)
    (run_dir / "checkpoint").mkdir(parents=True, exist_ok=True)
    meeting_point = run_dir / "checkpoint" / f"meeting-{secrets.token_hex(8)}"
    start = None if warm_start is None else str(warm_start)
    task = Task(str(run_dir), config.model_dump_json(), start, resume, resident_bytes())
    shown = RelayedProgress(progress)
    with _started(task, str(meeting_point), config.devices) as trainers, shown.opened:
        _watch(trainers, shown)
        _raise_failure(trainers)
    done = trainers[0].done
    if done is None or done.end is None:
        raise RunError(f"The trainers ended without a result. {RESUME}")
    return done.end, done.backend


def _worker_main(task: Task, meeting_point: str, rank: int, pipe: Connection) -> None:
    """A trainer's. What trainers are made of is loaded by them alone: it takes memory."""
    from training.distributed.worker import run_rank

    run_rank(task, meeting_point, rank, pipe)


@contextmanager
def _started(task: Task, meeting_point: str, count: int) -> Iterator[list[Trainer]]:
    """The trainers at work; none of them outlives the context."""
    context = multiprocessing.get_context("spawn")
    trainers = []
    try:
        for rank in range(count):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_worker_main, args=(task, meeting_point, rank, theirs), daemon=True)
            process.start()
            theirs.close()
            trainers.append(Trainer(rank, process, ours))
        yield trainers
    finally:
        for trainer in trainers:
            trainer.process.kill()
        for trainer in trainers:
            trainer.process.join()
            trainer.pipe.close()
        Path(meeting_point).unlink(missing_ok=True)


def _watch(trainers: list[Trainer], shown: RelayedProgress) -> None:
    """PipeProgress messages until every trainer has ended, or for a moment longer once one has failed."""
    listening = list(trainers)
    until = None
    while listening and (until is None or time.monotonic() < until):
        ready = wait([trainer.pipe for trainer in listening], None if until is None else GRACE_SECONDS)
        for trainer in [trainer for trainer in reversed(listening) if trainer.pipe in ready]:
            try:
                _take_all(trainer, shown)
            except EOFError:
                listening.remove(trainer)
                trainer.process.join()
        if until is None and any(_failed(trainer) for trainer in trainers):
            until = time.monotonic() + GRACE_SECONDS  # for the others to say what they know; they may be busy for hours


def _take_all(trainer: Trainer, shown: RelayedProgress) -> None:
    """What lies in a trainer's pipe; the first trainer, who closes stages, comes last. Raises EOFError at the end."""
    _take(trainer, receive(trainer.pipe), shown)
    while trainer.pipe.poll():
        _take(trainer, receive(trainer.pipe), shown)


def _take(trainer: Trainer, message: Message, shown: RelayedProgress) -> None:
    if message.error is not None:
        trainer.error = message
    elif message.end is not None:
        trainer.done = message
    else:
        shown.show(message)


def _failed(trainer: Trainer) -> bool:
    return trainer.error is not None or trainer.process.exitcode not in (None, 0)


def _distance_from_cause(trainer: Trainer) -> int:
    """How far a failure is from the cause: in the trainer's own words, without words, for want of another one."""
    if trainer.error is None:
        return 1
    return 2 if LOST in str(trainer.error.error) else 0


def _raise_failure(trainers: list[Trainer]) -> None:
    """Name the trainer that failed by itself, not those that only missed it: by what it raised, else by how it ended.

    Going on helps when a process was lost; what a trainer complains of will come again.
    """
    failed = [trainer for trainer in trainers if _failed(trainer)]
    if not failed:
        return
    first = min(failed, key=_distance_from_cause)
    who = f"Trainer {first.rank} of {len(trainers)} failed:"
    if first.error is None:
        code = first.process.exitcode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        raise RunError(f"{who} {how}. {RESUME}")
    advice = f" {RESUME}" if _distance_from_cause(first) else ""
    raise error_class(first.error.code)(f"{who} {first.error.error}{advice}")
