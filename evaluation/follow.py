"""Whom to follow: every strategy of a version beside the simple baselines, on the same held-out edges.

The recommender is handed in as a function, so that a version in memory, a running service and a test's
toy are measured by the same code.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64, Integer

from bundle.csr import Csr
from bundle.progress import SILENT, Progress
from bundle.records import Record
from evaluation.baselines import Baseline, top_rows
from evaluation.metrics import (
    Interval,
    bootstrap,
    coverage,
    diversity,
    exposure,
    gini,
    hit_ranks,
    ndcg,
    recall,
    reciprocal_rank,
)
from evaluation.task import FollowTask, Lists, slack, without_known

CUTS = (10, 20, 50)
SHOWN = 10  # candidates that diversity, coverage and popularity look at
DEGREE_BUCKETS = ((1, 2), (3, 9), (10, 29), (30, 99), (100, None))
Shown = Literal["in training", "by engagements", "by engagements and followers"]
UserRows = Int64[npt.NDArray[np.int64], " users"]
PerUser = Float64[npt.NDArray[np.float64], " users"]


@runtime_checkable
class Recommend(Protocol):
    """Candidates for users that training knows: best first, without their training edges and themselves."""

    def __call__(self, users: UserRows, strategy: str, k: int) -> Lists: ...


@runtime_checkable
class RecommendNewcomers(Protocol):
    """Candidates for people whom training does not know: rows i of both are all that is known of one."""

    def __call__(self, engagements: Csr, followers: Csr, strategy: str, k: int) -> Lists: ...


class Estimate(Record):
    """A mean over `n` users and its 95% bootstrap interval; None where nobody counts."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


class Row(Record):
    """One method: what it measured, or why it is missing. `by_degree` maps a bucket's label to the same metrics."""

    name: str
    kind: Literal["strategy", "baseline"]
    metrics: dict[str, Estimate] = {}
    by_degree: dict[str, dict[str, Estimate]] = {}
    missing: str | None = None

    def mean(self, metric: str) -> float:
        """The mean of one metric; NaN where it was not measured."""
        value = self.metrics[metric].mean if metric in self.metrics else None
        return float("nan") if value is None else value


class ColdRow(Record):
    """Users with `known` engagements, shown so; `share` is of the recall of the same users asked for by name."""

    known: int
    strategy: str
    shown: Shown
    metrics: dict[str, Estimate]
    share: dict[str, float] = {}


class FollowReport(Record):
    """Everything measured on one task. `cold` are users with few engagements, as training knows them and as newcomers.

    `auto_newcomer` is the default for those whom training does not know, where it is another one.
    """

    relation: str
    held_out: Literal["test", "valid"]
    users: int
    seed: int
    auto: str | None
    auto_newcomer: str | None = None
    rows: tuple[Row, ...]
    cold: tuple[ColdRow, ...] = ()

    def row(self, name: str) -> Row:
        """The row of one method. Raises KeyError."""
        return {row.name: row for row in self.rows}[name]


def follow_report(
    task: FollowTask,
    recommend: Recommend,
    strategies: Sequence[str],
    baselines: Sequence[Baseline],
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    *,
    held_out: Literal["test", "valid"] = "test",
    auto: str | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> FollowReport:
    """Measure every strategy and every baseline. `vectors` are the targets' embeddings, for diversity alone."""
    rows: list[Row] = []
    with progress.stage("Whom to follow", len(strategies) + len(baselines), "methods") as bar:
        for name in strategies:
            rows.append(strategy_row(task, recommend, name, vectors, seed))
            bar.advance()
        for baseline in baselines:
            rows.append(baseline_row(task, baseline, vectors, seed))
            bar.advance()
    return FollowReport(
        relation=task.relation,
        held_out=held_out,
        users=len(task.users),
        seed=seed,
        auto=auto,
        rows=tuple(rows),
    )


def strategy_row(
    task: FollowTask,
    recommend: Recommend,
    strategy: str,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    seed: int | None,
) -> Row:
    """Ask the recommender for every user of the task and measure its lists; without a seed, means alone."""
    k = max(CUTS)
    lists = without_known(task, task.users, recommend(task.users, strategy, k + slack(task, task.users)), k)
    return _row(task, strategy, "strategy", lists, vectors, seed)


def baseline_row(
    task: FollowTask, baseline: Baseline, vectors: Float32[npt.NDArray[np.float32], "targets d"], seed: int | None
) -> Row:
    """Measure a baseline, or note why it is missing; without a seed, means alone."""
    if baseline.score is None:
        return Row(name=baseline.name, kind="baseline", missing=baseline.missing)
    lists = top_rows(task, baseline.score, task.users, max(CUTS))
    return _row(task, baseline.name, "baseline", lists, vectors, seed)


def _row(
    task: FollowTask,
    name: str,
    kind: Literal["strategy", "baseline"],
    lists: Lists,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    seed: int | None,
) -> Row:
    values = per_user(task, lists, vectors)
    everyone = np.ones(len(task.users), dtype=np.bool_)
    metrics = _estimates(values, everyone, seed) | _of_the_catalogue(task, lists)
    if seed is None:
        return Row(name=name, kind=kind, metrics=metrics)
    buckets = {label: _estimates(values, chosen, seed) for label, chosen in degree_buckets(task).items()}
    return Row(name=name, kind=kind, metrics=metrics, by_degree=buckets)


def per_user(
    task: FollowTask, lists: Lists, vectors: Float32[npt.NDArray[np.float32], "targets d"]
) -> dict[str, PerUser]:
    """Each metric for each user of the task, NaN where it does not apply to the user."""
    columns: dict[str, list[float]] = {}
    for user, ranked in zip(task.users.tolist(), lists, strict=True):
        for name, value in _of_one_user(task, user, ranked).items():
            columns.setdefault(name, []).append(value)
        columns.setdefault(f"diversity@{SHOWN}", []).append(diversity(ranked, vectors, SHOWN))
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def _of_one_user(task: FollowTask, user: int, ranked: Integer[npt.NDArray[np.integer], " _"]) -> dict[str, float]:
    relevant, one_way = task.relevant(user), task.one_way(user)
    ranks, one_way_ranks = hit_ranks(ranked, relevant), hit_ranks(ranked, one_way)
    values = {f"recall@{k}": recall(ranks, len(relevant), k) for k in CUTS}
    if task.same_type:
        values |= {f"one_way_recall@{k}": recall(one_way_ranks, len(one_way), k) for k in CUTS}
    return values | {f"ndcg@{SHOWN}": ndcg(ranks, len(relevant), SHOWN), "mrr": reciprocal_rank(ranks, len(relevant))}


def degree_buckets(task: FollowTask) -> dict[str, npt.NDArray[np.bool_]]:
    """Which users of the task have how many training edges; buckets without users are left out."""
    degrees = task.train.degrees()[task.users]
    buckets = {}
    for low, high in DEGREE_BUCKETS:
        inside = (degrees >= low) & (degrees <= (np.inf if high is None else high))
        if inside.any():
            buckets[f"{low}+" if high is None else f"{low}-{high}"] = inside
    return buckets


def _estimates(values: dict[str, PerUser], chosen: npt.NDArray[np.bool_], seed: int | None) -> dict[str, Estimate]:
    if seed is None:  # a build chooses by means; a thousand resamplings of each would be most of its time
        return {name: estimate(bootstrap(column[chosen], None)) for name, column in values.items()}
    # Every metric and method is resampled with the same draws, so that their intervals can be compared.
    return {name: estimate(bootstrap(column[chosen], np.random.default_rng(seed))) for name, column in values.items()}


def _of_the_catalogue(task: FollowTask, lists: Lists) -> dict[str, Estimate]:
    """Coverage, and two views of popularity bias: inequality of exposure, mean in-degree of what is shown."""
    exposed = exposure(lists, task.n_targets, SHOWN)
    shown = float(exposed @ task.train_by_target.degrees() / max(1, exposed.sum()))
    values = {f"coverage@{SHOWN}": coverage(exposed), f"gini@{SHOWN}": gini(exposed), f"in_degree@{SHOWN}": shown}
    return {name: estimate(Interval(value, value, value, len(lists))) for name, value in values.items()}


def estimate(interval: Interval) -> Estimate:
    """The interval as JSON knows it: NaN becomes None."""
    mean, low, high = (None if np.isnan(value) else value for value in interval[:3])
    return Estimate(mean=mean, low=low, high=high, n=interval.n)
