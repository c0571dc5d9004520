"""What a comparison says, as JSON has it: `compare.json`."""

import math
from typing import Literal

from bundle.manifest import CompressionEntry, IndexEntry
from bundle.records import Record
from evaluation.drift import DriftReport
from evaluation.metrics import Interval

# So few users say nothing.
FEWEST = 10
Outcome = Literal["better", "worse", "alike", "unknown"]
# How two numbers were held against each other: user by user on the same held-out edges; what each build measured for
# itself; what two reports say.
How = Literal["paired", "builds", "reports"]
Kind = Literal["strategy", "newcomers", "known edges", "followers", "target in-degree", "unknown users"]


class Difference(Record):
    """One metric of both, `b` less `a`, and the 95% interval of that; None where it was not measured."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def outcome(self) -> Outcome:
        """What B is beside A: alike where the interval has 0 in it."""
        if self.low is None or self.high is None:
            return "unknown"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "alike"


class Group(Record):
    """Some of the questions: one strategy for everybody, or the default for some users or some targets."""

    kind: Kind
    name: str
    metrics: dict[str, Difference]

    @property
    def users(self) -> int:
        """How many users it was measured on: those of the metric that most have."""
        return max((one.n for one in self.metrics.values()), default=0)

    def outcome(self, metric: str = "recall@10") -> Outcome:
        """What B is beside A by one metric."""
        return self.metrics[metric].outcome if metric in self.metrics else "unknown"


class Overlap(Record):
    """How alike the first `k` candidates of both are, means over users: the share that both have, the share of users
    with the same first candidate."""

    strategy: str
    k: int
    users: int
    shared: float
    same_first: float


class RelationComparison(Record):
    """One relation. The first of `strategies` is called `auto`: what each answers by default, which may be two.

    `trained_a` and `trained_b` are the shares of the users' held-out edges that are training edges of the version:
    these were left out.
    """

    relation: str
    how: How
    users: int | None
    auto_a: str | None
    auto_b: str | None
    strategies: tuple[Group, ...] = ()
    groups: tuple[Group, ...] = ()
    overlap: tuple[Overlap, ...] = ()
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    trained_a: float = 0.0
    trained_b: float = 0.0

    def default(self) -> Group | None:
        """The default answers of both."""
        return next((one for one in self.strategies if one.name == "auto"), None)


class Side(Record):
    """One of the two: a version's facts, or where a report is from. `measured`: whether the build measured recall."""

    name: str
    created: str | None = None
    parent: str | None = None
    graph_digest: str | None = None
    code_revision: str | None = None
    dim: int | None = None
    measured: bool | None = None
    size_bytes: int | None = None
    entities: dict[str, int] = {}
    edges: dict[str, int] = {}
    indexes: dict[str, IndexEntry] = {}
    compression: dict[str, CompressionEntry] = {}


class Comparison(Record):
    """Everything about two of them. `notes` say what could not be compared, and why."""

    a: Side
    b: Side
    relations: tuple[RelationComparison, ...]
    drift: DriftReport | None = None
    notes: tuple[str, ...] = ()
    verdict: str


def difference(before: Interval, after: Interval, between: Interval) -> Difference:
    """The record of two means and of the interval between them, which is not known of fewer than FEWEST users:
    resampled, one user's difference is the only one there is, and few users' are too much alike.
    """
    ends = (between.low, between.high) if between.n >= FEWEST else (math.nan, math.nan)
    values = (before.mean, after.mean, between.mean, *ends)
    a, b, mean, low, high = (None if math.isnan(value) else value for value in values)
    return Difference(a=a, b=b, difference=mean, low=low, high=high, n=between.n)
