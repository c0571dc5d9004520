"""What a run directory holds before training starts: nothing, a checkpoint, a finished run, another trainer at work."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.disk import full_disk_named, locked
from bundle.errors import UsageError
from bundle.run import RUN_FILE, RunRecord, read_run_record
from training.checkpoint import MAKE_ROOM, NEXT_STATE, Checkpoint, RunKey, check_checkpoint, read_checkpoint
from training.config import TrainConfig

LOCK_FILE = "train.lock"
CHANGEABLE = {"epochs", "threads", "backend", "device", "checkpoint_seconds", "tensorboard", "memory", "partitions"}


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to go on from; at most one of them, and none in a new directory."""

    checkpoint: Checkpoint | None
    finished: RunRecord | None


@contextmanager
def only_trainer(run_dir: Path) -> Iterator[None]:
    """Hold the lock of `run_dir`, which the system frees when this process ends, however it ends: nobody else trains,
    searches settings or prepares its graph there.

    Raises UsageError when another process holds it, and DiskFull for what fails meanwhile for want of room.
    """
    busy = UsageError(
        f"Another process works in {run_dir}: it holds {run_dir / LOCK_FILE}. "
        "Wait until it ends, stop it, or name another directory."
    )
    with full_disk_named(run_dir, MAKE_ROOM), locked(run_dir / LOCK_FILE, busy, remove=True):
        yield


def earlier_settings(run_dir: Path) -> dict[str, object]:
    """The settings of the finished run or of the checkpoint in `run_dir`, to go on with; none in a new directory.

    Raises RunError when they cannot be read.
    """
    tables = run_dir / "checkpoint" / "tables"
    found = read_finished(run_dir) or read_checkpoint(tables) or read_checkpoint(tables, NEXT_STATE)
    return {} if found is None else dict(found.config)


def find_earlier_work(run_dir: Path, key: RunKey, resume: bool) -> Found:
    """The checkpoint or the finished run in `run_dir`.

    Raises UsageError when there is one but `resume` was not asked for, or when it was made from another graph, with
    other settings or from another warm start than `key` says; RunError when it cannot be read or is damaged.
    """
    found = Found(read_checkpoint(run_dir / "checkpoint" / "tables"), read_finished(run_dir))
    check_earlier_work(run_dir, found, key, resume)
    return found


def check_earlier_work(
    run_dir: Path, found: Found, key: RunKey, resume: bool, trainers: int = 1, machines: int = 1
) -> None:
    """Raise as `find_earlier_work` where what was `found` cannot be gone on with by so many trainers on so many
    machines, each with a directory of its own."""
    if (found.checkpoint or found.finished) and not resume:
        state = "an unfinished" if found.checkpoint else "a finished"
        raise UsageError(f"{run_dir} holds {state} run. Add --resume, name another directory, or delete it.")
    if found.finished:  # a checkpoint beside it is what a kill left while it was being deleted
        done = found.finished
        _agree("finished run", RunKey(done.graph_digest, done.config, done.parent), key)
        if key.config["epochs"] != done.epochs:
            raise UsageError(
                f"The run is finished after {done.epochs} epochs, epochs is {key.config['epochs']}. To train it "
                "further, name it with --warm-start and another directory with --run."
            )
    elif found.checkpoint:
        then = found.checkpoint
        _agree("checkpoint", RunKey(then.graph_digest, then.config, then.parent), key)
        if (then.trainers, then.machines) != (trainers, machines):
            raise UsageError(
                f"The checkpoint in {run_dir} is of {then.trainers} trainers on {then.machines} machines, and this is "
                f"{trainers} on {machines}. Go on as it began."
            )
        check_checkpoint(run_dir / "checkpoint" / "tables", then)


def _agree(what: str, then: RunKey, now: RunKey) -> None:
    """Raise UsageError when earlier work belongs to another graph, warm start or settings."""
    if then.graph_digest != now.graph_digest:
        raise UsageError(f"The graph changed since the {what} was written. Train in another directory.")
    if then.parent != now.parent:
        raise UsageError(f"The {what} was warm started from {then.parent}, now from {now.parent}. Name the same.")
    changed = changed_settings(then.config, now.config)
    if changed:
        raise UsageError(f"These settings differ from the {what}'s: {', '.join(changed)}. Set them back to resume.")


def changed_settings(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Settings that must not change but did; one that is newer than the earlier work had its default then."""
    before = {**TrainConfig.model_validate({}).model_dump(mode="json"), **then}
    return sorted(name for name in now if name not in CHANGEABLE and before[name] != now[name])


def read_finished(run_dir: Path) -> RunRecord | None:
    return read_run_record(run_dir) if (run_dir / RUN_FILE).exists() else None
