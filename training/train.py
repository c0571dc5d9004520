"""Training, from a prepared graph to a run directory."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.allocator import give_back_freed_memory
from bundle.disk import replacing
from bundle.graph_place import placed, require_replaceable
from bundle.graph_record import COMMIT_FILE
from bundle.prepared import PreparedGraph, check_rows
from bundle.progress import SILENT, Progress
from training.checkpoint import RunKey
from training.config import TrainConfig
from training.distributed.agreement import agree_on_earlier_work
from training.distributed.group import Group, SoloGroup
from training.distributed.launch import train_together
from training.distributed.torchrun import TorchrunGroup
from training.process import run_process
from training.resume import find_earlier_work, only_trainer


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run was: where it lies, what it saw, how long this process took, and which backend trained."""

    run_dir: Path
    epochs: int
    edges_seen: int
    final_loss: float
    seconds: float
    edges_per_second: float
    backend: str


def train(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    *,
    warm_start: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> RunSummary:
    """Train `prepared` and write the run directory `run_dir`; `run.json` is written last.

    With `resume` it goes on from the checkpoint in `run_dir`, or starts when there is none. `warm_start` is an earlier
    run or version. With one thread the result depends on graph, settings and warm start alone.
    Raises UsageError when `run_dir` holds another run or another process trains in it, ConfigError for settings that
    cannot work here, Diverged when the loss stops being a number, DiskFull when there is no room left (the last
    checkpoint stays).
    """
    with only_trainer(run_dir):
        return train_locked(prepared, run_dir, config, warm_start=warm_start, resume=resume, progress=progress)


def train_locked(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    *,
    warm_start: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
    group: Group | None = None,
) -> RunSummary:
    """`train` for a caller who is the `only_trainer` of `run_dir`.

    With a `group` of trainers on several machines each calls this, with its own directory; the first writes the run.
    """
    if config.memory is not None:
        give_back_freed_memory()
    group = SoloGroup() if group is None else group
    key = RunKey.of(prepared, config, warm_start)
    if isinstance(group, TorchrunGroup):
        found = agree_on_earlier_work(group, run_dir, key, resume)
    else:
        found = find_earlier_work(run_dir, key, resume)
    if found.finished:
        shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)  # left by a kill just before the end
        done = found.finished
        return RunSummary(run_dir, done.epochs, done.edges_seen, done.final_loss or 0.0, 0.0, 0.0, "")
    shutil.rmtree(run_dir / "diverged", ignore_errors=True)  # of an attempt with other settings
    check_rows(prepared)  # the kernel reads and writes wherever a row leads
    started, checkpoint = time.perf_counter(), found.checkpoint
    if group.rank == 0:
        _bring_graph(prepared, run_dir)
    if config.devices > 1:
        end, backend = train_together(prepared, run_dir, config, warm_start, checkpoint is not None, progress)
    else:
        end, backend = run_process(prepared, run_dir, config, warm_start, checkpoint, group, progress)
    group.sum(np.zeros(1))  # until the run is written nobody gives up a checkpoint
    shutil.rmtree(run_dir / "checkpoint")
    seconds = time.perf_counter() - started
    rate = (end.edges_seen - (checkpoint.position.edges_seen if checkpoint else 0)) / seconds
    return RunSummary(run_dir, end.epoch, end.edges_seen, end.last_loss or 0.0, seconds, rate, backend)


def _bring_graph(prepared: PreparedGraph, run_dir: Path) -> None:
    """The run directory holds its graph: copy it there when it was prepared elsewhere, in place of any other one."""
    target, record = run_dir / "graph", (prepared.path / COMMIT_FILE).read_bytes()
    if prepared.path.resolve() == target.resolve():
        return
    if (target / COMMIT_FILE).exists() and (target / COMMIT_FILE).read_bytes() == record:
        return  # brought by an earlier sitting
    require_replaceable(target)
    with placed(target) as partial:
        for file in sorted(path for path in prepared.path.rglob("*") if path.is_file()):
            copy = partial / file.relative_to(prepared.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as original, replacing(copy) as out:  # copytree tells of a full disk in words alone
                shutil.copyfileobj(original, out)
