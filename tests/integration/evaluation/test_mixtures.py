"""The sweep over mixtures on the toy, whose two clusters and tastes are known."""

from pathlib import Path

import numpy as np
import pytest

from bundle.csr import Csr
from bundle.prepared import PreparedGraph
from bundle.run import open_graph
from evaluation.mixtures import MixtureReport, effective_interests, mixture_report
from evaluation.report.words import sweep_in_words
from evaluation.task import follow_task
from index.builder.recluster import recluster
from recommend.recommender import Recommender
from tests.support.toy import CHESS_LOVERS, LOVERS_OF_BOTH, user_row


@pytest.fixture(scope="module")
def graph(toy_directory: Path) -> PreparedGraph:
    return open_graph(toy_directory / "run")


@pytest.fixture(scope="module")
def report(graph: PreparedGraph, recommender: Recommender) -> MixtureReport:
    task = follow_task(graph, "valid", np.random.default_rng(1))
    space = recommender.bundle.space()
    return mixture_report(
        task, recommender, lambda count: recluster(space, space.relation("likes"), count, 1), [2, 4], modes=(1, 2)
    )


def test_every_mixture_of_every_size_is_a_row(report: MixtureReport) -> None:
    names = {one.name for one in report.mixtures}
    assert len(names) == 2 * 2 * 4
    assert {"centroid, 2 clusters, 1 mode", "blended, 4 clusters, 2 modes"} <= names
    assert [row.name for row in report.singles] == ["unimodal", "fold_in", "blend"]
    assert MixtureReport.model_validate_json(report.model_dump_json()) == report


def test_with_a_cluster_for_each_taste_the_mixture_finds_what_one_vector_finds(report: MixtureReport) -> None:
    recalls = {one.name: one.row.mean("recall@10") for one in report.mixtures}
    assert recalls["personal, 2 clusters, 2 modes"] == 1.0  # the held-out item is of the user's only taste
    assert report.singles[0].mean("recall@10") == 1.0


def test_other_clusters_give_the_mixtures_that_a_build_with_so_many_gives(
    recommender: Recommender, graph: PreparedGraph
) -> None:
    built = recommender.bundle.space()
    likes, of_items = built.relation("likes"), built.clusters.interests_in("item")
    again = recluster(built, likes, of_items.entry.count, 1, modes=built.entry.clusters.modes)
    for user in range(len(built.table("user"))):
        ours, theirs = (np.sort(one.clusters.interests[0].mixtures.row_weights(user)) for one in (again, built))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_interests_are_counted_by_the_mixture(recommender: Recommender, graph: PreparedGraph) -> None:
    users = np.array([user_row(LOVERS_OF_BOTH[0]), user_row(CHESS_LOVERS[0])])
    space = recommender.bundle.space()
    both, one = effective_interests(
        recluster(space, space.relation("likes"), 2, 1).clusters.interests[0].mixtures, users
    )
    assert both == pytest.approx(np.exp(-0.6 * np.log(0.6) - 0.4 * np.log(0.4)), rel=1e-5)  # six of jazz, four of chess
    assert one == pytest.approx(1.0)
    nobody = Csr(np.zeros(3, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
    assert effective_interests(nobody, np.array([0])).tolist() == [0.0]


def test_the_words_name_the_mixture_and_what_it_is_held_against(report: MixtureReport) -> None:
    words = sweep_in_words(report)
    assert words.startswith("On this graph the mixture ")
    assert any(f"of {row.name}" in words for row in report.singles)
    assert "For users with one interest, against " in words
