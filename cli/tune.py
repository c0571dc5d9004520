"""`twhin tune`: which settings train this graph best, found on its validation edges."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.disk import write_text
from bundle.errors import ConfigError, UsageError
from bundle.text import toml_of
from cli.compose import judge_of_links
from cli.output import JsonFlag, counted, emit, line, next_command, table
from cli.progress import progress, say
from cli.settings import ConfigOption, PresetOption, SetOption, merged

if TYPE_CHECKING:
    from bundle.prepared import PreparedGraph
    from training.search import Found, Trial

CONFIG_FILE = "best.toml"
SHOWN = 10
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def tune(
    graph: Annotated[Path, typer.Argument(help="The graph file, graph.toml.", metavar="GRAPH.toml")],
    directory: Annotated[
        Path,
        typer.Option(
            "--dir",
            help=f"Directory for the settings found, {CONFIG_FILE}, and the log; made if missing.",
            metavar="DIR",
        ),
    ],
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="Time to search, earlier sittings in the same directory included: 90s, 10m, 2h.",
        ),
    ] = "10m",
    preset: PresetOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of what is tried and of the validation edges ranked.", min=0)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Search the settings that train this graph best, by link prediction on its validation edges.

    Settings given by --config or --set are kept as they are. Ctrl-C keeps what was found; the same command goes on.
    """
    from training.config import parse_config
    from training.presets import SETTINGS
    from training.resume import only_trainer
    from training.search import LOG_FILE, Search
    from training.search_space import SPACE, searched

    seconds, fixed = _seconds(budget), merged(config, settings)
    if "epochs" in fixed:
        raise ConfigError("epochs is what a search finds beside the others: leave it out of --config and --set.")
    parse_config(fixed, str(config or "--set"))
    names = searched(fixed)  # refuses before minutes of reading
    chosen = _Chosen(directory / CONFIG_FILE, fixed)
    starts = [SETTINGS[preset]] if preset else [{}, *SETTINGS.values()]
    with only_trainer(directory):
        prepared = _prepare(graph, directory)
        judge, questions = judge_of_links(prepared, seed)
        try:
            found = Search(prepared, directory, fixed, starts, seed, seconds, judge, chosen.hear).run(progress())
        except KeyboardInterrupt:
            if chosen.best is not None:
                say(f"The best settings so far are in {chosen.file}. The same command goes on from here.")
            raise
    answer = {
        "config": chosen.file,
        "log": directory / LOG_FILE,
        "metric": f"filtered MRR of {counted(questions, 'validation edge')}, both ends",
        "trials": found.trials,
        "seconds": round(sum(each.seconds for each in found.lines), 1),
        "cpu_seconds": round(sum(each.cpu_seconds for each in found.lines), 1),
        "complete": found.complete,
        "best": found.best,
        "start": found.start,
        "searched": {name: list(SPACE[name]) for name in names},
    }
    emit(answer, as_json, lambda: _show(found, answer, graph))


@dataclass(slots=True)
class _Chosen:
    """The best settings so far, always written down."""

    file: Path
    fixed: dict[str, object]
    best: "Trial | None" = None

    def hear(self, trial: "Trial") -> None:
        """Take note of what a trial was worth."""
        if self.best is None or trial.score > self.best.score:
            self.best = trial
            head = f"# Found by twhin tune: {trial.score:.4f} filtered MRR on validation edges.\n"
            settings = {**trial.settings, "epochs": trial.epochs, **self.fixed}
            lines = [f"{name} = {toml_of(value)}\n" for name, value in settings.items() if value is not None]
            write_text(self.file, head + "".join(lines))


def _seconds(budget: str) -> float:
    """A length of time in seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", budget.strip(), re.ASCII)
    if not found or not float(found[1]):
        raise ConfigError(f"--budget is {budget!r:.40}; write a length of time such as 90s, 10m or 2h.")
    return float(found[1]) * _UNITS[found[2]]


def _prepare(graph: Path, directory: Path) -> "PreparedGraph":
    from graph.prepare import prepare

    prepared = prepare(graph, directory / "graph", progress())
    for warning in prepared.warnings():
        say(f"  {warning}")
    if not any(len(relation.valid) for relation in prepared.relations):
        raise UsageError(
            f"{graph} holds out no validation edges, by which settings could be judged: of fewer than 1,000 edges of a "
            "relation no slice is held out, nor with fraction = 0 in [validation]. Add a [split] to it; one by files "
            "needs `valid`."
        )
    return prepared


def _show(found: "Found", answer: Mapping[str, object], graph: Path) -> None:
    best, start = found.best, found.start
    order = sorted(found.lines, key=lambda each: -each.score)[:SHOWN]
    rows = [
        [each.trial, each.epochs, each.score, each.seconds, _differences(each.settings, start.settings)]
        for each in order
    ]
    columns = ("trial", "epochs", "MRR", "seconds", "other than trial 0")
    table(f"The best of {counted(found.trials, 'trial')}, {answer['metric']}", columns, rows)
    ended = "" if found.complete else "; the time was used up"
    line(
        f"{best.score:.4f} after {counted(best.epochs, 'epoch')}; the settings that the search began with had "
        f"{start.score:.4f} after {counted(start.epochs, 'epoch')}. {answer['seconds']} s, {answer['cpu_seconds']} s "
        f"of CPU time{ended}. The best of many tries looks better than it is: test edges tell how good. "
        f"All tries are in {answer['log']}."
    )
    line(next_command("twhin", "train", graph, "--run", "DIR", "--config", answer["config"]))


def _differences(settings: Mapping[str, object], start: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value != start[name])
