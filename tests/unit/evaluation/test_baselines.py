"""Each baseline on the town of eight users of conftest.py."""

import builtins
import dataclasses

import numpy as np
import pytest

from evaluation import baselines as module
from evaluation.baselines import als, baselines, item_knn, matrix, paths, popularity, reciprocate_first, top_rows
from evaluation.task import FollowTask

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
