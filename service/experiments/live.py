"""The experiments that are under way: read from a file that is looked at again and again, fitted to what serves."""

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from bundle.errors import ConfigError
from bundle.space import Space
from recommend.plan import strategies_of
from recommend.types import AUTO
from service.answer_metrics import ExperimentMetrics
from service.experiments.file import read_experiments, versions_in
from service.experiments.split import Arm, Experiment
from service.versions.loaded import Loaded
from service.versions.versions import Versions
from service.versions.watcher import about

log = logging.getLogger("twhin.experiments")
# Of so many relations it is remembered which experiment they are under: more than a few versions have.
KEPT = 64


class Entered(NamedTuple):
    """The arm that a request is in, and what answers there."""

    experiment: Experiment
    arm: Arm
    loaded: Loaded


class Experiments:
    """What the file at `path` says. One that cannot be read leaves in force what was, and the `fault` says why."""

    def __init__(self, path: Path, metrics: ExperimentMetrics, versions: Versions) -> None:
        """Reads nothing yet."""
        self.path = path
        self._versions = versions
        self._fitted = versions.pinned
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
        try:
            found = read_experiments(self.path)
        except ConfigError as error:
            self._seen = stamp
            self.fault = str(error)
            self._metrics.refused(True)
            log.error("experiments refused", extra={"reason": self.fault})
            return
        self._seen = stamp
        self.fault = None
        self._metrics.refused(False)
        self.current, self._under = found, {}
        for experiment in found:
            self._metrics.begin(experiment.name, [arm.name for arm in experiment.arms])
        log.info("experiments under way: %d", len(found))

    async def open(self, again: bool = False) -> None:
        """Have the versions open that arms name; with `again` also try those that were refused."""
        await self._versions.pin(versions_in(self.current), again)

    async def watch(self, seconds: float) -> None:
        """Have the versions open, and look again for ever. An edit counts at once, however long a version of the last
        one takes to open.
        """
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(self.open())
            while True:
                await asyncio.sleep(about(seconds))
                try:
                    changed = await asyncio.to_thread(_stamp, self.path) != self._seen
                    if changed:
                        self.look()
                except Exception:  # a fault of ours, or no thread is left: the next look may go well
                    log.exception("the look at the experiments failed")
                    continue
                if changed or opening.done():
                    opening = tasks.create_task(self.open(again=changed))

    def choose(self, loaded: Loaded, space: Space, relation: str, user: str | None, asked: str) -> Entered | None:
        """The arm of a request to `loaded`, which serves; None where it takes no part: of nobody, or with a strategy of
        its own.
        """
        if not self.current or user is None or asked != AUTO:
            return None
        if self._fitted is not self._versions.pinned:
            self._under, self._fitted = {}, self._versions.pinned
        key = loaded.version, space.name, relation
        experiment = self._under[key] if key in self._under else self._find(key, loaded, space, relation)
        arm = None if experiment is None else experiment.arm_of(user)
        answering = None if arm is None else self._versions.beside(arm.version, loaded)
        return None if experiment is None or arm is None or answering is None else Entered(experiment, arm, answering)

    def _find(self, key: tuple[str, str, str], loaded: Loaded, space: Space, relation: str) -> Experiment | None:
        """The first experiment that has the relation, if all of its arms can be answered."""
        found = next((one for one in self.current if one.relation in (None, relation)), None)
        if found is not None and self._unfit(found, loaded, space, relation):
            found = None
        if len(self._under) >= KEPT:
            self._under.clear()
        self._under[key] = found
        return found

    def named(self, experiment: str, arm: str) -> bool:
        """Whether there is such an arm now."""
        return any(one.name == experiment and any(each.name == arm for each in one.arms) for one in self.current)

    def state_of(self, experiment: Experiment, loaded: Loaded) -> tuple[list[str], str | None]:
        """The relations under which it splits the users now, and why not under others that it should."""
        meant = [
            (space, name)
            for space in loaded.bundle.spaces.values()
            for name in space.relations
            if experiment.relation in (None, name)
        ]
        reasons = {name: self._why_not(experiment, loaded, space, name) for space, name in meant}
        told = [reason for reason in reasons.values() if reason is not None]
        if not meant:
            told = [f"the version has no relation {experiment.relation}"]
        return [name for name, reason in reasons.items() if reason is None], told[0] if told else None

    def _why_not(self, experiment: Experiment, loaded: Loaded, space: Space, relation: str) -> str | None:
        first = next(one for one in self.current if one.relation in (None, relation))
        if first is not experiment:
            return f"{first.name}, which stands before it, has the users of {relation}"
        return self._unfit(experiment, loaded, space, relation)

    def _unfit(self, experiment: Experiment, loaded: Loaded, space: Space, relation: str) -> str | None:
        """Why not all arms can be answered beside `loaded`: users of one must not get what another one's do."""
        for arm in experiment.arms:
            answering = loaded if arm.version is None else self._versions.beside(arm.version, loaded)
            if answering is None:
                return f"the version {arm.version}, which the arm {arm.name} needs, {self._versions.why(arm.version)}"
            missing = _lack(answering, space, relation, arm.strategy)
            if missing is not None:
                which = "the version" if answering is loaded else f"the version {arm.version}"
                return f"{which} has {missing}, which the arm {arm.name} needs"
        return None


def _lack(answering: Loaded, asked: Space, relation: str, strategy: str) -> str | None:
    """What a version has not of what answers in the place of the space that is asked."""
    space = answering.bundle.spaces.get(asked.name)
    if space is None:
        return f"no space {asked.name}"
    found, wanted = space.relations.get(relation), asked.relations[relation].entry
    if found is None or (found.entry.source, found.entry.target) != (wanted.source, wanted.target):
        return f"no relation {relation} of these types"
    return None if strategy in {AUTO, *strategies_of(space, relation)} else f"no strategy {strategy} for {relation}"


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells one content of a file from another; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of change too: who may read it changes nothing else.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
