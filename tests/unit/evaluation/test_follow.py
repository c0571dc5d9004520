"""The who-to-follow report on the town of eight users of conftest.py."""

import dataclasses

import numpy as np
import pytest

from bundle.csr import Csr
from bundle.prepared import Edges, PreparedRelation
from cli.progress import LineProgress
from evaluation.baselines import Baseline, baselines
from evaluation.follow import FollowReport, follow_report
from evaluation.rows import strategy_row
from evaluation.task import FollowTask, also_trained, without_known

VECTORS = np.eye(8, 4, dtype=np.float32)
FIXED = {"finds_both": [4, 6, 7], "finds_one_way": [4, 7], "finds_reverse": [6, 7], "hidden_first": [5, 4, 6]}


class AlwaysTheSame:
    """Answers the same to everybody, and keeps how many candidates it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def for_users(self, users: np.ndarray, strategy: str, k: int, *, relation: str) -> list[np.ndarray]:
        self.asked.append(k)
        return [np.array(FIXED[strategy][:k], dtype=np.int32) for _ in users]

    def for_newcomers(self, engagements: Csr, followers: Csr, strategy: str, k: int, *, relation: str) -> list:
        return self.for_users(np.arange(len(engagements)), strategy, k, relation=relation)


RECOMMENDER = AlwaysTheSame()


def test_recall_is_of_the_held_out_edges(town: FollowTask) -> None:
    assert strategy_row(town, RECOMMENDER, "finds_both", VECTORS, 0).mean("recall@10") == 1.0
    assert strategy_row(town, RECOMMENDER, "finds_one_way", VECTORS, 0).mean("recall@10") == 0.5


def test_one_way_recall_leaves_out_those_who_follow_the_user(town: FollowTask) -> None:
    # 6 follows 0 in training, so of the held-out 4 and 6 only 4 is one-way.
    assert strategy_row(town, RECOMMENDER, "finds_one_way", VECTORS, 0).mean("one_way_recall@10") == 1.0
    assert strategy_row(town, RECOMMENDER, "finds_reverse", VECTORS, 0).mean("one_way_recall@10") == 0.0


def test_hidden_targets_take_no_place(town: FollowTask) -> None:
    # 5 is a validation edge: as good as known while the test edges are measured.
    assert strategy_row(town, RECOMMENDER, "hidden_first", VECTORS, 0).mean("mrr") == 1.0


def test_enough_is_asked_for_to_fill_the_list_without_hidden_targets(town: FollowTask) -> None:
    recommender = AlwaysTheSame()
    strategy_row(town, recommender, "finds_both", VECTORS, 0)
    assert recommender.asked == [51]  # one hidden edge


def test_a_relation_between_types_has_no_one_way_column(town: FollowTask) -> None:
    likes = dataclasses.replace(town, same_type=False)
    assert "one_way_recall@10" not in strategy_row(likes, RECOMMENDER, "finds_both", VECTORS, 0).metrics


def test_users_are_counted_by_degree(town: FollowTask) -> None:
    row = strategy_row(town, RECOMMENDER, "finds_both", VECTORS, 0)
    assert list(row.by_degree) == ["3-9"]
    assert row.by_degree["3-9"]["recall@10"].n == 1


def test_the_report_has_a_row_for_every_strategy_and_baseline_and_survives_json(town: FollowTask) -> None:
    missing = Baseline("implicit_als_128", None, "not installed")
    methods = [*baselines(town, np.random.default_rng(1))[:-1], missing]
    report = follow_report(town, RECOMMENDER, list(FIXED), methods, VECTORS, auto="finds_both")
    assert [row.name for row in report.rows][: len(FIXED)] == list(FIXED)
    assert report.row("implicit_als_128").missing == "not installed"
    assert np.isnan(report.row("implicit_als_128").mean("recall@10"))
    assert report.row("reciprocate_first").mean("recall@10") == 1.0
    assert FollowReport.model_validate_json(report.model_dump_json()) == report


def test_a_watcher_sees_each_method_done(town: FollowTask, capsys: pytest.CaptureFixture[str]) -> None:
    methods = baselines(town, np.random.default_rng(1))
    follow_report(town, RECOMMENDER, list(FIXED), methods, VECTORS, progress=LineProgress())
    n = len(FIXED) + len(methods)
    assert f"Measuring candidates: {n} of {n} methods" in capsys.readouterr().err


def test_popularity_bias_is_the_in_degree_of_the_candidates(town: FollowTask) -> None:
    row = strategy_row(town, RECOMMENDER, "finds_both", VECTORS, 0)
    assert row.mean("in_degree@10") == pytest.approx((3 + 1 + 0) / 3)
    assert row.mean("coverage@10") == pytest.approx(3 / 8)


@pytest.mark.parametrize("symmetric", [False, True])
def test_held_out_edges_that_are_training_edges_are_counted(symmetric: bool) -> None:
    def edges(*pairs: tuple[int, int]) -> Edges:
        src, dst = np.array(pairs, dtype=np.int32).T
        return Edges(np.ascontiguousarray(src), np.ascontiguousarray(dst))

    relation = PreparedRelation(
        index=0,
        name="r",
        source="u",
        target="u",
        symmetric=symmetric,
        coverage="high",
        train=edges((0, 1), (1, 2), (5, 4)),
        valid=edges((0, 1), (0, 2)),
        test=edges((1, 2), (4, 5), (3, 4)),
        duplicates=0,
        self_loops=0,
    )
    assert also_trained(relation, "valid") == 1
    assert also_trained(relation, "test") == (2 if symmetric else 1)


def test_held_out_edges_that_are_taken_out_are_neither_right_nor_wrong(town: FollowTask) -> None:
    rest = town.without_held_out(np.array([True, False]))  # 0 → 4 and not 0 → 6
    assert (rest.users.tolist(), rest.relevant(0).tolist()) == ([0], [6])
    assert sorted(rest.hidden.row(0).tolist()) == [4, 5]
    assert [rows.tolist() for rows in without_known(rest, rest.users, [np.array([4, 7, 6, 5], dtype=np.int32)], 2)] == [
        [7, 6]
    ]
    assert len(town.without_held_out(np.array([True, True])).users) == 0
