"""What a build measures before its version gets its name: weights, every strategy, the best one.

All of it on validation edges, so that the test edges stay unseen until somebody asks for the report.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.assessment import Assessment, Assessments, Unlearnt
from bundle.errors import UsageError
from bundle.manifest import Gate, Measured, QueryWeights, Rescoring, Strategy
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress, Stage
from bundle.strategies import DEFAULT_AUTO, FIRST_GUESS, default_strategies, mixture_blend, walk
from bundle.successor import JUDGED_BY, USERS
from evaluation.baselines import quick_baselines
from evaluation.learning.evidence import (
    FEW,
    as_newcomers,
    engagements_of,
    followers_of,
    others_of,
    profiles_of_newcomers,
    profiles_of_users,
)
from evaluation.learning.rescoring import POOL, learn_rescoring, learn_walk
from evaluation.learning.weights import learn_weights
from evaluation.rows import (
    CUTS,
    Estimate,
    Found,
    PerUser,
    Row,
    baseline_rows,
    measure_lists,
    measure_users,
    newcomers_ask,
    vectors_under,
)
from evaluation.task import FollowTask, follow_task, without_known
from recommend.plan import strategies_of
from recommend.profile import Profile
from recommend.protocol import Lists, Users
from recommend.recommender import Recommender
from recommend.types import in_sorted

LEARNING_STEPS = 4
LEARN_USERS = 8000
# Weights need fewer teachers than a network.
WEIGHT_USERS = 2000
# One number needs fewer still.
WALK_USERS = 500
JUDGE_USERS = 1000
# Newcomers are alike: fewer of them teach and judge.
NEW_LEARN_USERS, NEW_JUDGE_USERS = 6000, 500
NEW_KNOWN = (1, 3, 5, 10)
# Up to so many users, more teachers still teach much more.
FEW_USERS = 4000
# With fewer users half of them would judge by chance.
FEWEST_USERS = 10
# Up to so many users each half teaches what the other one judges, so that all of them judge.
TWO_FOLD_USERS = 1000
# Of graphs with hundreds of relations those with the most validation edges are learnt.
MOST_RELATIONS = 8
# Of the others so many users at most judge what needs no learning.
UNLEARNT_JUDGES = 300
# Whichever finds most answers by default. The others are special cases of these by weights that nothing taught, or less
# precise on purpose: where few judge, every one more that is looked at wins by chance.
CHOSEN_FROM = ("blend", "rescored", "newcomer", "popular")
# Few edges teach badly what a walk knows untaught: it answers where its lead over these is so many standard errors.
WALK, WALK_ERRORS = "walk", 2.0
NEWCOMER = "newcomer"
BASELINES = (
    "popularity",
    "followees_of_followees",
    "reciprocate_first",
    "item_knn",
    "rp3b",
    "rp3b_followers",
    "elsewhere_first",
)
KEPT = (*JUDGED_BY, "recall@20", "ndcg@10", "mrr", "diversity@10", "coverage@10", "gini@10")


def assess(recommender: Recommender, graph: PreparedGraph, seed: int, *, progress: Progress = SILENT) -> Assessments:
    """Learn for every relation how it is answered best, or say why that cannot be learnt; by the relation's name.

    At most MOST_RELATIONS are learnt, the default one first, then those with the most validation edges. Of the others
    what needs no learning is measured, and the best of it taken.
    """
    default = recommender.bundle.space().entry.default.relation
    by_evidence = sorted(graph.relations, key=lambda one: (one.name != default, -len(one.valid)))
    found: dict[str, Assessment | Unlearnt] = {}
    for place, relation in enumerate(by_evidence):
        if place < MOST_RELATIONS or not len(relation.valid):
            found[relation.name] = assess_relation(recommender, graph, relation.name, seed, progress=progress)
    others = [relation.name for relation in by_evidence if relation.name not in found]
    if others:
        with progress.stage("Choosing strategies of the other relations", len(others), "relations") as bar:
            for name in others:
                found[name] = choose_unlearnt(recommender, graph, name, seed)
                bar.advance()
    return found


def choose_unlearnt(recommender: Recommender, graph: PreparedGraph, relation: str, seed: int) -> Unlearnt:
    """Which of the strategies that need no learning finds most of a relation's validation edges.

    The user's vector alone, the walk, or popularity, where it leads the blend of unlearnt relations `beyond_chance`,
    else that blend. None is named where too few users have such edges.
    """
    space = recommender.bundle.space()
    reason = f"of many relations {MOST_RELATIONS} are learnt: the default and those with the most validation edges"
    try:
        judges = follow_task(
            graph,
            "valid",
            np.random.default_rng(seed),
            relation=relation,
            n_users=UNLEARNT_JUDGES,
            min_known=1,
            with_elsewhere=False,  # which only baselines ask for
        )
    except UsageError:
        return Unlearnt(reason)
    if len(judges.users) < FEWEST_USERS:
        return Unlearnt(reason)
    known = strategies_of(space, relation)
    tried = {name: known[name] for name in (DEFAULT_AUTO, "unimodal", "popular")}
    tried["walk"] = walk(tried[DEFAULT_AUTO].weights)
    vectors = vectors_under(space, relation)
    scores = {name: measure_users(judges, recommender, name, one, vectors).recalls for name, one in tried.items()}
    best = max(scores, key=lambda name: float(scores[name].mean()))
    said = f"{best} was best"
    if best != DEFAULT_AUTO and not beyond_chance(scores[DEFAULT_AUTO], scores[best]):
        said, best = f"{best} led {DEFAULT_AUTO} by less than the standard error", DEFAULT_AUTO
    return Unlearnt(f"{reason}; {said} on {len(judges.users)} users with such edges", best, tried)


def beyond_chance(before: PerUser, after: PerUser, errors: float = 1.0) -> bool:
    """Whether the mean of `after` leads that of `before` by more than so many standard errors of their difference, user
    by user."""
    # What one user alone gains is the error itself, but for rounding.
    error = (1 + 1e-9) * errors * standard_error(before, after)
    return bool((after - before).mean() > error)


def standard_error(before: PerUser, after: PerUser) -> float:
    """That of the mean difference of what two find, user by user; of one user anything may be chance."""
    lead = after - before
    return float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else math.inf


def assess_relation(
    recommender: Recommender, graph: PreparedGraph, relation: str, seed: int, *, progress: Progress = SILENT
) -> Assessment | Unlearnt:
    """Learn weights, measure strategies and baselines, choose `auto`; or say why that cannot be.

    One half of the users with validation edges teaches the weights, the other half judges the strategies; of
    TWO_FOLD_USERS each half judges what the other one taught. Then again as newcomers: known by a few engagements
    alone, every other one by their followers too. Of FEW_USERS no half may be lost to judging: what is shipped is
    learnt again from all of them, as it was judged.
    """
    space = recommender.bundle.space()
    if not len(graph.relation(relation).valid):
        return Unlearnt("it has no validation edges")
    # A stream for each purpose: learning draws more or less by the candidates it is given, and must move no other draw.
    who = np.random.default_rng(seed)
    teaching, known, references, again, turned = who.spawn(5)
    try:
        everyone = follow_task(graph, "valid", who, relation=relation, n_users=LEARN_USERS + JUDGE_USERS, min_known=1)
    except UsageError:
        return Unlearnt("nobody has both a validation edge and a training edge")
    if len(everyone.users) < FEWEST_USERS:
        return Unlearnt(
            f"of users with both a validation edge and a training edge there are {len(everyone.users)}, and "
            f"{FEWEST_USERS} are needed"
        )
    default = relation == space.entry.default.relation
    of = "" if default else f" of {relation}"
    teachers, judges = _halves(everyone, who)
    folds = [_Fold(teachers, teaching, _Bench(recommender, judges, known))]
    if len(everyone.users) <= TWO_FOLD_USERS:
        also_teaching, also_known = turned.spawn(2)
        folds.append(_Fold(judges, also_teaching, _Bench(recommender, teachers, also_known)))
        judges = everyone
    with progress.stage(f"Learning strategies{of}", 2 * LEARNING_STEPS * len(folds), "steps") as bar:
        learnt = [_learnt(recommender, fold.teachers, fold.teaching, bar) for fold in folds]
    strategies = learnt[0]
    with progress.stage(f"Measuring strategies{of}", 2 * sum(map(len, learnt)), "measurements") as bar:
        users = [fold.bench.users(some, bar) for fold, some in zip(folds, learnt, strict=True)]
        newcomers = [fold.bench.newcomers(some, bar) for fold, some in zip(folds, learnt, strict=True)]
    rows, newcomer_rows = joined(users), joined(newcomers)
    baselines = _baselines(recommender, judges, references, progress, of)
    auto, gate_floor = _auto(rows, popularity_floor(rows, baselines), users)
    measured = Measured(
        strategies={row.name: kept(row) for row in rows},
        baselines={row.name: kept(row) for row in baselines},
        newcomers={row.name: kept(row) for row in newcomer_rows},
    )
    auto_newcomer = _auto_newcomer(newcomer_rows, newcomers) if newcomer_rows else None
    if len(everyone.users) <= FEW_USERS:
        with progress.stage(f"Learning from all users{of}", 2 * LEARNING_STEPS, "steps") as bar:
            strategies |= _learnt(recommender, everyone, again, bar)
    gate = popularity_gate(auto, gate_floor, "" if default else f"{relation}: ")
    return Assessment(measured, (gate,), strategies, auto.name, auto_newcomer)


def _learnt(
    recommender: Recommender, teachers: FollowTask, rng: np.random.Generator, bar: Stage
) -> dict[str, Strategy]:
    """The strategies of a build, and those that the teachers teach."""
    shipped = default_strategies(recommender.bundle.space().entry.clusters.modes)
    users, newcomers = rng.spawn(2)
    learnt = with_learnt(shipped, *_learn_for_users(recommender, teachers, users, bar))
    newcomer = _learn_for_newcomers(recommender, teachers, newcomers, bar)
    return learnt if newcomer is None else {**learnt, "newcomer": newcomer}


def _learn_for_users(
    recommender: Recommender, teachers: FollowTask, rng: np.random.Generator, bar: Stage
) -> tuple[QueryWeights, Rescoring | None, Strategy]:
    space, relation = recommender.bundle.space(), teachers.relation
    profiles = profiles_of_users(space, teachers)

    def pools(weights: QueryWeights, some: Users) -> Lists:
        """The candidates of a query with these weights, for the teachers at the places `some`."""
        strategy = Strategy(merge="single", weights=weights)
        return recommender.for_users(teachers.users[some], strategy, POOL, relation=relation)

    weights, rescoring = _learn(recommender, teachers, profiles, pools, rng, bar, "users")
    some = np.arange(min(len(teachers.users), WALK_USERS))
    few = teachers.of_users(teachers.users[some])
    by_walk = learn_walk(recommender, few, profiles[: len(some)], pools(weights, some), weights)
    return weights, rescoring, by_walk


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
    others = others_of(space, teachers, rng)
    profiles = profiles_of_newcomers(space, task.relation, engagements, followers, others)

    def pools(weights: QueryWeights, some: Users) -> Lists:
        """The candidates of a query with these weights, less those that are hidden: neither right nor wrong."""
        strategy = Strategy(merge="single", weights=weights)
        told = engagements.take(some), followers.take(some)
        also = {name: rows.take(some) for name, rows in others.items()}
        lists = recommender.for_newcomers(*told, strategy, POOL, relation=task.relation, others=also)
        pairs = zip(teachers.users[some].tolist(), lists, strict=True)
        return [rows[~in_sorted(rows, np.sort(teachers.known(user)))] for user, rows in pairs]

    weights, rescoring = _learn(recommender, teachers, profiles, pools, rng, bar, "newcomers")
    return Strategy(merge="single", weights=weights, rescoring=rescoring)


def _learn(
    recommender: Recommender,
    teachers: FollowTask,
    profiles: Sequence[Profile],
    pools: Callable[[QueryWeights, Users], Lists],
    rng: np.random.Generator,
    bar: Stage,
    whom: str,
) -> tuple[QueryWeights, Rescoring | None]:
    """Weights from the candidates of a first guess, then a network from the candidates of these weights."""
    some = np.sort(rng.permutation(len(teachers.users))[:WEIGHT_USERS])
    bar.note(f"finding candidates for {len(some):,} {whom}")
    candidates = pools(FIRST_GUESS, some)
    bar.advance()
    bar.note(f"learning weights for {whom}")
    some_teachers = teachers.of_users(teachers.users[some])
    weights = learn_weights(recommender.bundle.space(), some_teachers, [profiles[i] for i in some.tolist()], candidates)
    bar.advance()
    bar.note(f"finding candidates for {len(teachers.users):,} {whom} by these weights")
    candidates = pools(weights, np.arange(len(teachers.users)))
    bar.advance()
    bar.note(f"learning to rescore for {whom}")
    rescoring = learn_rescoring(recommender, teachers, profiles, candidates, rng)
    bar.advance()
    return weights, rescoring


def with_learnt(
    strategies: Mapping[str, Strategy], weights: QueryWeights, rescoring: Rescoring | None, by_walk: Strategy
) -> dict[str, Strategy]:
    """The version's strategies and the learnt ones: `blend`, `rescored`, `walk`, `mixture_blend`.

    `blend` is one query with the learnt weights; `rescored` orders its best candidates anew.
    """
    learnt = dict(strategies)
    learnt["blend"] = Strategy(merge="single", weights=weights)
    learnt[WALK] = by_walk
    if rescoring is not None:
        learnt["rescored"] = Strategy(merge="single", weights=weights, rescoring=rescoring)
    mixture = strategies.get("mixture")
    if mixture is not None:
        learnt["mixture_blend"] = mixture.model_copy(update={"weights": mixture_blend(weights)})
    return learnt


_ByStrategy = Mapping[str, Found]


@dataclass(frozen=True, slots=True)
class _Bench:
    """The users who judge, whom to ask, and the stream that says what is known of newcomers.

    It is not shared with the learning: whoever answers, the same users judge, known by the same edges.
    """

    recommender: Recommender
    judges: FollowTask
    known: np.random.Generator

    def users(self, strategies: Mapping[str, Strategy], bar: Stage) -> _ByStrategy:
        """What every strategy finds for the judges as training knows them."""
        by_name = {}
        for name, strategy in strategies.items():
            by_name[name] = measure_users(self.judges, self.recommender, name, strategy, self._vectors)
            bar.advance()
        return by_name

    def newcomers(self, strategies: Mapping[str, Strategy], bar: Stage) -> _ByStrategy:
        """What every strategy finds for some judges as newcomers, every other one with followers, half of them with
        some of what they engage with by each other relation that tells of this one; empty when nobody is fit."""
        some = self.judges.of_users(self.known.permutation(self.judges.users)[:NEW_JUDGE_USERS])
        task = as_newcomers(some, NEW_KNOWN, self.known)
        if not len(task.users):
            return {}
        told = engagements_of(task), followers_of(task, np.arange(len(task.users)) % 2 == 0)
        others = others_of(self.recommender.bundle.space(), task, self.known)
        by_name = {}
        for name, strategy in strategies.items():
            lists = self.recommender.for_newcomers(
                *told, strategy, newcomers_ask(task), relation=task.relation, others=others
            )
            by_name[name] = measure_lists(task, name, without_known(task, task.users, lists, max(CUTS)), self._vectors)
            bar.advance()
        return by_name

    @property
    def _vectors(self) -> npt.NDArray[np.float32]:
        return vectors_under(self.recommender.bundle.space(), self.judges.relation)


class _Fold(NamedTuple):
    """Some users who teach, what they draw, and others who judge."""

    teachers: FollowTask
    teaching: np.random.Generator
    bench: _Bench


def _auto(rows: Sequence[Row], floor: float, users: Sequence[_ByStrategy]) -> tuple[Row, float]:
    """What answers by default, and the recall@10 that it has to reach: the `floor`, which is what popularity finds, or
    the standard error less where popularity leads the best by no more than that.

    The best of CHOSEN_FROM, or `walk` where that leads it beyond chance.
    """
    best = chosen(rows)
    below = floor - best.mean("recall@10")
    if below > 0:
        of_each = (np.concatenate([one[name].values["recall@10"] for one in users]) for name in (best.name, "popular"))
        error = standard_error(*of_each)
        if below > error:
            best = chosen(rows, floor)
        else:
            floor -= error
    by_walk = next(row for row in rows if row.name == WALK)
    leads = by_walk.mean("recall@10") >= floor and judged(by_walk) > judged(best)
    if leads and beyond_chance(_recalls(users, best.name), _recalls(users, WALK), WALK_ERRORS):
        best = by_walk
    return best, floor


def _auto_newcomer(rows: Sequence[Row], newcomers: Sequence[_ByStrategy]) -> str:
    """What answers newcomers by default: `newcomer`, which was taught by such, unless the best of CHOSEN_FROM leads it
    beyond chance."""
    best = chosen(rows).name
    if all(row.name != NEWCOMER for row in rows):
        return best
    return best if beyond_chance(_recalls(newcomers, NEWCOMER), _recalls(newcomers, best)) else NEWCOMER


def _recalls(groups: Sequence[_ByStrategy], name: str) -> PerUser:
    """For each of all who judge, group by group, the mean of the recalls of a strategy."""
    return np.concatenate([one[name].recalls for one in groups if one])


def _baselines(
    recommender: Recommender, judges: FollowTask, rng: np.random.Generator, progress: Progress, of: str
) -> list[Row]:
    """The baselines that take no training, on those who judge."""
    vectors = vectors_under(recommender.bundle.space(), judges.relation)
    chosen = [baseline for baseline in quick_baselines(judges, rng) if baseline.name in BASELINES]
    with progress.stage(f"Measuring baselines{of}", len(judges.users), "users") as bar:
        return baseline_rows(judges, chosen, vectors, bar)


def joined(parts: Sequence[_ByStrategy]) -> list[Row]:
    """The rows of several groups of users as one, by the names that all have: means over all of the users.

    What is measured of all lists of a group together, such as coverage, is the mean over the groups.
    """
    measured = [by_name for by_name in parts if by_name]
    if not measured:
        return []
    names = [name for name in measured[0] if all(name in by_name for by_name in measured)]
    return [_joined([by_name[name].row for by_name in measured]) for name in names]


def _joined(rows: Sequence[Row]) -> Row:
    metrics = {}
    for metric in rows[0].metrics:
        some = [row.metrics[metric] for row in rows]
        n = sum(one.n for one in some)
        total = sum(one.n * one.mean for one in some if one.mean is not None)
        metrics[metric] = Estimate(mean=total / n if n else None, low=None, high=None, n=n)
    return rows[0].model_copy(update={"metrics": metrics})


def chosen(rows: Sequence[Row], floor: float = 0.0) -> Row:
    """The best of CHOSEN_FROM that reach the floor in recall@10."""
    fit = [row for row in rows if row.name in CHOSEN_FROM and row.mean("recall@10") >= floor]
    return max(fit, key=judged)


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


def popularity_gate(auto: Row, floor: float, relation: str = "") -> Gate:
    """A version that popularity beats is not fit to publish. `relation` begins the gate's name."""
    name = f"{relation}{auto.name} recall@10 against popularity"
    return Gate(metric=name, floor=floor, measured=auto.mean("recall@10"))


def _halves(task: FollowTask, rng: np.random.Generator) -> tuple[FollowTask, FollowTask]:
    """Two tasks over disjoint users: at most JUDGE_USERS, and at most half of them, judge."""
    order = rng.permutation(task.users)
    cut = len(order) - max(1, min(JUDGE_USERS, len(order) // 2))
    return task.of_users(order[:cut]), task.of_users(order[cut:])
