"""Ranking metrics against hand-worked numbers; models that must, and must not, profit from embeddings."""

import numpy as np
import pytest

from evaluation.ranking.metrics import mean_average_precision, measure, pr_auc, relative_cross_entropy, roc_auc
from evaluation.ranking.models import FeatureSet, Labelled, predict
from evaluation.ranking.report import RankingReport, feature_sets, ranking_report

LABELS = np.array([True, False, True, False])
SCORES = np.array([0.9, 0.8, 0.3, 0.1])
ONES = np.ones(4)


def test_roc_auc_is_the_share_of_pairs_in_order() -> None:
    assert roc_auc(LABELS, SCORES, ONES) == pytest.approx(3 / 4)
    assert roc_auc(LABELS, np.full(4, 0.5), ONES) == pytest.approx(1 / 2)


def test_pr_auc_is_the_average_precision() -> None:
    assert pr_auc(LABELS, SCORES, ONES) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert pr_auc(LABELS, np.full(4, 0.5), ONES) == pytest.approx(0.5)


def test_relative_cross_entropy_is_zero_for_the_mean_and_a_hundred_for_the_truth() -> None:
    assert relative_cross_entropy(LABELS, np.full(4, 0.5), ONES) == pytest.approx(0.0)
    assert relative_cross_entropy(LABELS, LABELS.astype(np.float64), ONES) == pytest.approx(100.0, abs=1e-3)
    assert relative_cross_entropy(LABELS, 1.0 - LABELS, ONES) < -100


def test_a_weight_of_two_is_the_example_twice() -> None:
    twice = np.array([0, 1, 2, 3, 3])
    weights = np.array([1.0, 1.0, 1.0, 2.0])
    for metric in (roc_auc, pr_auc, relative_cross_entropy):
        expected = metric(LABELS[twice], SCORES[twice], np.ones(5))
        assert metric(LABELS, SCORES, weights) == pytest.approx(expected)


def test_map_is_over_users_who_have_both_kinds() -> None:
    users = np.array([7, 7, 9, 9, 3])
    labels = np.array([False, True, True, False, True])
    scores = np.array([0.9, 0.1, 0.8, 0.2, 0.5])
    assert mean_average_precision(users, labels, scores) == {7: 0.5, 9: 1.0}


def test_intervals_hold_the_value() -> None:
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(50), 10)
    labels = rng.random(500) < 0.3
    intervals = measure(users, labels, np.clip(0.3 + 0.3 * labels + rng.normal(0, 0.2, 500), 0.01, 0.99), 1)
    for interval in intervals.values():
        assert interval.low < interval.mean < interval.high


@pytest.fixture
def agreement() -> tuple[Labelled, Labelled, np.ndarray, np.ndarray]:
    """Users and items of two tastes, by the sign of one coordinate: a user clicks what agrees. Others tell nothing."""
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(60, 4)).astype(np.float32), rng.normal(size=(80, 4)).astype(np.float32)

    def draw(n: int) -> Labelled:
        u, i = rng.integers(0, 60, n), rng.integers(0, 80, n)
        agree = users[u, 0] * items[i, 0] > 0
        labels = np.where(rng.random(n) < 0.1, ~agree, agree)
        return Labelled(u, i, labels, rng.normal(size=(n, 2)).astype(np.float32))

    return draw(3000), draw(1000), users, items


def test_embeddings_of_both_sides_add_what_neither_has_alone(agreement: tuple) -> None:
    train, test, users, items = agreement
    report = ranking_report("clicks", train, test, feature_sets({"raw": (users, items)}), models=("mlp",))
    by_name = {row.features: row.metrics for row in report.rows}
    assert abs(by_name["none"]["roc_auc"].mean - 0.5) < 0.06
    assert by_name["user + item (raw)"]["roc_auc"].mean > 0.8
    assert by_name["user + item (raw)"]["rce"].low > by_name["none"]["rce"].high
    assert RankingReport.model_validate_json(report.model_dump_json()) == report


def test_a_linear_model_sees_agreement_through_the_product(agreement: tuple) -> None:
    train, test, users, items = agreement
    both = predict(train, test, FeatureSet("both", users, items), "logistic", 0)
    assert roc_auc(test.labels, both, np.ones(len(test))) > 0.8


def test_the_same_seed_gives_the_same_predictions(agreement: tuple) -> None:
    train, test, users, items = agreement
    both = FeatureSet("both", users, items)
    assert np.array_equal(predict(train, test, both, "mlp", 3), predict(train, test, both, "mlp", 3))


def test_resampled_users_may_all_lack_a_positive() -> None:
    # Of three users one has the only positive: among three that are drawn he is missing in 8 cases of 27.
    users, labels = np.repeat([0, 1, 2], 2), np.array([True, False, False, False, False, False])
    scores = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.95])
    measured = measure(users, labels, scores, 0)
    assert measured["roc_auc"].mean == 4 / 5
    assert 0.5 <= measured["roc_auc"].low <= measured["roc_auc"].high <= 1
    assert np.isnan(roc_auc(labels[2:], scores[2:], np.ones(4)))
    assert np.isnan(pr_auc(labels[2:], scores[2:], np.ones(4)))
