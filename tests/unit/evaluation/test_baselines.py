"""Each baseline on the town of eight users of conftest.py."""

import builtins
import dataclasses

import numpy as np
import pytest

from bundle.csr import csr_from_pairs, empty_csr
from bundle.progress import SilentStage
from evaluation import baselines as module
from evaluation.baselines import (
    BETA,
    EASE_L2S,
    _ease_of_targets,
    als,
    baselines,
    chosen_beta,
    ease,
    ease_chosen,
    elsewhere_first,
    item_knn,
    matrix,
    paths,
    popularity,
    quick_baselines,
    reciprocate_first,
    rp3b,
    top_rows,
    user_knn,
    with_followers,
)
from evaluation.rows import baseline_row, baseline_rows
from evaluation.task import FollowTask
from tests.unit.evaluation.conftest import adjacency

ZERO = np.array([0], dtype=np.int64)


def test_popularity_counts_training_followers(town: FollowTask) -> None:
    assert popularity(town)(ZERO)[0].tolist() == [2, 1, 1, 1, 3, 3, 1, 0]


def test_followees_of_followees_counts_paths(town: FollowTask) -> None:
    scores = paths(matrix(town.train, 8))(ZERO)[0]
    assert scores[4] == 3  # by 1, 2 and 3
    assert scores[5] == 2  # by 1 and 3
    assert scores[6] == 0


def test_reciprocate_first_puts_followers_before_any_number_of_paths(town: FollowTask) -> None:
    scores = reciprocate_first(matrix(town.train, 8))
    assert top_rows(town, scores, ZERO, 2)[0].tolist() == [6, 4]


def test_item_knn_compares_targets_by_their_followers(town: FollowTask) -> None:
    # User 1 follows 4 and 5. Of the others, none shares a follower with 4 or 5 but 0 (by user 2).
    scores = item_knn(matrix(town.train, 8))(np.array([1], dtype=np.int64))[0]
    followers = {4: {1, 2, 3}, 0: {2, 6}}
    expected = len(followers[4] & followers[0]) / np.sqrt(len(followers[4]) * len(followers[0]))
    assert scores[0] == pytest.approx(expected)
    assert scores[7] == 0


def dense(town: FollowTask) -> np.ndarray:
    return matrix(town.train, 8).toarray().astype(np.float64)


def test_user_knn_sums_the_cosines_of_users(town: FollowTask) -> None:
    a, everyone = dense(town), np.arange(8)
    unit = a / np.maximum(np.sqrt(a.sum(axis=1, keepdims=True)), 1.0)
    assert user_knn(matrix(town.train, 8))(everyone) == pytest.approx(unit @ unit.T @ a, abs=1e-5)


def test_rp3b_is_a_walk_of_three_steps_damped_by_in_degree(town: FollowTask) -> None:
    a, everyone = dense(town), np.arange(8)
    out, into = (np.maximum(a.sum(axis=axis), 1.0) for axis in (1, 0))
    first = a / out[:, None]
    expected = first @ (a.T / into[:, None]) @ first * into**-0.3
    assert rp3b(matrix(town.train, 8))(everyone) == pytest.approx(expected, abs=1e-5)
    with_bonus = expected + 0.2 * expected.max(axis=1, keepdims=True) * a.T
    assert with_followers(matrix(town.train, 8), rp3b(matrix(town.train, 8)), share=0.2)(everyone) == pytest.approx(
        with_bonus, abs=1e-5
    )


def test_what_the_user_has_by_other_relations_comes_first_the_newest_and_most_of_it_before_the_rest(
    town: FollowTask,
) -> None:
    walk, others = rp3b(matrix(town.train, 8)), [(0, 5), (0, 6), (0, 6), (1, 7)]
    newness = np.array([1.5, 1.0, 1.0, 1.0], dtype=np.float32)
    rows, indices = np.array(others, dtype=np.int32).T
    found = elsewhere_first(csr_from_pairs(rows, indices, 8, newness), 8, walk)(np.array([0, 1, 2]))
    assert np.argsort(-found[0], kind="stable")[:2].tolist() == [6, 5]  # by two relations, then by one
    assert found[1].argmax() == 7
    assert found[2] == pytest.approx(walk(np.array([2]))[0])
    rest = np.setdiff1d(np.arange(8), [5, 6])
    assert found[0, rest] == pytest.approx(walk(np.array([0]))[0, rest])


def fans(hidden: int, held_out: int) -> FollowTask:
    """Thirty users with one of the targets 0 to 4 each, who look for `hidden`, later for `held_out`.

    Five others have all of these but one and 5, which thirty more have, so that the walk puts it first as long as its
    in-degree of 35 counts little; one of the five has 6, which nobody else does.
    """
    n, everyone = 65, range(30)
    pairs = [(user, user % 5) for user in everyone]
    pairs += [(30 + lacks, target) for lacks in range(5) for target in range(6) if target != lacks]
    pairs += [(user, 5) for user in range(35, 65)] + [(30, 6)]
    train = adjacency(pairs, n)
    return FollowTask(
        relation="likes",
        users=np.arange(30),
        train=train,
        train_by_target=train.transposed(7),
        hidden=adjacency([(user, hidden) for user in everyone], n),
        held_out=adjacency([(user, held_out) for user in everyone], n),
        same_type=False,
    )


def test_rp3b_is_damped_as_the_hidden_edges_ask_and_not_as_the_held_out_ones_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHOSEN_AT", 1)  # of ten, lists of seven targets hold all
    for hidden, held_out, beta in ((5, 6, 0.0), (5, 5, 0.0), (6, 5, 0.6), (6, 6, 0.6)):
        task = fans(hidden, held_out)
        walk = matrix(task.train, 7)
        assert chosen_beta(task, rp3b(walk, beta=0.0)) == beta
        served = next(one.score for one in quick_baselines(task, np.random.default_rng(1)) if one.name == "rp3b")
        assert served(task.users) == pytest.approx(rp3b(walk, beta=beta)(task.users))


def test_where_too_few_users_have_hidden_edges_rp3b_is_damped_as_usual(town: FollowTask) -> None:
    assert chosen_beta(town, rp3b(matrix(town.train, 8), beta=0.0)) == BETA


def test_ease_is_the_ridge_regression_of_each_target_on_the_others(town: FollowTask) -> None:
    a, everyone = dense(town), np.arange(8)
    score = ease(matrix(town.train, 8), l2=2.0).score
    assert score is not None
    expected = np.empty_like(a)
    for target in range(8):
        others = np.delete(a, target, axis=1)
        weights = np.linalg.solve(others.T @ others + 2.0 * np.eye(7), others.T @ a[:, target])
        expected[:, target] = others @ weights
    assert score(everyone) == pytest.approx(expected, abs=1e-4)


def test_ease_of_few_users_is_that_of_many_targets() -> None:
    rng = np.random.default_rng(3)
    likes = matrix(adjacency([(user, int(item)) for user in range(30) for item in rng.choice(90, 12, False)], 30), 90)
    everyone = np.arange(30)
    found, wanted = ease(likes, l2=7.0).score, _ease_of_targets(likes, 7.0)
    assert found is not None
    assert found(everyone) == pytest.approx(wanted(everyone), abs=1e-4)


def test_the_regulariser_of_ease_is_chosen_by_the_hidden_edges_alone() -> None:
    rng, users, items = np.random.default_rng(5), 150, 80
    taste, fame = rng.integers(0, 5, users), (1.0 + np.arange(items)) ** -0.8
    draws = []
    for liked in taste.tolist():
        weights = fame * np.where(np.arange(items) % 5 == liked, 6.0, 1.0)
        draws.append(rng.choice(items, 9, replace=False, p=weights / weights.sum()).tolist())
    parts = [
        [(user, item) for user, some in enumerate(draws) for item in some[a:b]] for a, b in ((0, 7), (7, 8), (8, 9))
    ]
    train, one, other = (adjacency(pairs, users) for pairs in parts)
    chosen = set()
    for hidden, held_out in ((one, other), (other, one)):
        task = FollowTask("likes", np.arange(users), train, train.transposed(items), hidden, held_out, same_type=False)
        likes, asked = matrix(train, items), dataclasses.replace(task, hidden=empty_csr(users), held_out=hidden)
        vectors = np.eye(items, dtype=np.float32)
        rows = [baseline_row(asked, ease(likes, l2=l2), vectors, None) for l2 in EASE_L2S]
        best = EASE_L2S[int(np.argmax([row.mean("recall@10") for row in rows]))]
        chosen.add(best)
        served, wanted = ease_chosen(task, likes).score, ease(likes, l2=best).score
        assert served is not None
        assert wanted is not None
        assert served(np.arange(users)) == pytest.approx(wanted(np.arange(users)))
    assert len(chosen) == 2, "the two parts ask for different ones, or the test tells nothing"


def test_ease_says_why_it_is_missing_where_targets_are_too_many(
    town: FollowTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_EASE", 7)
    assert ease(matrix(town.train, 8)).missing == "8 users and 8 targets are more than 7"


def test_known_and_hidden_targets_and_the_user_are_in_no_list(town: FollowTask) -> None:
    listed = top_rows(town, popularity(town), ZERO, 8)[0]
    assert listed.tolist() == [4, 6, 7]  # 0 is the user; 1, 2, 3 are followed; 5 is hidden


def test_ties_go_to_the_lower_row(town: FollowTask) -> None:
    def flat(users: np.ndarray) -> np.ndarray:
        return np.zeros((len(users), 8), dtype=np.float32)

    assert top_rows(town, flat, ZERO, 2)[0].tolist() == [4, 6]


def test_chunks_change_nothing(town: FollowTask, monkeypatch: pytest.MonkeyPatch) -> None:
    users = np.arange(8, dtype=np.int64)
    whole = top_rows(town, popularity(town), users, 5)
    monkeypatch.setattr(module, "CHUNK_FLOATS", 9)
    assert [list(rows) for rows in top_rows(town, popularity(town), users, 5)] == [list(rows) for rows in whole]


def test_every_baseline_gives_a_score_for_every_target(town: FollowTask) -> None:
    named = {baseline.name: baseline for baseline in baselines(town, np.random.default_rng(1))}
    assert {"random", "popularity", "followees_of_followees", "reciprocate_first", "item_knn"} < set(named)
    for baseline in named.values():
        if baseline.score is not None:
            assert baseline.score(ZERO).shape == (1, 8)


def test_paths_need_ends_of_one_type(town: FollowTask) -> None:
    likes = dataclasses.replace(town, same_type=False)
    names = [baseline.name for baseline in baselines(likes, np.random.default_rng(1))]
    assert "followees_of_followees" not in names
    assert "item_knn" in names


def test_als_says_why_it_is_missing(town: FollowTask, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_implicit(name: str, *rest: object) -> object:
        if name.startswith("implicit"):
            raise ImportError(name)
        return real_import(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_implicit)
    baseline = als(town, matrix(town.train, 8))
    assert baseline.score is None
    assert "not installed" in str(baseline.missing)


@pytest.mark.parametrize("kind", ["negative", "few_positive", "ties", "nothing"])
def test_the_best_rows_are_those_of_a_stable_sort(town: FollowTask, kind: str) -> None:
    rng = np.random.default_rng(3)
    scores = {
        "negative": -rng.random((8, 8)),
        "few_positive": np.where(rng.random((8, 8)) < 0.2, 1.0, 0.0),
        "ties": rng.integers(-1, 3, (8, 8)),
        "nothing": np.full((8, 8), -np.inf),
    }[kind].astype(np.float32)
    everyone = np.arange(8)
    for k in (1, 3, 8):
        for user, found in enumerate(top_rows(town, lambda users: scores[users], everyone, k)):
            own = scores[user].copy()
            own[town.known(user)] = -np.inf
            order = np.argsort(-own, kind="stable")
            assert found.tolist() == order[own[order] > -np.inf][:k].tolist()


def test_baselines_measured_together_are_those_measured_alone(town: FollowTask) -> None:
    vectors = np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32)
    some = [*quick_baselines(town, np.random.default_rng(1))[1:], module.Baseline("absent", None, "it is not there")]
    alone = [baseline_row(town, baseline, vectors, None) for baseline in some[:-1]]
    assert baseline_rows(town, some, vectors, SilentStage()) == alone
