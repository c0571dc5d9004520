"""The experiments that are under way: read from a file that is looked at again and again, fitted to what serves."""

import asyncio
import logging
from pathlib import Path

from bundle.errors import ConfigError
from bundle.space import Bundle, Space
from recommend.plan import strategies_of
from recommend.types import AUTO
from service.answer_metrics import ExperimentMetrics
from service.experiments.file import read_experiments
from service.experiments.split import Arm, Experiment
from service.versions.watcher import about

log = logging.getLogger("twhin.experiments")
# Of so many relations it is remembered which experiment they are under: more than a few versions have.
KEPT = 64
Entered = tuple[Experiment, Arm]


class Experiments:
    """What the file at `path` says. One that cannot be read leaves in force what was, and the `fault` says why."""

    def __init__(self, path: Path, metrics: ExperimentMetrics) -> None:
        """Reads nothing yet."""
        self.path = path
        self.current: tuple[Experiment, ...] = ()
        self.fault: str | None = None
        self._metrics = metrics
        self._seen: tuple[int, ...] | None = None
        self._under: dict[tuple[str, str, str], Experiment | None] = {}

    def look(self, again: bool = False) -> None:
        """Read the file if it is another than the last time; with `again` also one that could not be read then."""
        stamp = _stamp(self.path)
        if stamp == self._seen and not (again and self.fault):
            return
        self._seen = stamp
        try:
            found = read_experiments(self.path)
        except ConfigError as error:
            self.fault = str(error)
            self._metrics.refused(True)
            log.error("experiments refused", extra={"reason": self.fault})
            return
        self.fault = None
        self._metrics.refused(False)
        self.current, self._under = found, {}
        for experiment in found:
            self._metrics.begin(experiment.name, [arm.name for arm in experiment.arms])
        log.info("experiments under way: %d", len(found))

    async def watch(self, seconds: float) -> None:
        """Look again for ever."""
        while True:
            await asyncio.sleep(about(seconds))
            if await asyncio.to_thread(_stamp, self.path) != self._seen:
                self.look()

    def choose(self, version: str, space: Space, relation: str, user: str | None, asked: str) -> Entered | None:
        """The arm of a request; None where it takes no part: of nobody, or with a strategy of its own."""
        if not self.current or user is None or asked != AUTO:
            return None
        key = version, space.name, relation
        experiment = self._under[key] if key in self._under else self._find(key, space, relation)
        if experiment is None:
            return None
        arm = experiment.arm_of(user)
        return None if arm is None else (experiment, arm)

    def _find(self, key: tuple[str, str, str], space: Space, relation: str) -> Experiment | None:
        """The first experiment that has the relation, if this version can answer for all of its arms."""
        found = next((one for one in self.current if one.relation in (None, relation)), None)
        if found is not None and unfit(found, space, relation):
            found = None
        if len(self._under) >= KEPT:
            self._under.clear()
        self._under[key] = found
        return found

    def named(self, experiment: str, arm: str) -> bool:
        """Whether there is such an arm now."""
        return any(one.name == experiment and any(each.name == arm for each in one.arms) for one in self.current)

    def state_of(self, experiment: Experiment, bundle: Bundle) -> tuple[list[str], str | None]:
        """The relations under which it splits the users now, and why not under others that it should."""
        meant = [
            (space, name)
            for space in bundle.spaces.values()
            for name in space.relations
            if experiment.relation in (None, name)
        ]
        reasons = {name: self._why_not(experiment, space, name) for space, name in meant}
        told = [reason for reason in reasons.values() if reason is not None]
        if not meant:
            told = [f"the version has no relation {experiment.relation}"]
        return [name for name, reason in reasons.items() if reason is None], told[0] if told else None

    def _why_not(self, experiment: Experiment, space: Space, relation: str) -> str | None:
        first = next(one for one in self.current if one.relation in (None, relation))
        if first is not experiment:
            return f"{first.name}, which stands before it, has the users of {relation}"
        return unfit(experiment, space, relation)


def unfit(experiment: Experiment, space: Space, relation: str) -> str | None:
    """Why the version cannot answer for all arms: users of one must not get what another one's do."""
    known = {AUTO, *strategies_of(space, relation)}
    missing = [arm for arm in experiment.arms if arm.strategy not in known]
    if not missing:
        return None
    return f"the version has no strategy {missing[0].strategy} for {relation}, which the arm {missing[0].name} needs"


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells one content of a file from another; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of change too: who may read it changes nothing else.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
