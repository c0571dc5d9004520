"""One method on one task: its lists for every user and what they measure, with intervals."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64, Integer

from bundle.csr import Csr
from bundle.manifest import Strategy
from bundle.progress import Stage
from bundle.records import Record
from bundle.space import Space
from bundle.successor import JUDGED_BY
from evaluation.baselines import Baseline, chunks, top_rows
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
from evaluation.task import FollowTask, slack, without_known
from recommend.protocol import Lists, RowRecommender

CUTS = (10, 20, 50)
# Candidates that diversity, coverage and popularity look at.
TOP = 10
# What is measured of all lists together, without an interval.
CATALOGUE = (f"coverage@{TOP}", f"gini@{TOP}", f"in_degree@{TOP}")
DEGREE_BUCKETS = ((1, 2), (3, 9), (10, 29), (30, 99), (100, None))
Vectors = Float32[npt.NDArray[np.float32], "targets d"]
PerUser = Float64[npt.NDArray[np.float64], " users"]


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


class Found(NamedTuple):
    """What a strategy found: its row of means, and each metric for each user of the task, NaN where there is none."""

    row: Row
    values: dict[str, PerUser]

    @property
    def recalls(self) -> PerUser:
        """For each user the mean of the recalls that versions are judged by."""
        return np.asarray(np.nanmean([self.values[metric] for metric in JUDGED_BY if metric in self.values], axis=0))


def metrics_of(metrics: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Those of `metrics` that a row has: one-way recall is none between two types."""
    return [name for name in metrics if any(name in row.metrics for row in rows)]


def vectors_under(space: Space, relation: str) -> Vectors:
    """The embeddings of a relation's targets."""
    return space.table(space.relation(relation).entry.target).embeddings


def strategy_row(
    task: FollowTask,
    recommender: RowRecommender,
    name: str,
    vectors: Vectors,
    seed: int | None,
    *,
    strategy: Strategy | None = None,
) -> Row:
    """Ask for every user of the task and measure the lists; without a seed, means alone.

    By the strategy called `name`, or by `strategy`, which the row then calls `name`.
    """
    lists = _answers(task, recommender, strategy or name)
    return _row(task, name, "strategy", lists, _per_user(task, lists, vectors), seed)


def measure_users(
    task: FollowTask, recommender: RowRecommender, name: str, strategy: Strategy, vectors: Vectors
) -> Found:
    """What the `strategy`, called `name`, finds for every user of the task; means alone."""
    return measure_lists(task, name, _answers(task, recommender, strategy), vectors)


def measure_lists(task: FollowTask, name: str, lists: Lists, vectors: Vectors) -> Found:
    """What a strategy called `name` found, by one list for each user of the task; means alone."""
    values = _per_user(task, lists, vectors)
    return Found(_row(task, name, "strategy", lists, values, None), values)


def _answers(task: FollowTask, recommender: RowRecommender, strategy: Strategy | str) -> Lists:
    n = max(CUTS) + slack(task, task.users)
    lists = recommender.for_users(task.users, strategy, n, relation=task.relation)
    return without_known(task, task.users, lists, max(CUTS))


def newcomer_row(
    task: FollowTask,
    recommender: RowRecommender,
    engagements: Csr,
    followers: Csr,
    name: str,
    vectors: Vectors,
    seed: int | None,
) -> Row:
    """`strategy_row` with each user of the task asked for as a newcomer, by row i of `engagements` and `followers`."""
    n = newcomers_ask(task)
    told = recommender.for_newcomers(engagements, followers, name, n, relation=task.relation)
    lists = without_known(task, task.users, told, max(CUTS))
    return _row(task, name, "strategy", lists, _per_user(task, lists, vectors), seed)


def newcomers_ask(task: FollowTask) -> int:
    """How many candidates to ask for as newcomers: one of them may be the user, whom nobody is told of."""
    return max(CUTS) + slack(task, task.users) + 1


def baseline_row(task: FollowTask, baseline: Baseline, vectors: Vectors, seed: int | None) -> Row:
    """Measure a baseline, or note why it is missing; without a seed, means alone."""
    if baseline.score is None:
        return Row(name=baseline.name, kind="baseline", missing=baseline.missing)
    lists = top_rows(task, baseline.score, task.users, max(CUTS))
    return _row(task, baseline.name, "baseline", lists, _per_user(task, lists, vectors), seed)


def baseline_rows(task: FollowTask, some: Sequence[Baseline], vectors: Vectors, bar: Stage) -> list[Row]:
    """The rows of several baselines, means alone; `bar` advances by the users of the task.

    Users are scored by all of the baselines before the next ones are, so that what these share is computed once.
    """
    scores = [baseline.score for baseline in some if baseline.score is not None]
    lists: list[list[npt.NDArray[np.int32]]] = [[] for _ in scores]
    for users in chunks(task, task.users):
        for of_one, score in zip(lists, scores, strict=True):
            of_one += top_rows(task, score, users, max(CUTS))
        bar.advance(len(users))
    return [
        _row(task, baseline.name, "baseline", of_one, _per_user(task, of_one, vectors), None)
        for baseline, of_one in zip([one for one in some if one.score is not None], lists, strict=True)
    ]


def _row(
    task: FollowTask,
    name: str,
    kind: Literal["strategy", "baseline"],
    lists: Lists,
    values: dict[str, PerUser],
    seed: int | None,
) -> Row:
    everyone = np.ones(len(task.users), dtype=np.bool_)
    metrics = _estimates(values, everyone, seed) | _of_the_catalogue(task, lists)
    if seed is None:
        return Row(name=name, kind=kind, metrics=metrics)
    buckets = {label: _estimates(values, chosen, seed) for label, chosen in degree_buckets(task).items()}
    return Row(name=name, kind=kind, metrics=metrics, by_degree=buckets)


def _per_user(task: FollowTask, lists: Lists, vectors: Vectors) -> dict[str, PerUser]:
    columns: dict[str, list[float]] = {}
    for user, ranked in zip(task.users.tolist(), lists, strict=True):
        for name, value in of_one_user(task, user, ranked).items():
            columns.setdefault(name, []).append(value)
        columns.setdefault(f"diversity@{TOP}", []).append(diversity(ranked, vectors, TOP))
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def of_one_user(task: FollowTask, user: int, ranked: Integer[npt.NDArray[np.integer], " _"]) -> dict[str, float]:
    """Recalls, nDCG and reciprocal rank of one list."""
    relevant, one_way = task.relevant(user), task.one_way(user)
    ranks, one_way_ranks = hit_ranks(ranked, relevant), hit_ranks(ranked, one_way)
    values = {f"recall@{k}": recall(ranks, len(relevant), k) for k in CUTS}
    if task.same_type:
        values |= {f"one_way_recall@{k}": recall(one_way_ranks, len(one_way), k) for k in CUTS}
    return values | {f"ndcg@{TOP}": ndcg(ranks, len(relevant), TOP), "mrr": reciprocal_rank(ranks, len(relevant))}


def degree_buckets(task: FollowTask) -> dict[str, npt.NDArray[np.bool_]]:
    """Which users of the task have how many training edges; buckets without users are left out."""
    return buckets_of(task.train.degrees()[task.users])


def buckets_of(degrees: Int64[npt.NDArray[np.int64], " n"]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which of the numbers are 0 and which in each of DEGREE_BUCKETS; empty ones are left out."""
    buckets = {}
    for low, high in ((0, 0), *DEGREE_BUCKETS):
        inside = (degrees >= low) & (degrees <= (np.inf if high is None else high))
        if inside.any():
            buckets[f"{low}+" if high is None else f"{low}-{high}" if high else "0"] = inside
    return buckets


def _estimates(values: dict[str, PerUser], chosen: npt.NDArray[np.bool_], seed: int | None) -> dict[str, Estimate]:
    # Every metric and method is resampled with the same draws, so that their intervals can be compared. Without a seed
    # there are none: a build chooses by means, and a thousand resamplings of each would be most of its time.
    return {name: estimate(bootstrap(column[chosen], seed)) for name, column in values.items()}


def _of_the_catalogue(task: FollowTask, lists: Lists) -> dict[str, Estimate]:
    """Coverage, and two views of popularity bias: inequality of exposure, mean in-degree of the candidates."""
    exposed = exposure(lists, task.n_targets, TOP)
    in_degree = float(exposed @ task.train_by_target.degrees() / max(1, exposed.sum()))
    values = zip(CATALOGUE, (coverage(exposed), gini(exposed), in_degree), strict=True)
    return {name: estimate(Interval(value, value, value, len(lists))) for name, value in values}


def estimate(interval: Interval) -> Estimate:
    """The interval as JSON knows it: NaN becomes None."""
    mean, low, high = (None if np.isnan(value) else value for value in interval[:3])
    return Estimate(mean=mean, low=low, high=high, n=interval.n)
