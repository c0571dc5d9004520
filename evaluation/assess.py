"""What a build measures before its version gets its name: weights, every strategy, the best one.

All of it on validation edges, so that the test edges stay unseen until somebody asks for the report.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.manifest import Evaluation, Gate, Manifest, QueryWeights, Rescoring, Strategy
from bundle.prepared import PreparedGraph
from bundle.space import Space
from evaluation.baselines import quick_baselines
from evaluation.follow import Row, baseline_row, strategy_row
from evaluation.rescoring import POOL, learn_rescoring
from evaluation.task import FollowTask, Lists, follow_task
from evaluation.weights import FIRST_GUESS, learn_weights

Assessment = tuple[Evaluation, dict[str, Strategy], str]

LEARN_USERS = 8000
JUDGE_USERS = 1000
BASELINES = ("popularity", "followees_of_followees", "reciprocate_first", "item_knn")
# What `auto` is chosen by: early and late, all edges and the ones that are not a mere following back.
JUDGED_BY = ("recall@10", "recall@50", "one_way_recall@10", "one_way_recall@50")
KEPT = (*JUDGED_BY, "recall@20", "ndcg@10", "mrr", "diversity@10", "coverage@10", "gini@10")


@runtime_checkable
class RecommendWith(Protocol):
    """Candidates by any strategy, also one the version does not have yet: best first, without the known ones."""

    def __call__(self, users: Int64[npt.NDArray[np.int64], " users"], strategy: Strategy, k: int) -> Lists: ...


def assess(
    space: Space, recommend: RecommendWith, graph: PreparedGraph, seed: int, *, relation: str | None = None
) -> Assessment | None:
    """Learn weights, measure strategies and baselines, choose `auto`. None when there are no validation edges.

    One half of the users with validation edges teaches the weights, the other half judges the strategies.
    """
    name = relation or space.entry.default.relation
    if not len(graph.relation(name).valid):
        return None
    rng = np.random.default_rng(seed)
    everyone = follow_task(graph, "valid", rng, relation=name, n_users=LEARN_USERS + JUDGE_USERS, min_known=1)
    teachers, judges = _halves(everyone, rng)
    first = Strategy(merge="single", weights=FIRST_GUESS)
    weights = learn_weights(space, teachers, recommend(teachers.users, first, POOL))
    blend = Strategy(merge="single", weights=weights)
    rescoring = learn_rescoring(space, teachers, recommend(teachers.users, blend, POOL), rng)
    strategies = with_learnt(space.entry.strategies, weights, rescoring)
    rows = _measure(space, judges, recommend, strategies)
    references = [
        baseline_row(judges, baseline, space.table(space.relation(name).entry.target).embeddings, None)
        for baseline in quick_baselines(judges, rng)
        if baseline.name in BASELINES
    ]
    auto = max(rows, key=judged)
    evaluation = Evaluation(
        gates=(popularity_gate(auto, references),),
        strategies={row.name: kept(row) for row in rows},
        baselines={row.name: kept(row) for row in references},
    )
    return evaluation, strategies, auto.name


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


def compare(new: Manifest, active: Manifest | None, tolerance: float) -> list[Gate]:
    """Gates that refuse a version whose default answers got worse than the active one's by more than `tolerance`.

    `tolerance` is relative: 0.05 allows recall to fall by a twentieth. Nothing to compare, no gates: the
    first version, or one built without validation edges.
    """
    if active is None:
        return []
    ours, theirs = _of_auto(new), _of_auto(active)
    shared = [metric for metric in JUDGED_BY if metric in ours and metric in theirs]
    name = f"against version {active.version}"
    return [
        Gate(metric=f"{metric} {name}", floor=theirs[metric] * (1.0 - tolerance), measured=ours[metric])
        for metric in shared
    ]


def _of_auto(manifest: Manifest) -> dict[str, float]:
    first = next(iter(manifest.spaces.values()))
    return manifest.evaluation.strategies.get(first.auto, {})


def _halves(task: FollowTask, rng: np.random.Generator) -> tuple[FollowTask, FollowTask]:
    """Two tasks over disjoint users: at most JUDGE_USERS, and at most half of them, judge."""
    order = rng.permutation(task.users)
    cut = len(order) - max(1, min(JUDGE_USERS, len(order) // 2))
    return task.of_users(order[:cut]), task.of_users(order[cut:])


def _measure(space: Space, task: FollowTask, recommend: RecommendWith, strategies: Mapping[str, Strategy]) -> list[Row]:
    vectors = space.table(space.relation(task.relation).entry.target).embeddings

    def by_name(users: Int64[npt.NDArray[np.int64], " users"], strategy: str, k: int) -> Lists:
        return recommend(users, strategies[strategy], k)

    return [strategy_row(task, by_name, name, vectors, None) for name in strategies]
