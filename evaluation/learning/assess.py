"""What a build measures before its version gets its name: weights, every strategy, the best one.

All of it on validation edges, so that the test edges stay unseen until somebody asks for the report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bundle.errors import UsageError
from bundle.manifest import Assessment, Evaluation, Gate, QueryWeights, Rescoring, Strategy
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress, Stage
from bundle.space import Space
from bundle.strategies import FIRST_GUESS, mixture_blend
from evaluation.baselines import quick_baselines
from evaluation.learning.compare import JUDGED_BY, USERS
from evaluation.learning.evidence import (
    FEW,
    as_newcomers,
    engagements_of,
    followers_of,
    profiles_of_newcomers,
    profiles_of_users,
)
from evaluation.learning.rescoring import POOL, learn_rescoring
from evaluation.learning.weights import learn_weights
from evaluation.rows import Row, baseline_row, newcomer_row, strategy_row, vectors_under
from evaluation.task import FollowTask, follow_task
from recommend.profile import Profile
from recommend.protocol import Lists
from recommend.recommender import Recommender

LEARNING_STEPS = 4
LEARN_USERS = 8000
JUDGE_USERS = 1000
# Newcomers are alike: fewer of them teach and judge.
NEW_LEARN_USERS, NEW_JUDGE_USERS = 6000, 500
NEW_KNOWN = (1, 3, 5, 10)
BASELINES = ("popularity", "followees_of_followees", "reciprocate_first", "item_knn")
KEPT = (*JUDGED_BY, "recall@20", "ndcg@10", "mrr", "diversity@10", "coverage@10", "gini@10")


def assess(
    recommender: Recommender,
    graph: PreparedGraph,
    seed: int,
    *,
    relation: str | None = None,
    progress: Progress = SILENT,
) -> Assessment | None:
    """Learn weights, measure strategies and baselines, choose `auto`.

    None when fewer than two users have both a validation edge and a training edge: nothing can be learnt and judged.

    One half of the users with validation edges teaches the weights, the other half judges the strategies. Then both
    halves again, as newcomers: known by a few engagements alone, every other one by their followers too.
    """
    space = recommender.bundle.space()
    name = relation or space.entry.default.relation
    if not len(graph.relation(name).valid):
        return None
    rng = np.random.default_rng(seed)
    try:
        everyone = follow_task(graph, "valid", rng, relation=name, n_users=LEARN_USERS + JUDGE_USERS, min_known=1)
    except UsageError:  # nobody with a validation edge has a training edge too
        return None
    if len(everyone.users) < 2:
        return None
    teachers, judges = _halves(everyone, rng)
    bench = _Bench(recommender, judges, rng)
    with progress.stage("Learning strategies", 2 * LEARNING_STEPS, "steps") as bar:
        learnt = with_learnt(space.entry.strategies, *_learn_for_users(recommender, teachers, rng, bar))
        newcomer = _learn_for_newcomers(recommender, teachers, rng, bar)
    strategies = learnt if newcomer is None else {**learnt, "newcomer": newcomer}
    with progress.stage("Measuring strategies", 2 * len(strategies), "measurements") as bar:
        rows, newcomer_rows = bench.users(strategies, bar), bench.newcomers(strategies, bar)
    references = bench.baselines(progress)
    gate_floor = popularity_floor(rows, references)
    auto = max((row for row in rows if row.mean("recall@10") >= gate_floor), key=judged)
    evaluation = Evaluation(
        gates=(popularity_gate(auto, gate_floor),),
        strategies={row.name: kept(row) for row in rows},
        baselines={row.name: kept(row) for row in references},
        newcomers={row.name: kept(row) for row in newcomer_rows},
    )
    auto_newcomer = max(newcomer_rows, key=judged).name if newcomer_rows else None
    return Assessment(evaluation, strategies, auto.name, auto_newcomer)


def _learn_for_users(
    recommender: Recommender, teachers: FollowTask, rng: np.random.Generator, bar: Stage
) -> tuple[QueryWeights, Rescoring | None]:
    space, relation = recommender.bundle.space(), teachers.relation
    profiles = profiles_of_users(space, teachers)

    def pools(weights: QueryWeights) -> Lists:
        """The candidates of a query with these weights."""
        strategy = Strategy(merge="single", weights=weights)
        return recommender.for_users(teachers.users, strategy, POOL, relation=relation)

    return _learn(space, teachers, profiles, pools, rng, bar, "users")


def _learn_for_newcomers(
    recommender: Recommender, task: FollowTask, rng: np.random.Generator, bar: Stage
) -> Strategy | None:
    """Weights and a network for people whom training does not know, learnt on users who play such; None without any."""
    space = recommender.bundle.space()
    teachers = as_newcomers(task.of_users(rng.permutation(task.users)[:NEW_LEARN_USERS]), FEW, rng)
    if not len(teachers.users):
        return None
    engagements = engagements_of(teachers)
    followers = followers_of(teachers, rng.random(len(teachers.users)) < 0.5)
    profiles = profiles_of_newcomers(space, task.relation, engagements, followers)

    def pools(weights: QueryWeights) -> Lists:
        """The candidates of a query with these weights, less those that are hidden: neither right nor wrong."""
        strategy = Strategy(merge="single", weights=weights)
        lists = recommender.for_newcomers(engagements, followers, strategy, POOL, relation=task.relation)
        pairs = zip(teachers.users.tolist(), lists, strict=True)
        return [rows[~np.isin(rows, teachers.known(user))] for user, rows in pairs]

    weights, rescoring = _learn(space, teachers, profiles, pools, rng, bar, "newcomers")
    return Strategy(merge="single", weights=weights, rescoring=rescoring)


def _learn(
    space: Space,
    teachers: FollowTask,
    profiles: Sequence[Profile],
    pools: Callable[[QueryWeights], Lists],
    rng: np.random.Generator,
    bar: Stage,
    whom: str,
) -> tuple[QueryWeights, Rescoring | None]:
    """Weights from the candidates of a first guess, then a network from the candidates of these weights."""
    bar.note(f"finding candidates for {len(teachers.users):,} {whom}")
    candidates = pools(FIRST_GUESS)
    bar.advance()
    bar.note(f"learning weights for {whom}")
    weights = learn_weights(space, teachers, profiles, candidates)
    bar.advance()
    bar.note(f"finding candidates for {whom} by these weights")
    candidates = pools(weights)
    bar.advance()
    bar.note(f"learning to rescore for {whom}")
    rescoring = learn_rescoring(space, teachers, profiles, candidates, rng)
    bar.advance()
    return weights, rescoring


def with_learnt(
    strategies: Mapping[str, Strategy], weights: QueryWeights, rescoring: Rescoring | None
) -> dict[str, Strategy]:
    """The version's strategies and the learnt ones: `blend`, `rescored`, `mixture_blend`.

    `blend` is one query with the learnt weights; `rescored` orders its best candidates anew.
    """
    learnt = dict(strategies)
    learnt["blend"] = Strategy(merge="single", weights=weights)
    if rescoring is not None:
        learnt["rescored"] = Strategy(merge="single", weights=weights, rescoring=rescoring)
    mixture = strategies.get("mixture")
    if mixture is not None:
        learnt["mixture_blend"] = mixture.model_copy(update={"weights": mixture_blend(weights)})
    return learnt


@dataclass(frozen=True, slots=True)
class _Bench:
    """The users who judge, and whom to ask."""

    recommender: Recommender
    judges: FollowTask
    rng: np.random.Generator

    def users(self, strategies: Mapping[str, Strategy], bar: Stage) -> list[Row]:
        """Every strategy on the judges as training knows them."""
        rows = []
        for name, strategy in strategies.items():
            rows.append(strategy_row(self.judges, self.recommender, name, self._vectors, None, strategy=strategy))
            bar.advance()
        return rows

    def newcomers(self, strategies: Mapping[str, Strategy], bar: Stage) -> list[Row]:
        """Every strategy on some judges as newcomers, every other one with followers; none when nobody is fit."""
        some = self.judges.of_users(self.rng.permutation(self.judges.users)[:NEW_JUDGE_USERS])
        task = as_newcomers(some, NEW_KNOWN, self.rng)
        if not len(task.users):
            return []
        told = engagements_of(task), followers_of(task, np.arange(len(task.users)) % 2 == 0)
        rows = []
        for name, strategy in strategies.items():
            rows.append(newcomer_row(task, self.recommender, *told, name, self._vectors, None, strategy=strategy))
            bar.advance()
        return rows

    def baselines(self, progress: Progress) -> list[Row]:
        """The baselines that take no training, on the judges."""
        chosen = [baseline for baseline in quick_baselines(self.judges, self.rng) if baseline.name in BASELINES]
        rows = []
        with progress.stage("Measuring baselines", len(chosen), "baselines") as bar:
            for baseline in chosen:
                rows.append(baseline_row(self.judges, baseline, self._vectors, None))
                bar.advance()
        return rows

    @property
    def _vectors(self) -> npt.NDArray[np.float32]:
        return vectors_under(self.recommender.bundle.space(), self.judges.relation)


def judged(row: Row) -> float:
    """The one number that strategies are compared by: the mean of the recalls that the relation has."""
    values = [row.mean(metric) for metric in JUDGED_BY]
    return float(np.nanmean(values))


def kept(row: Row) -> dict[str, float]:
    """The means that go into the manifest, and of how many users they are."""
    means = {metric: round(row.mean(metric), 5) for metric in KEPT if not np.isnan(row.mean(metric))}
    return means | {USERS: row.metrics["recall@10"].n} if means else {}


def popularity_floor(rows: Sequence[Row], references: Sequence[Row]) -> float:
    """Recall@10 of popularity, as the baseline has it or as the version can serve it, which differ among equals.

    The default is chosen among strategies that reach it. `popular` is one of them, so there always is one.
    """
    popularity = [row for row in references if row.name == "popularity"] + [
        row for row in rows if row.name == "popular"
    ]
    return min(row.mean("recall@10") for row in popularity)


def popularity_gate(auto: Row, floor: float) -> Gate:
    """A version that popularity beats is not fit to publish."""
    return Gate(metric=f"{auto.name} recall@10 against popularity", floor=floor, measured=auto.mean("recall@10"))


def _halves(task: FollowTask, rng: np.random.Generator) -> tuple[FollowTask, FollowTask]:
    """Two tasks over disjoint users: at most JUDGE_USERS, and at most half of them, judge."""
    order = rng.permutation(task.users)
    cut = len(order) - max(1, min(JUDGE_USERS, len(order) // 2))
    return task.of_users(order[:cut]), task.of_users(order[cut:])
