"""Cold users on the town of conftest.py: 0 has three training edges, and held-out ones."""

import dataclasses

import numpy as np

from bundle.csr import Csr
from evaluation.cold import Asked, cold_rows, users_with
from evaluation.task import FollowTask

VECTORS = np.eye(8, 4, dtype=np.float32)
ASKED = Asked("auto", "rescored", "newcomer")


def in_training(users: np.ndarray, strategy: str, k: int) -> list[np.ndarray]:
    """Knows the user: finds both held-out targets."""
    assert strategy == "rescored"
    return [np.array([4, 6], dtype=np.int32) for _ in users]


def as_newcomers(engagements: Csr, followers: Csr, strategy: str, k: int) -> list[np.ndarray]:
    """For somebody who follows 1, 2 and 3 finds one held-out target; the other one is among the followers."""
    assert strategy == "newcomer"
    assert [engagements.row(i).tolist() for i in range(len(engagements))] == [[1, 2, 3]]
    return [np.array([0, 4, *followers.row(i)], dtype=np.int32) for i in range(len(followers))]


def test_the_same_users_are_asked_for_by_name_and_as_newcomers(town: FollowTask) -> None:
    found = cold_rows(town, in_training, as_newcomers, [ASKED], VECTORS, np.random.default_rng(1))
    assert {row.known for row in found} == {3}  # nobody with 1, 5 or 10 engagements has a held-out edge
    recall = {row.shown: row.metrics["recall@10"].mean for row in found}
    assert recall == {"in training": 1.0, "by engagements": 0.5, "by engagements and followers": 1.0}
    shares = {row.shown: row.share.get("recall@10") for row in found}
    assert shares == {"in training": None, "by engagements": 0.5, "by engagements and followers": 1.0}


def test_followers_are_not_asked_about_between_two_types(town: FollowTask) -> None:
    likes = dataclasses.replace(town, same_type=False)
    found = cold_rows(likes, in_training, as_newcomers, [ASKED], VECTORS, np.random.default_rng(1))
    assert [row.shown for row in found] == ["in training", "by engagements"]


def test_users_are_those_with_just_so_many_edges(town: FollowTask) -> None:
    assert users_with(town, 3, np.random.default_rng(1)).users.tolist() == [0]
    assert users_with(town, 2, np.random.default_rng(1)).users.tolist() == []
