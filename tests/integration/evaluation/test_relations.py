"""Every relation is learnt for itself: a graph with one version for both, and one that holds nothing out on purpose.

Training is short.
"""

from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import Manifest
from bundle.reader import read_manifest
from bundle.run import open_graph, open_run
from bundle.strategies import FOLLOWERS_BONUS
from bundle.successor import compare
from cli.compose import assessor, open_recommender
from evaluation.follow import evaluate_follow, offer_of
from evaluation.rows import strategy_row
from evaluation.task import follow_task
from index.builder.config import parse_config as build_config
from index.builder.version import build_version
from recommend.interests import interests_of
from recommend.types import AUTO, NO_LIVE_EDGES
from tests.support.world import BOTH, trained


def built(run: Path, version: str, relation: str, *, quick: bool = False) -> Path:
    settings = {"index": {"kind": "exact", "queries": 50}, "default_relation": relation, "threads": 1}
    assess = None if quick else assessor(run, 1)
    bundles = run.parent / "bundles"
    return build_version(run, bundles, build_config(settings, "the test"), version=version, assess=assess).path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both relations are split."""
    return trained(tmp_path_factory.mktemp("both"), BOTH)


@pytest.fixture(scope="module")
def for_following(run: Path) -> Path:
    return built(run, "following", "follows")


@pytest.fixture(scope="module")
def for_listening(run: Path) -> Path:
    return built(run, "listening", "listens")


def recall_of(path: Path, run: Path, relation: str, strategy: str = AUTO) -> float:
    task = follow_task(open_graph(run), "test", np.random.default_rng(1), relation=relation, n_users=None)
    recommender = open_recommender(path)
    vectors = recommender.bundle.space().table("user" if relation == "follows" else "artist").embeddings
    return strategy_row(task, recommender, strategy, vectors, None).mean("recall@10")


@pytest.mark.parametrize("relation", ["follows", "listens"])
def test_a_version_built_for_the_other_relation_answers_as_well(
    run: Path, for_following: Path, for_listening: Path, relation: str
) -> None:
    own, other = (for_following, for_listening) if relation == "follows" else (for_listening, for_following)
    assert recall_of(other, run, relation) >= 0.97 * recall_of(own, run, relation)


def test_each_relation_has_its_own_strategies_measurements_and_gate(for_following: Path) -> None:
    manifest = read_manifest(for_following)
    space = manifest.spaces["default"]
    own = space.relation_strategies["listens"]
    assert own.fallback is None
    assert {"blend", "rescored", "newcomer"} <= set(own.strategies)
    assert own.strategies["blend"] != space.strategies["blend"]
    assert own.strategies["blend"].weights.reciprocity == 0  # an artist follows nobody
    measured = manifest.evaluation.relations["listens"]
    assert measured.strategies[own.auto]["recall@10"] > measured.baselines["popularity"]["recall@10"]
    assert own.auto_newcomer in measured.newcomers
    names = [gate.metric for gate in manifest.evaluation.gates]
    assert f"{space.auto} recall@10 against popularity" in names
    assert f"listens: {own.auto} recall@10 against popularity" in names


def test_a_fall_of_any_relation_refuses_a_version(for_following: Path) -> None:
    manifest = read_manifest(for_following)
    auto = manifest.spaces["default"].relation_strategies["listens"].auto
    found = manifest.evaluation.relations["listens"]
    better = {metric: min(0.99, 2.0 * value) for metric, value in found.strategies[auto].items() if metric != "users"}
    measured = found.model_copy(update={"strategies": {auto: better}})
    evaluation = manifest.evaluation.model_copy(update={"relations": {"listens": measured}})
    active = manifest.model_copy(update={"evaluation": evaluation, "version": "before"})
    refused = [gate.metric for gate in compare(manifest, active) if not gate.passed]
    assert "listens: recall@10 against version before" in refused
    assert not [name for name in refused if not name.startswith("listens: ")]


def test_a_report_measures_the_relation_that_is_named(run: Path, for_following: Path) -> None:
    recommender = open_recommender(for_following)
    report = evaluate_follow(open_run(run), recommender, offer_of(recommender), relation="listens", users=100)
    space = recommender.bundle.space().entry
    assert report.relation == "listens"
    assert report.auto == space.relation_strategies["listens"].auto
    assert report.row(report.auto).mean("recall@10") > report.row("popularity").mean("recall@10")
    assert {"user_knn", "rp3b", "ease"} <= {row.name for row in report.rows}


@pytest.fixture(scope="module")
def without_split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("plain"), "")


def test_a_graph_without_a_split_learns_its_defaults(without_split: Path) -> None:
    space = read_manifest(built(without_split, "learnt", "follows")).spaces["default"]
    for answers in (space, space.relation_strategies["listens"]):
        assert answers.fallback is None
        assert "rescored" in answers.strategies


def bonus(manifest: Manifest, relation: str) -> float:
    answers = manifest.spaces["default"].answers(relation)
    assert answers is not None
    assert answers.auto == "blend"
    assert answers.fallback is not None
    return answers.strategies["blend"].weights.reciprocity


def test_without_learning_the_blend_answers_with_a_bonus_for_followers_where_edges_are_returned(
    without_split: Path,
) -> None:
    manifest = read_manifest(built(without_split, "quick", "listens", quick=True))
    assert bonus(manifest, "follows") == FOLLOWERS_BONUS
    assert bonus(manifest, "listens") == 0.0
    assert manifest.evaluation.strategies == {}


def test_a_relation_that_is_too_small_says_so(tmp_path: Path) -> None:
    run = trained(tmp_path, "[validation]\nfraction = 0")
    manifest = read_manifest(built(run, "unlearnt", "follows"))
    assert bonus(manifest, "follows") == FOLLOWERS_BONUS
    assert manifest.spaces["default"].fallback == "it has no validation edges"
    assert manifest.spaces["default"].relation_strategies["listens"].fallback == "it has no validation edges"


def test_users_who_only_listen_have_interests_in_what_they_listen_to(tmp_path: Path) -> None:
    run = trained(tmp_path, "", listeners=100)
    recommender = open_recommender(built(run, "pooled", "follows", quick=True))
    space = recommender.bundle.space()
    listens = space.relation("listens")
    for listener in range(5):
        assert interests_of(space, space.relation("follows"), listener, NO_LIVE_EDGES, 3) == []
        interests = interests_of(space, listens, listener, NO_LIVE_EDGES, 3)
        examples = [example for interest in interests for example in interest.examples]
        assert examples
        assert {kind for kind, _ in examples} == {"artist"}
        assert {row for _, row in examples} <= set(listens.targets.row(listener).tolist())


def test_what_a_relation_leads_to_is_clustered_by_itself(for_following: Path, for_listening: Path) -> None:
    space = open_recommender(for_following).bundle.space()
    assert [(one.types, one.user_type) for one in space.entry.clusters.interests] == [
        (("user",), "user"),
        (("artist",), "user"),
    ]
    of_artists = space.clusters.interests_in("artist").clusters
    assert set(space.clusters.assignment["artist"].tolist()) == set(of_artists)
    assert space.clusters.lists["artist", "centroid"].first == of_artists.start > 0
    assert read_manifest(for_listening).spaces["default"].clusters.types == ("artist", "user")


@pytest.mark.parametrize("relation", ["follows", "listens"])
def test_the_mixture_of_any_version_is_as_good(run: Path, relation: str) -> None:
    own, other = (built(run, f"{relation}-by-{name}", name, quick=True) for name in ("follows", "listens"))
    found = [recall_of(one, run, relation, "mixture") for one in (own, other)]
    assert found[0] == pytest.approx(found[1], rel=0.03)
