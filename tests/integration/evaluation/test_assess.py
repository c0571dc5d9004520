"""A build's measurement from end to end on the toy: real bundle, real recommender, real validation edges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundle.assessment import Assessment, Unlearnt
from bundle.manifest_file import parse_manifest
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress
from bundle.run import open_graph
from bundle.strategies import BLEND, walk
from cli.progress import LineProgress
from evaluation.learning.assess import CHOSEN_FROM, NEW_KNOWN, assess, beyond_chance, chosen, joined
from evaluation.learning.evidence import as_newcomers
from evaluation.rows import Estimate, Found, Row, measure_users
from evaluation.task import FollowTask, follow_task
from index.builder.version import _with_answers
from index.search.exact import ExactSearcher
from index.search.open import exact_searchers
from recommend.profile import profile_of_row
from recommend.recommender import Recommender
from recommend.rescoring import FEATURES, features_of
from recommend.types import NO_LIVE_EDGES


def found_by_all(values: npt.NDArray[np.float64]) -> Found:
    """Something that finds so much for each user, late and early."""
    return Found(Row(name="some", kind="strategy"), {"recall@10": values, "recall@50": values})


@pytest.fixture
def graph(toy_directory: Path) -> PreparedGraph:
    return open_graph(toy_directory / "run")


def assessed(recommender: Recommender, graph: PreparedGraph, progress: Progress = SILENT) -> Assessment:
    found = assess(recommender, graph, seed=1, progress=progress)["likes"]
    assert isinstance(found, Assessment)
    return found


def mean_recall(values: dict[str, float]) -> float:
    return values["recall@10"] + values["recall@50"]


def test_every_strategy_is_measured_and_the_best_of_the_learnt_ones_is_the_default(
    recommender: Recommender, graph: PreparedGraph
) -> None:
    evaluation, _, strategies, auto, _ = assessed(recommender, graph)
    assert set(evaluation.strategies) == set(strategies)
    assert {"blend", "rescored", "mixture_blend", "mixture_centroid", "popular"} <= set(strategies)
    assert auto in CHOSEN_FROM
    best = max(mean_recall(evaluation.strategies[name]) for name in CHOSEN_FROM)
    assert mean_recall(evaluation.strategies[auto]) == pytest.approx(best, abs=4e-5)
    assert "item_knn" in evaluation.baselines


def test_a_watcher_sees_each_measurement(
    recommender: Recommender, graph: PreparedGraph, capsys: pytest.CaptureFixture[str]
) -> None:
    # By name and as newcomers, of each half.
    n = 4 * len(assessed(recommender, graph, progress=LineProgress()).strategies)
    assert f"Measuring strategies: {n} of {n} measurements" in capsys.readouterr().err


def test_newcomers_have_a_strategy_of_their_own_and_a_default(recommender: Recommender, graph: PreparedGraph) -> None:
    evaluation, _, strategies, _, auto_newcomer = assessed(recommender, graph)
    weights = strategies["newcomer"].weights
    assert weights.user == 0  # newcomers have no vector
    assert set(evaluation.newcomers) == set(strategies)
    assert auto_newcomer in CHOSEN_FROM
    best = max(mean_recall(evaluation.newcomers[name]) for name in CHOSEN_FROM)
    assert mean_recall(evaluation.newcomers[auto_newcomer]) == pytest.approx(best, abs=4e-5)


def test_what_nothing_taught_is_not_chosen_whatever_it_finds() -> None:
    def row(name: str, mean: float) -> Row:
        one = Estimate(mean=mean, low=None, high=None, n=40)
        return Row(name=name, kind="strategy", metrics={"recall@10": one, "recall@50": one})

    rows = [row("unimodal", 0.6), row("blend", 0.5), row("rescored", 0.55), row("mixture", 0.7), row("popular", 0.2)]
    assert chosen(rows).name == "rescored"
    assert chosen([rows[0], rows[1], rows[4]], floor=0.5).name == "blend"


def test_of_few_users_each_half_judges_what_the_other_one_taught(
    recommender: Recommender, graph: PreparedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = follow_task(graph, "valid", np.random.default_rng(1), relation="likes", n_users=None, min_known=1)
    found = assessed(recommender, graph).measured
    measured = [*found.strategies.values(), *found.baselines.values()]
    assert {values["users"] for values in measured} == {len(whole.users)}
    monkeypatch.setattr("evaluation.learning.assess.TWO_FOLD_USERS", len(whole.users) - 1)
    found = assessed(recommender, graph).measured
    assert {values["users"] for values in found.strategies.values()} == {len(whole.users) // 2}


def test_groups_are_joined_by_how_many_users_count_in_each() -> None:
    def row(name: str, mean: float | None, n: int) -> Row:
        return Row(name=name, kind="strategy", metrics={"mrr": Estimate(mean=mean, low=None, high=None, n=n)})

    def by_name(*rows: Row) -> dict[str, Found]:
        return {row.name: Found(row, {}) for row in rows}

    rows = joined([by_name(row("a", 0.5, 10), row("b", 0.1, 10)), by_name(row("c", 0.2, 30), row("a", 0.1, 30))])
    assert [row.name for row in rows] == ["a"]
    assert (rows[0].mean("mrr"), rows[0].metrics["mrr"].n) == (pytest.approx(0.2), 40)
    assert joined([{}, by_name(row("a", 0.5, 3))])[0].mean("mrr") == 0.5
    assert np.isnan(joined([by_name(row("a", None, 0)), by_name(row("a", None, 0))])[0].mean("mrr"))
    assert joined([{}, {}]) == []


def test_the_gate_compares_with_popularity(recommender: Recommender, graph: PreparedGraph) -> None:
    evaluation, gates, _, auto, _ = assessed(recommender, graph)
    gate = gates[0]
    assert gate.measured == pytest.approx(evaluation.strategies[auto]["recall@10"], abs=1e-5)
    assert gate.floor == pytest.approx(evaluation.baselines["popularity"]["recall@10"], abs=1e-5)


def test_the_same_seed_learns_the_same_weights(recommender: Recommender, graph: PreparedGraph) -> None:
    assert assessed(recommender, graph).strategies == assessed(recommender, graph).strategies


def test_the_same_users_judge_as_the_same_newcomers_whatever_the_searcher_finds(
    recommender: Recommender, graph: PreparedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging: list[FollowTask] = []

    def watched(task: FollowTask, few: Sequence[int], rng: np.random.Generator) -> FollowTask:
        newcomers = as_newcomers(task, few, rng)
        if few == NEW_KNOWN:
            judging.append(newcomers)
        return newcomers

    monkeypatch.setattr("evaluation.learning.assess.as_newcomers", watched)
    monkeypatch.setattr("evaluation.learning.assess.POOL", 8)  # a pool that does not hold every item
    bundle = recommender.bundle
    farthest = ExactSearcher(-bundle.space().table("item").vectors)
    other = Recommender(
        bundle, {key: farthest if key[1] == "item" else one for key, one in exact_searchers(bundle).items()}
    )
    first, second = assessed(recommender, graph), assessed(other, graph)
    assert first.strategies != second.strategies  # the candidates differ, and what they teach
    assert len(judging) == 4  # two halves, twice
    for one, another in zip(judging[:2], judging[2:], strict=True):
        assert one.users.tolist() == another.users.tolist()
        assert one.train.indices.tolist() == another.train.indices.tolist()
    assert first.measured.baselines == second.measured.baselines


def test_a_relation_without_validation_edges_says_so(recommender: Recommender, graph: PreparedGraph) -> None:
    assert assess(recommender, graph, seed=1)["follows"] == Unlearnt("it has no validation edges")


def test_a_relation_with_too_few_users_says_so(
    recommender: Recommender, graph: PreparedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.learning.assess.FEWEST_USERS", 21)
    said = assess(recommender, graph, seed=1)["likes"]
    assert said == Unlearnt("of users with both a validation edge and a training edge there are 20, and 21 are needed")


@pytest.mark.parametrize("best", ["walk", "popular", "unimodal", "blend"])
def test_of_a_relation_that_is_not_learnt_what_needs_no_learning_is_measured(
    recommender: Recommender, graph: PreparedGraph, monkeypatch: pytest.MonkeyPatch, best: str
) -> None:
    monkeypatch.setattr("evaluation.learning.assess.MOST_RELATIONS", 0)
    measured: dict[str, float] = {}

    def judged(task: FollowTask, recommender: Recommender, name: str, *asked: Any) -> Found:
        found = measure_users(task, recommender, name, *asked)
        measured[name] = found.recalls.mean()
        return found_by_all(np.full(len(found.recalls), float(name == best)))

    monkeypatch.setattr("evaluation.learning.assess.measure_users", judged)
    said = assess(recommender, graph, seed=1)["likes"]
    assert isinstance(said, Unlearnt)
    assert said.auto == best
    assert said.reason.endswith(f"; {best} was best on 20 users with such edges")
    assert measured["popular"] < measured["walk"] == 1.0  # of its kind a user has all but one
    entry = recommender.bundle.space().entry
    answers = _with_answers(entry, "likes", said).answers("likes")
    assert answers is not None
    assert (answers.auto, answers.fallback) == (best, said.reason)
    assert answers.strategies["walk"].rescoring is not None
    spaces = {"default": _with_answers(entry, "likes", said)}
    whole = recommender.bundle.manifest.model_copy(update={"spaces": spaces})
    assert parse_manifest(whole.model_dump_json().encode(), "manifest.json").spaces == spaces
    monkeypatch.setattr("evaluation.learning.assess.FEWEST_USERS", 21)
    few = assess(recommender, graph, seed=1)["likes"]
    assert isinstance(few, Unlearnt)
    assert few.auto is None


def test_the_blend_is_left_for_a_lead_beyond_chance_alone(
    recommender: Recommender, graph: PreparedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten users one who is found by chance made the choice, which the next seed took back."""
    monkeypatch.setattr("evaluation.learning.assess.MOST_RELATIONS", 0)
    one_user = np.eye(20)[0]
    found = iter((np.zeros(20), np.zeros(20), np.zeros(20), one_user))
    monkeypatch.setattr("evaluation.learning.assess.measure_users", lambda *_: found_by_all(next(found)))
    said = assess(recommender, graph, seed=1)["likes"]
    assert isinstance(said, Unlearnt)
    assert said.auto == "blend"
    assert "walk led blend by less than the standard error on 20 users" in said.reason
    assert not beyond_chance(np.zeros(20), np.eye(20)[:1].sum(axis=0))
    assert not beyond_chance(np.zeros(1), np.ones(1))
    assert beyond_chance(np.zeros(20), np.eye(20)[:4].sum(axis=0))


def test_the_walk_orders_by_the_walk_and_where_it_does_not_reach_by_vectors(recommender: Recommender) -> None:
    space = recommender.bundle.space()
    relation = space.relation("likes")
    for user in (0, 12, 21):  # of jazz, of chess, of both
        found = recommender.for_users(np.array([user]), walk(BLEND), 20, relation="likes")[0]
        profile = profile_of_row(space, relation, user, NO_LIVE_EDGES, n_modes=0)
        inputs = features_of(space, relation, profile, found)
        paths = inputs[:, FEATURES.index("walk")]
        near = (inputs[:, FEATURES.index("user")] + inputs[:, FEATURES.index("fold_in")]) / 20
        assert (np.diff(paths + near) <= 1e-5).all()
        assert paths[0] > paths[-1]


def test_a_task_holds_out_the_validation_edges_of_the_run(graph: PreparedGraph) -> None:
    task = follow_task(graph, "valid", np.random.default_rng(1), min_known=1)
    assert len(task.users) == 20  # the lovers of one thing
    assert not task.same_type
    user = int(task.users[0])
    assert set(task.relevant(user)).isdisjoint(task.train.row(user))
