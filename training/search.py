"""A search for good settings: successive halving on validation edges, in which every trial goes on where it stopped.

Many settings train for a few epochs, the better half of them for twice as many, and so on (Jamieson & Talwalkar 2016,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization"). Adagrad has no schedule, so a trial that is
trained further is the same as one that was meant to be so long, and the epochs at which it was best are learnt beside.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundle.disk import append_line, full_disk_named
from bundle.errors import Diverged, RunError
from bundle.prepared import PreparedGraph
from bundle.progress import Progress, SilentStage, Stage
from bundle.records import Record
from bundle.run import GRAPH_DIRECTORY, RUN_FILE
from training.config import TrainConfig, parse_config
from training.search_space import Settings, drawn
from training.train import train

FIRST_EPOCHS = 2
ROUNDS = 5
# The better half goes on.
KEPT = 2
LOG_FILE = "trials.jsonl"
Judge = Callable[[Path], float]


class Trial(Record):
    """One line of the log: settings, trained for so many epochs, and what they were worth on validation edges.

    `score` is higher for better settings, 0 where the loss stopped being a number. `seconds` and `cpu_seconds` are
    those since the trial's line before, judging included.
    """

    trial: int
    settings: dict[str, object]
    epochs: int
    score: float
    diverged: bool = False
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has come to: all lines of the log, and whether it ended or the time did."""

    lines: tuple[Trial, ...]
    complete: bool

    @property
    def best(self) -> Trial:
        """The best line, of equals the one of fewer epochs."""
        return max(self.lines, key=lambda line: (line.score, -line.epochs))

    @property
    def trials(self) -> int:
        """How many settings were tried."""
        return len({line.trial for line in self.lines})

    @property
    def start(self) -> Trial:
        """The best of the first trial: the preset's settings, or the defaults."""
        return max((line for line in self.lines if line.trial == 0), key=lambda line: line.score)


@dataclass(slots=True)
class Search:
    """A search in `directory`, which keeps the log and, until it ends, what is trained.

    `fixed` is what is not searched; `starts` are settings to try first and to vary. The same arguments lead through the
    same trials: those that the log has are not trained again, and their time counts.
    """

    prepared: PreparedGraph
    directory: Path
    fixed: Settings
    starts: Sequence[Settings]
    seed: int
    budget_seconds: float
    judge: Judge
    told: Callable[[Trial], None]
    lines: dict[tuple[int, int], Trial] = field(default_factory=dict)
    used_seconds: float = 0.0
    stage: Stage = field(default_factory=SilentStage)

    def run(self, progress: Progress) -> Found:
        """Search until the budget is used up or the last round has ended; `told` gets every line, those of the log too.

        Raises RunError for a log that is of another search, and what training raises, Diverged excepted. A
        KeyboardInterrupt loses the trial under way.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with full_disk_named(self.directory, "Make room and run it again: it goes on."):
            self._read_log()
            with progress.stage("searching settings", round(self.budget_seconds), "s") as self.stage:
                self.stage.advance(round(min(self.used_seconds, self.budget_seconds)))
                complete = self._rounds()
            shutil.rmtree(self.directory / "trials", ignore_errors=True)
        return Found(tuple(self.lines.values()), complete)

    def _rounds(self) -> bool:
        settings = drawn(self.fixed, self.starts, self.seed)
        trials: dict[int, Settings] = {}
        alive = self._first_round(settings, trials)
        for number in range(1, ROUNDS):
            epochs = FIRST_EPOCHS * 2**number
            alive = self._better(alive, epochs // 2)
            for trial in alive:
                if not self._has_time(trial, epochs):
                    return False
                self._extend(trial, trials[trial], epochs)
        return self._on_and_on(alive, trials)

    def _first_round(self, settings: Iterator[Settings], trials: dict[int, Settings]) -> list[int]:
        """Try one draw after another for the round's share of the time; what the search starts with, in any case."""
        share, spent = self.budget_seconds / ROUNDS, 0.0
        for trial, chosen in enumerate(settings):
            if trial >= len(self.starts) and (spent >= share or not self._time_left()):
                break
            if trial and not self._time_left():
                break
            trials[trial] = chosen
            spent += self._extend(trial, chosen, FIRST_EPOCHS).seconds
        return list(trials)

    def _on_and_on(self, alive: list[int], trials: Mapping[int, Settings]) -> bool:
        """Train the winner further for as long as that makes it better. False when the time is used up before."""
        epochs = FIRST_EPOCHS * 2 ** (ROUNDS - 1)
        winner = self._better(alive, epochs)[0]
        while self.lines[winner, epochs].score >= max(line.score for line in self.lines.values()):
            if not self._has_time(winner, 2 * epochs):
                return False
            epochs *= 2
            self._extend(winner, trials[winner], epochs)
        return True

    def _better(self, trials: Sequence[int], epochs: int) -> list[int]:
        """The better half, the best first."""
        order = sorted(trials, key=lambda trial: -self.lines[trial, epochs].score)
        return order[: max(1, math.ceil(len(order) / KEPT))]

    def _time_left(self) -> float:
        return max(0.0, self.budget_seconds - self.used_seconds)

    def _has_time(self, trial: int, epochs: int) -> bool:
        """Whether the rest of the budget is enough to bring a trial to so many epochs, as fast as it was so far."""
        if (trial, epochs) in self.lines:
            return True
        before = [line for (number, _), line in self.lines.items() if number == trial]
        reached = max(line.epochs for line in before)
        return sum(line.seconds for line in before) * (epochs - reached) / reached <= self._time_left()

    def _extend(self, trial: int, settings: Settings, epochs: int) -> Trial:
        """Bring a trial to so many epochs and judge it, unless the log has it."""
        line = self.lines.get((trial, epochs))
        if line is None:
            began, cpu = time.perf_counter(), time.process_time()
            reached = max((line.epochs for (number, _), line in self.lines.items() if number == trial), default=0)
            score = self._trained(trial, parse_config({**settings, **self.fixed}, "a trial"), reached, epochs)
            line = Trial(
                trial=trial,
                settings=dict(settings),
                epochs=epochs,
                score=score or 0.0,
                diverged=score is None,
                seconds=round(time.perf_counter() - began, 3),
                cpu_seconds=round(time.process_time() - cpu, 3),
            )
            self.used_seconds += line.seconds
            self._write(line)
        self.told(line)
        return line

    def _trained(self, trial: int, config: TrainConfig, reached: int, epochs: int) -> float | None:
        """The score of a trial after so many epochs, going on from its `reached` ones; None when it diverges."""
        run, following = (self.directory / "trials" / f"{trial:04d}{part}" for part in ("", ".next"))
        shutil.rmtree(following, ignore_errors=True)
        if not (run / RUN_FILE).exists():  # the search was at its end, and has more time now
            reached = 0
        following.mkdir(parents=True)
        (following / GRAPH_DIRECTORY).symlink_to(self.prepared.path.resolve(), target_is_directory=True)
        # Another seed for each part: the same one would draw the same negatives for the same edges once more.
        update = {"epochs": epochs - reached, "seed": (config.seed + reached) % 2**63, "checkpoint_seconds": 1e9}
        shown = _Within(self.stage, f"trial {trial}, {epochs} epochs")
        try:
            warm = run if reached else None
            train(self.prepared, following, config.model_copy(update=update), warm_start=warm, progress=shown)
        except Diverged:
            return None
        score = self.judge(following)
        shutil.rmtree(run, ignore_errors=True)
        following.rename(run)
        return score

    def _read_log(self) -> None:
        head = {
            "graph": self.prepared.digest,
            "fixed": dict(self.fixed),
            "starts": [dict(start) for start in self.starts],
            "seed": self.seed,
        }
        log, expected = self.directory / LOG_FILE, json.dumps(head)
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        if "\n" not in text and expected.startswith(text):  # none yet, or its first line was being written
            self._append(head)
            return
        first, *rest = text.splitlines()
        if first != expected:
            raise RunError(
                f"{log} is the log of another search: another graph, other settings. Name another directory."
            )
        for text in rest:
            try:
                line = Trial.model_validate_json(text)
            except ValueError:  # the line that was being written when the machine stopped
                continue
            self.lines[line.trial, line.epochs] = line
            self.used_seconds += line.seconds

    def _write(self, line: Trial) -> None:
        self.lines[line.trial, line.epochs] = line
        self._append(line.model_dump(mode="json"))

    def _append(self, record: Mapping[str, object]) -> None:
        append_line(self.directory / LOG_FILE, json.dumps(record))


@dataclass(frozen=True, slots=True)
class _Within:
    """Training's own stages, shown as seconds that pass in the one of the search."""

    outer: Stage
    label: str

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        """Open a part of the trial."""
        self.outer.note(self.label)
        yield _Seconds(self.outer)


@dataclass(slots=True)
class _Seconds:
    outer: Stage
    shown: float = field(default_factory=time.monotonic)

    def advance(self, n: int = 1) -> None:
        """Show the whole seconds since the last time."""
        whole = int(time.monotonic() - self.shown)
        if whole:
            self.shown += whole
            self.outer.advance(whole)

    def note(self, text: str) -> None:
        """Ignore it: a trial's loss says nothing beside that of others."""
