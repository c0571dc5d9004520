"""Users of the town of conftest.py playing newcomers."""

import numpy as np

from evaluation.learning.evidence import as_newcomers, engagements_of, followers_of
from evaluation.task import FollowTask


def everyone(town: FollowTask) -> FollowTask:
    return town.of_users(np.array([0, 1, 4], dtype=np.int64))


def test_a_newcomer_is_known_by_a_few_edges_and_the_others_are_in_no_answer(town: FollowTask) -> None:
    task = as_newcomers(everyone(town), (1,), np.random.default_rng(1))
    engagements = engagements_of(task)
    assert engagements.degrees().tolist() == [1, 1, 1]
    for i, user in enumerate(task.users.tolist()):
        assert set(engagements.row(i)) < {*town.train.row(user), -1}
        # What is not told any more is still known: neither right nor wrong.
        assert {*engagements.row(i), *task.hidden.row(user)} == {*town.train.row(user), *town.hidden.row(user)}
        assert set(task.known(user)) == set(town.known(user))


def test_more_than_there_are_is_all(town: FollowTask) -> None:
    task = as_newcomers(everyone(town), (10,), np.random.default_rng(1))
    assert engagements_of(task).degrees().tolist() == town.train.degrees()[[0, 1, 4]].tolist()


def test_followers_are_those_in_training_where_they_are_known(town: FollowTask) -> None:
    followers = followers_of(everyone(town), np.array([True, False, True]))
    assert [followers.row(i).tolist() for i in range(3)] == [[2, 6], [], [1, 2, 3]]


def test_rows_are_renumbered(town: FollowTask) -> None:
    few = town.train.take(np.array([2, 0]))
    assert [few.row(i).tolist() for i in range(2)] == [[0, 4], [1, 2, 3]]
