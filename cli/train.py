"""`twhin train`: from graph files to a run directory."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import ConfigError, UsageError
from bundle.progress import SILENT
from cli.output import JsonFlag, counted, emit, line, next_command, size, table
from cli.prepare import tell
from cli.progress import progress, readable, say
from cli.settings import ConfigOption, PresetOption, SetOption, merged
from training.presets import SETTINGS, Preset

if TYPE_CHECKING:
    from bundle.prepared import PreparedGraph
    from training.config import TrainConfig
    from training.distributed.group import Group

# Below the run directory: those of the other trainers on its machine, while they train.
TRAINERS = "trainers"


def train(
    graph: Annotated[
        str,
        typer.Argument(
            help="The graph file, graph.toml, or a prepared graph: its directory, or its folder in a store "
            "(s3://bucket/path, gs:// or az://).",
            metavar="GRAPH",
        ),
    ],
    run: Annotated[Path, typer.Option("--run", help="Directory for the run; made if missing.", metavar="DIR")],
    preset: PresetOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            "--warm-start", help="Start from this earlier run or version: its vectors stay comparable.", metavar="DIR"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the run directory.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Memory the process may use; more is streamed from disk.", metavar="8GiB"),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option("--devices", help="GPUs, or CPU processes, that train together; docs/gpu.md.", metavar="N", min=1),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print entities, memory, disk and time for this machine; train nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train embeddings: read the graph files, learn a vector for every entity and relation, write a run directory.

    Ctrl-C and even a power cut leave the last checkpoint; go on with --resume. Started by torchrun on several machines,
    it trains one graph on all of them; docs/training.md.
    """
    from bundle.trained import open_trained
    from storage.address import require_path
    from training.distributed.torchrun import met
    from training.resume import only_trainer
    from training.train import train_locked as run_training

    require_path(run)
    with met(os.environ) as group:
        mine = _own_directory(run, group)
        chosen = _settings(mine if resume else None, preset, config, settings, memory, devices)
        _require_room(chosen)
        _require_usable(chosen, warm_start, group)
        if group.apart:
            _require_one_process(chosen, plan)
        if warm_start is not None:
            open_trained(warm_start)  # a wrong name is told before minutes of reading
        if group.local_rank == 0:
            _look(graph)  # before anything is made there
        shown = progress() if group.rank == 0 else SILENT
        with only_trainer(mine), _kept(graph):  # before minutes of preparing
            prepared = _prepare(graph, run, group)
            if plan:
                _plan(prepared, chosen, as_json)
                return
            summary = run_training(
                prepared, mine, chosen, warm_start=warm_start, resume=resume, progress=shown, group=group
            )
    if mine != run and mine.exists():  # an empty one that this command made is gone with its lock
        shutil.rmtree(mine)
    if group.rank > 0:
        say(f"Trainer {group.rank} of {group.size} is done; the first has written the run.")
        return
    emit(
        summary,
        as_json,
        lambda: line(
            f"Trained {counted(summary.epochs, 'epoch')}, {readable(summary.edges_seen)} edges in "
            f"{summary.seconds:.0f} s; loss {summary.final_loss:.4f}. The run is in {run}. "
            f"{next_command('twhin', 'build', run, '--bundles', 'DIR')}"
        ),
    )


def _own_directory(run: Path, group: "Group") -> Path:
    """Where this process trains: trainers that share a machine have a directory each."""
    return run if not group.apart or group.local_rank == 0 else run / TRAINERS / str(group.local_rank)


def _require_one_process(config: "TrainConfig", plan: bool) -> None:
    """Raise UsageError for what several trainers started by torchrun have no use for."""
    if config.devices > 1:
        raise UsageError("torchrun starts the processes: leave --devices out, and name --nproc-per-node N to torchrun.")
    if plan:
        raise UsageError("--plan is of one machine: run it without torchrun.")


def _settings(
    resumed: Path | None,
    preset: Preset | None,
    config: Path | None,
    settings: list[str] | None,
    memory: str | None,
    devices: int | None,
) -> "TrainConfig":
    """What was given, over the settings of the run that is gone on with."""
    from training.config import parse_config
    from training.resume import earlier_settings

    given = merged(config, settings, {} if preset is None else SETTINGS[preset])
    if memory is not None:
        given |= parse_config({"memory": memory}, "--memory").model_dump(include={"memory"})
    if devices is not None:
        given["devices"] = devices
    before = {} if resumed is None else earlier_settings(resumed)
    chosen = parse_config({**before, **given}, str(config or "--set"))
    now = chosen.model_dump(mode="json")
    for name in sorted(given.keys() & before.keys()):
        if before[name] != now[name]:
            say(f"{name}: {before[name]} → {now[name]}")
    return chosen


def _require_room(config: "TrainConfig") -> None:
    """Raise ConfigError when the process itself, without a graph, takes all of `memory` already."""
    from training.memory import MIB, resident_bytes

    if config.memory is not None and config.memory <= (taken := resident_bytes()):
        raise ConfigError(
            f"memory is {config.memory / MIB:.0f} MiB, but the process alone takes {taken // MIB + 1} MiB. Allow more."
        )


def _require_usable(config: "TrainConfig", warm_start: Path | None, group: "Group") -> None:
    """Raise ConfigError for what cannot work on this machine, whatever the graph: before minutes of reading."""
    from training.backends.choose import make_backend
    from training.config import require_warm_start
    from training.distributed.launch import check_devices
    from training.metrics import require_sinks

    require_warm_start(config, warm_start)
    require_sinks(config)
    if config.devices > 1:
        check_devices(config)
    elif config.device != "cpu":
        make_backend(config.share(group.local_rank, group.local_size))


def _look(graph: str) -> None:
    """Raise GraphFileError or EdgeFileError where the graph file, or one that it names, is missing or no such file."""
    from bundle.run import GRAPH_DIRECTORY
    from graph.prepare import found
    from storage.address import is_url

    if is_url(graph) or _is_prepared(graph):
        return
    below = str(Path(graph) / GRAPH_DIRECTORY)
    if _is_prepared(below):
        raise UsageError(f"{graph} is a run. To train on its graph once more give {below}.")
    found(Path(graph))


def _kept(graph: str) -> AbstractContextManager[None]:
    """Keep a prepared graph from being replaced while it is trained on."""
    from bundle.graph_place import reading

    return reading(Path(graph)) if _is_prepared(graph) else nullcontext()


def _is_prepared(graph: str) -> bool:
    """Whether a directory of this machine with a prepared graph is named."""
    from bundle.graph_record import COMMIT_FILE
    from storage.address import is_url

    return not is_url(graph) and (Path(graph) / COMMIT_FILE).exists()


def _prepare(graph: str, run: Path, group: "Group") -> "PreparedGraph":
    """The graph, prepared already or in the run directory; a machine's first process prepares or fetches it for the
    others."""
    import numpy as np

    from bundle.prepared import load_prepared
    from bundle.run import GRAPH_DIRECTORY, RUN_FILE
    from graph.prepare import prepare
    from storage.address import is_url

    given, may_replace = Path(graph), not (run / RUN_FILE).exists()
    place = given if _is_prepared(graph) else run / GRAPH_DIRECTORY
    if place != given and group.local_rank == 0:
        if is_url(graph):
            from storage.graphs import fetch_graph
            from storage.store import open_store

            fetch_graph(open_store(graph), place, progress(), may_replace=may_replace)
        else:
            prepare(given, place, progress(), may_replace=may_replace)
    group.sum(np.zeros(1))  # until it is there for all
    prepared = load_prepared(place)
    tell(prepared)
    return prepared


def _plan(prepared: "PreparedGraph", config: "TrainConfig", as_json: bool) -> None:
    from training.plan import plan

    answer = plan(prepared, config)
    rows = [
        [name.removesuffix("_bytes").replace("_", " "), size(value) if name.endswith("_bytes") else value]
        for name, value in vars(answer).items()
    ]
    emit(answer, as_json, lambda: table("Plan", ("what", "value"), rows))
