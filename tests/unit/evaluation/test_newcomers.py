"""Users with few engagements on the town of conftest.py: 0 has three training edges, and held-out ones."""

import dataclasses

import numpy as np

from bundle.csr import Csr
from evaluation.newcomers import newcomer_rows, users_with
from evaluation.task import FollowTask

VECTORS = np.eye(8, 4, dtype=np.float32)


class KnowsZero:
    """Finds both held-out targets of a user by name. For somebody who follows 1, 2 and 3 it finds one of them; the
    other one is among the followers.
    """

    def for_users(self, users: np.ndarray, strategy: str, k: int, *, relation: str) -> list[np.ndarray]:
        assert (strategy, relation) == ("auto", "follows")
        return [np.array([4, 6], dtype=np.int32) for _ in users]

    def for_newcomers(self, engagements: Csr, followers: Csr, strategy: str, k: int, *, relation: str) -> list:
        assert (strategy, relation) == ("auto", "follows")
        assert [engagements.row(i).tolist() for i in range(len(engagements))] == [[1, 2, 3]]
        return [np.array([0, 4, *followers.row(i)], dtype=np.int32) for i in range(len(followers))]


def test_the_same_users_are_asked_for_by_name_and_as_newcomers(town: FollowTask) -> None:
    rows = newcomer_rows(town, KnowsZero(), "auto", VECTORS, np.random.default_rng(1))
    assert {row.known for row in rows} == {3}  # nobody with 1, 5 or 10 engagements has a held-out edge
    recall = {row.asked: row.metrics["recall@10"].mean for row in rows}
    assert recall == {"in training": 1.0, "by engagements": 0.5, "by engagements and followers": 1.0}
    shares = {row.asked: row.share.get("recall@10") for row in rows}
    assert shares == {"in training": None, "by engagements": 0.5, "by engagements and followers": 1.0}


def test_followers_are_not_asked_about_between_two_types(town: FollowTask) -> None:
    likes = dataclasses.replace(town, same_type=False)
    rows = newcomer_rows(likes, KnowsZero(), "auto", VECTORS, np.random.default_rng(1))
    assert [row.asked for row in rows] == ["in training", "by engagements"]


def test_users_are_those_with_just_so_many_edges(town: FollowTask) -> None:
    assert users_with(town, 3, np.random.default_rng(1)).users.tolist() == [0]
    assert users_with(town, 2, np.random.default_rng(1)).users.tolist() == []
