"""What a build measures before its version gets its name: weights, every strategy, the best one.

All of it on validation edges, so that the test edges stay unseen until somebody asks for the report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.csr import Csr
from bundle.manifest import Assessment, Evaluation, Gate, QueryWeights, Rescoring, Strategy
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress, Stage
from bundle.space import Space
from evaluation.baselines import quick_baselines
from evaluation.follow import Recommend, Row, baseline_row, strategy_row
from evaluation.learning.compare import JUDGED_BY
from evaluation.learning.evidence import FEW, as_known, as_new, engagements_of, followers_of, newcomers
from evaluation.learning.rescoring import POOL, learn_rescoring
from evaluation.learning.weights import FIRST_GUESS, learn_weights
from evaluation.task import FollowTask, Lists, follow_task

LEARN_USERS = 8000
JUDGE_USERS = 1000
# Newcomers are alike: fewer of them teach and judge.
NEW_LEARN_USERS, NEW_JUDGE_USERS = 6000, 500
NEW_KNOWN = (1, 3, 5, 10)
BASELINES = ("popularity", "followees_of_followees", "reciprocate_first", "item_knn")
KEPT = (*JUDGED_BY, "recall@20", "ndcg@10", "mrr", "diversity@10", "coverage@10", "gini@10")
Users = Int64[npt.NDArray[np.int64], " users"]


@runtime_checkable
class RecommendWith(Protocol):
    """Candidates by any strategy, also one the version does not have yet: best first, without the known ones."""

    def __call__(self, users: Users, strategy: Strategy, k: int) -> Lists: ...


@runtime_checkable
class RecommendNewWith(Protocol):
    """The same for people unknown to the version: row i of `engagements` and of `followers` is all there is of one."""

    def __call__(self, engagements: Csr, followers: Csr, strategy: Strategy, k: int) -> Lists: ...


def assess(
    space: Space,
    recommend: RecommendWith,
    recommend_new: RecommendNewWith,
    graph: PreparedGraph,
    seed: int,
    *,
    relation: str | None = None,
    progress: Progress = SILENT,
) -> Assessment | None:
    """Learn weights, measure strategies and baselines, choose `auto`. None when there are no validation edges.

    One half of the users with validation edges teaches the weights, the other half judges the strategies. Then both
    halves again, as newcomers: shown with a few engagements alone, every other one with their followers.
    """
    name = relation or space.entry.default.relation
    if not len(graph.relation(name).valid):
        return None
    rng = np.random.default_rng(seed)
    everyone = follow_task(graph, "valid", rng, relation=name, n_users=LEARN_USERS + JUDGE_USERS, min_known=1)
    teachers, judges = _halves(everyone, rng)
    bench = _Bench(space, recommend, recommend_new, judges, rng)
    with progress.stage("Learning strategies", 2, "strategies") as bar:
        weights, rescoring = _learn(space, teachers, recommend, rng)
        bar.advance()
        learnt = with_learnt(space.entry.strategies, weights, rescoring)
        for_new = newcomer_strategy(space, teachers, recommend_new, rng)
        bar.advance()
    strategies = learnt if for_new is None else {**learnt, "newcomer": for_new}
    with progress.stage("Measuring strategies", 2 * len(strategies), "measurements") as bar:
        rows, new_rows = bench.strategies(strategies, bar), bench.newcomers(strategies, bar)
    references = bench.baselines(progress)
    auto = max(rows, key=judged)
    evaluation = Evaluation(
        gates=(popularity_gate(auto, references),),
        strategies={row.name: kept(row) for row in rows},
        baselines={row.name: kept(row) for row in references},
        newcomers={row.name: kept(row) for row in new_rows},
    )
    return Assessment(evaluation, strategies, auto.name, max(new_rows, key=judged).name if new_rows else None)


def _learn(
    space: Space, teachers: FollowTask, recommend: RecommendWith, rng: np.random.Generator
) -> tuple[QueryWeights, Rescoring | None]:
    shown = as_known(space, teachers)
    first = Strategy(merge="single", weights=FIRST_GUESS)
    weights = learn_weights(space, teachers, shown, recommend(teachers.users, first, POOL))
    blend = Strategy(merge="single", weights=weights)
    return weights, learn_rescoring(space, teachers, shown, recommend(teachers.users, blend, POOL), rng)


def newcomer_strategy(
    space: Space, task: FollowTask, recommend: RecommendNewWith, rng: np.random.Generator
) -> Strategy | None:
    """Weights and a network for people whom training does not know, learnt on users shown as such; None without any."""
    teachers = newcomers(task.of_users(rng.permutation(task.users)[:NEW_LEARN_USERS]), FEW, rng)
    if not len(teachers.users):
        return None
    engagements = engagements_of(teachers)
    followers = followers_of(teachers, rng.random(len(teachers.users)) < 0.5)
    shown = as_new(engagements, followers)

    def pools(weights: QueryWeights) -> Lists:
        """What a query with these weights finds, less what is hidden: neither right nor wrong."""
        found = recommend(engagements, followers, Strategy(merge="single", weights=weights), POOL)
        kept = zip(teachers.users.tolist(), found, strict=True)
        return [rows[~np.isin(rows, teachers.known(user))] for user, rows in kept]

    weights = learn_weights(space, teachers, shown, pools(FIRST_GUESS))
    rescoring = learn_rescoring(space, teachers, shown, pools(weights), rng)
    return Strategy(merge="single", weights=weights, rescoring=rescoring)


def with_learnt(
    strategies: Mapping[str, Strategy], weights: QueryWeights, rescoring: Rescoring | None
) -> dict[str, Strategy]:
    """The version's strategies and the learnt ones: `blend`, `rescored`, `mixture_blend`.

    `blend` is one query with the learnt weights; `rescored` looks closer at what that finds. In
    `mixture_blend` the fold-in shares its weight with the mean of the user's targets inside the mode.
    """
    learnt = dict(strategies)
    learnt["blend"] = Strategy(merge="single", weights=weights)
    if rescoring is not None:
        learnt["rescored"] = Strategy(merge="single", weights=weights, rescoring=rescoring)
    mixture = strategies.get("mixture")
    if mixture is not None:
        half = weights.fold_in / 2.0
        shared = weights.model_copy(update={"fold_in": half, "mode": half})
        learnt["mixture_blend"] = mixture.model_copy(update={"weights": shared})
    return learnt


@dataclass(frozen=True, slots=True)
class _Bench:
    """The users who judge, and whom to ask."""

    space: Space
    recommend: RecommendWith
    recommend_new: RecommendNewWith
    judges: FollowTask
    rng: np.random.Generator

    def strategies(self, strategies: Mapping[str, Strategy], bar: Stage) -> list[Row]:
        """Every strategy on the judges as training knows them."""

        def by_name(users: Users, strategy: str, k: int) -> Lists:
            return self.recommend(users, strategies[strategy], k)

        return self._rows(self.judges, by_name, strategies, bar)

    def newcomers(self, strategies: Mapping[str, Strategy], bar: Stage) -> list[Row]:
        """Every strategy on some judges as newcomers, every other one with followers; none when nobody is fit."""
        some = self.judges.of_users(self.rng.permutation(self.judges.users)[:NEW_JUDGE_USERS])
        task = newcomers(some, NEW_KNOWN, self.rng)
        if not len(task.users):
            return []
        engagements, followers = engagements_of(task), followers_of(task, np.arange(len(task.users)) % 2 == 0)

        def as_newcomers(users: Users, strategy: str, k: int) -> Lists:
            return self.recommend_new(engagements, followers, strategies[strategy], k + 1)  # one may be the user

        return self._rows(task, as_newcomers, strategies, bar)

    def _rows(self, task: FollowTask, recommend: Recommend, names: Iterable[str], bar: Stage) -> list[Row]:
        rows = []
        for name in names:
            rows.append(strategy_row(task, recommend, name, self._vectors, None))
            bar.advance()
        return rows

    def baselines(self, progress: Progress) -> list[Row]:
        """The baselines that take no training, on the judges."""
        found = [baseline for baseline in quick_baselines(self.judges, self.rng) if baseline.name in BASELINES]
        rows = []
        with progress.stage("Measuring baselines", len(found), "baselines") as bar:
            for baseline in found:
                rows.append(baseline_row(self.judges, baseline, self._vectors, None))
                bar.advance()
        return rows

    @property
    def _vectors(self) -> npt.NDArray[np.float32]:
        return self.space.table(self.space.relation(self.judges.relation).entry.target).embeddings


def judged(row: Row) -> float:
    """The one number that strategies are compared by: the mean of the recalls that the relation has."""
    values = [row.mean(metric) for metric in JUDGED_BY]
    return float(np.nanmean(values))


def kept(row: Row) -> dict[str, float]:
    """The means that go into the manifest."""
    return {metric: round(row.mean(metric), 5) for metric in KEPT if not np.isnan(row.mean(metric))}


def popularity_gate(auto: Row, references: Sequence[Row]) -> Gate:
    """A version that the popularity baseline beats is not fit to publish."""
    popularity = next(row for row in references if row.name == "popularity")
    return Gate(
        metric=f"{auto.name} recall@10 against popularity",
        floor=popularity.mean("recall@10"),
        measured=auto.mean("recall@10"),
    )


def _halves(task: FollowTask, rng: np.random.Generator) -> tuple[FollowTask, FollowTask]:
    """Two tasks over disjoint users: at most JUDGE_USERS, and at most half of them, judge."""
    order = rng.permutation(task.users)
    cut = len(order) - max(1, min(JUDGE_USERS, len(order) // 2))
    return task.of_users(order[:cut]), task.of_users(order[cut:])
