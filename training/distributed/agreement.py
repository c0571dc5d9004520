"""What trainers on several machines agree on before they train: one graph, the same settings, one checkpoint of all."""

import shutil
from pathlib import Path

from bundle.errors import RunError, UsageError
from bundle.records import Record
from bundle.release import release
from bundle.run import RunRecord
from training.checkpoint import NEXT_STATE, STATE, Checkpoint, RunKey, read_checkpoint
from training.distributed.torchrun import TorchrunGroup
from training.resume import Found, changed_settings, check_earlier_work, read_finished

# Settings that a machine may have for itself.
OWN = {"threads", "backend", "device", "memory", "tensorboard"}


class Report(Record):
    """What one trainer has. `marks` are of its checkpoints, the older one first; `committed`: all had written that."""

    release: str
    graph: str
    config: dict[str, object]
    warm_start: str | None
    resume: bool
    finished: RunRecord | None
    committed: bool
    marks: tuple[str, ...]


def agree_on_earlier_work(group: TorchrunGroup, run_dir: Path, key: RunKey, resume: bool) -> Found:
    """The newest checkpoint that all trainers have, or the run that one of them finished.

    A checkpoint that some of them did not complete is not used. Raises as `find_earlier_work`, all trainers alike;
    UsageError where they do not train the same graph with the same settings, RunError where a trainer's part is gone.
    """
    tables = run_dir / "checkpoint" / "tables"
    there = {name: read_checkpoint(tables, name) for name in (STATE, NEXT_STATE)}
    before = there[STATE]
    if before is not None and (before.trainers, before.machines) != (group.size, group.machines):
        check_earlier_work(run_dir, Found(before, None), key, resume, group.size, group.machines)
    marks = {each.mark: name for name, each in there.items() if each is not None and each.mark is not None}
    mine = Report(
        release=release(),
        graph=key.graph_digest,
        config={name: value for name, value in key.config.items() if name not in OWN},
        warm_start=key.parent,
        resume=resume,
        finished=read_finished(run_dir),
        committed=before is not None,
        marks=tuple(marks),
    )
    reports = [Report.model_validate_json(text) for text in group.gathered(mine.model_dump_json())]
    finished = next((report.finished for report in reports if report.finished), None)
    if finished is not None:
        if mine.finished is not None or not resume:
            check_earlier_work(run_dir, Found(None, mine.finished or finished), key, resume)
        check_left(run_dir, before, finished)
        return Found(None, finished)
    common = [mark for mark in marks if all(mark in report.marks for report in reports)]
    if not common:
        check_new(reports, group.hosts, resume)
    check_alike(reports, group.hosts)
    if not common:
        shutil.rmtree(tables, ignore_errors=True)  # what was never complete
        return Found(None, None)
    found = Found(there[marks[common[-1]]], None)
    _promote(tables, marks[common[-1]])
    check_earlier_work(run_dir, found, key, resume, group.size, group.machines)
    return found


def _promote(tables: Path, name: str) -> None:
    """Make the checkpoint of this name the only one."""
    if name == NEXT_STATE:
        (tables / NEXT_STATE).replace(tables / STATE)
    (tables / NEXT_STATE).unlink(missing_ok=True)


def check_alike(reports: list[Report], hosts: list[str]) -> None:
    """Raise UsageError for the first trainer that is about something else than trainer 0."""
    first = reports[0]
    for rank, report in enumerate(reports):
        who = f"Trainer {rank} ({hosts[rank]})"
        names = sorted(name for name in first.config if first.config[name] != report.config.get(name))
        for differs, words in (
            (report.release != first.release, f"runs release {report.release}, trainer 0 {first.release}"),
            (
                report.graph != first.graph,
                f"has the graph {report.graph[:12]}…, trainer 0 {first.graph[:12]}…: prepare it once, and copy that to "
                "every machine",
            ),
            (bool(names), f"has other settings than trainer 0: {', '.join(names)}"),
            (report.warm_start != first.warm_start, "has another --warm-start than trainer 0"),
            (report.resume != first.resume, "was started with --resume and trainer 0 without, or the other way round"),
        ):
            if differs:
                raise UsageError(f"{who} {words}. Start the same command on every machine.")


def check_left(run_dir: Path, before: Checkpoint | None, finished: RunRecord) -> None:
    """Raise UsageError where a checkpoint is no rest of the run that another trainer finished: it would go with it."""
    if before is None:
        return
    same = (before.graph_digest, before.parent) == (finished.graph_digest, finished.parent)
    if not same or changed_settings(before.config, finished.config):
        raise UsageError(
            f"{run_dir} holds an unfinished run, and another trainer's directory a finished one that is not the same. "
            "Name other directories."
        )


def check_new(reports: list[Report], hosts: list[str], resume: bool) -> None:
    """Raise where a checkpoint that all trainers had written is no longer with all of them."""
    lacking = [f"{rank} ({hosts[rank]})" for rank, report in enumerate(reports) if not report.committed]
    if len(lacking) == len(reports):
        return
    if not resume:
        raise UsageError("The run directories hold an unfinished run. Add --resume, name others, or delete them.")
    raise RunError(
        f"The trainers have no checkpoint in common: {', '.join(lacking) or 'one'} lacks what the others have. Give "
        "each machine its run directory back, or delete all of them and train from the start."
    )
