"""Counters by names that others choose, of relations, strategies and arms: bounded, what is beyond counts together."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.bound import Add, adding_to

# How many series one worker makes.
ANSWER_SERIES_MAX, ARM_SERIES_MAX = 256, 128
OTHER = "other"


class AnswerMetrics:
    """What candidates were answered with: by relation, strategy and source, for users of each arm of an experiment.

    `source` is the rung that an answer came down to (`fallback`), else `search`, or `stored` where it was put together
    without one; `by` is the `engine`, or `python` where the engine does not cover it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "twhin_answers",
            "Users answered with candidates",
            ["relation", "strategy", "source", "by"],
            registry=registry,
        )
        self._children: dict[tuple[str, str, str, str], Add] = {}

    def count(self, relation: str, strategy: str, source: str, by: str) -> None:
        """Count one user's candidates."""
        labels = relation, strategy, source, by
        child = self._children.get(labels)
        if child is None:
            # Names come from versions, and a process may see many: what is beyond the room counts together.
            kept = labels if len(self._children) < ANSWER_SERIES_MAX else (OTHER,) * 4
            child = adding_to(self._answers.labels(*kept))
            if kept == labels:
                self._children[labels] = child
        child(1)


class ExperimentMetrics:
    """Answers and feedback by arm; whether the file of experiments can be read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "twhin_experiment_answers", "Users answered in an arm", ["experiment", "arm"], registry=registry
        )
        self._feedback = Counter(
            "twhin_feedback", "Impressions and clicks that were new", ["experiment", "arm", "kind"], registry=registry
        )
        self._refused = Gauge(
            "twhin_experiments_refused",
            "1 while the file of experiments cannot be read and an earlier one is in force",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._refused.set(0)
        self._versions = Gauge(
            "twhin_experiment_versions",
            "Versions that are open beside the serving one, as arms of experiments name them",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._versions.set(0)
        self._arms: dict[tuple[str, str], tuple[Add, Counter, Counter]] = {}

    def begin(self, experiment: str, arms: Sequence[str]) -> None:
        """Have the series of these arms, from 0 on."""
        for arm in arms:
            self._of(experiment, arm)

    def answered(self, experiment: str, arm: str) -> None:
        """Count an answer to a user in the arm."""
        self._of(experiment, arm)[0](1)

    def fed_back(self, experiment: str, arm: str, impressions: int, clicks: int) -> None:
        """Count what was new of a user's feedback."""
        _, shown, clicked = self._of(experiment, arm)
        shown.inc(impressions)
        clicked.inc(clicks)

    def refused(self, is_refused: bool) -> None:
        """Say whether the file of experiments cannot be read."""
        self._refused.set(is_refused)

    def pinned(self, versions: int) -> None:
        """Say how many versions are open beside the serving one."""
        self._versions.set(versions)

    def _of(self, experiment: str, arm: str) -> tuple[Add, Counter, Counter]:
        known = self._arms.get((experiment, arm))
        if known is None:
            # Experiments come and go while a process lives; those of before it was full stay apart.
            kept = (experiment, arm) if len(self._arms) < ARM_SERIES_MAX else (OTHER, OTHER)
            shown, clicked = (self._feedback.labels(*kept, kind) for kind in ("impression", "click"))
            known = adding_to(self._answers.labels(*kept)), shown, clicked
            if kept == (experiment, arm):
                self._arms[kept] = known
        return known
