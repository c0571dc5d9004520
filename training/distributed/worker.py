"""One of several trainers: a process of its own, which meets the others and tells by a pipe how it goes."""

import ctypes
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from bundle.allocator import give_back_freed_memory
from bundle.disk import full_disk_named
from bundle.errors import TwhinError
from bundle.prepared import load_prepared
from training.checkpoint import MAKE_ROOM, read_checkpoint
from training.config import TrainConfig
from training.distributed.group import GlooGroup
from training.distributed.messages import Message, PipeProgress, Task
from training.process import run_process

PR_SET_PDEATHSIG = 1


def run_rank(task: Task, meeting_point: str, rank: int, pipe: Connection) -> None:
    """The whole life of one trainer's process. Tells by `pipe` how it goes and how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process; the one that started us decides
    _die_with_parent()
    progress = PipeProgress(pipe, leads=rank == 0)
    run_dir, config = Path(task.run_dir), TrainConfig.model_validate_json(task.config)
    warm_start = None if task.warm_start is None else Path(task.warm_start)
    if config.memory is not None:
        give_back_freed_memory()
    try:
        group = GlooGroup(Path(meeting_point), rank, config.devices)
        prepared = load_prepared(run_dir / "graph")
        checkpoint = read_checkpoint(run_dir / "checkpoint" / "tables") if task.resume else None
        with full_disk_named(run_dir, MAKE_ROOM):
            end, backend = run_process(
                prepared, run_dir, config, warm_start, checkpoint, group, progress, task.spoken_for
            )
        group.leave()
        progress.send(Message(end=end, backend=backend))
    except TwhinError as error:
        progress.send(Message(error=str(error), code=error.code))
        raise SystemExit(error.exit_status) from None
    except Exception as error:  # a fault of ours: the traceback follows on standard error
        progress.send(Message(error=f"{type(error).__name__}: {error}"))
        raise


def _die_with_parent() -> None:
    """Where Linux can: a trainer that outlived a killed command would write beside the one that resumes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
