"""Cold users on the town of conftest.py: 0 has three training edges, and held-out ones."""

import numpy as np

from bundle.csr import Csr
from evaluation.cold import cold_rows, rows_of, users_with
from evaluation.task import FollowTask

VECTORS = np.eye(8, 4, dtype=np.float32)


def trained(users: np.ndarray, strategy: str, k: int) -> list[np.ndarray]:
    """Knows the user: finds both held-out targets."""
    return [np.array([4, 6], dtype=np.int32) for _ in users]


def cold(engagements: Csr, strategy: str, k: int) -> list[np.ndarray]:
    """Sees engagements alone: finds one held-out target for somebody who follows 1, 2 and 3."""
    rows = [engagements.row(i).tolist() for i in range(len(engagements))]
    return [np.array([4] if row == [1, 2, 3] else [], dtype=np.int32) for row in rows]


def test_the_same_users_are_asked_for_with_and_without_their_name(town: FollowTask) -> None:
    found = cold_rows(town, trained, cold, ["blend"], VECTORS, np.random.default_rng(1))
    assert list(found) == [3]  # nobody with 1, 5 or 10 engagements has a held-out edge
    by_name = {row.name: row.mean("recall@10") for row in found[3]}
    assert by_name == {"blend, trained": 1.0, "blend, fold-in": 0.5}


def test_users_are_those_with_just_so_many_edges(town: FollowTask) -> None:
    assert users_with(town, 3, np.random.default_rng(1)).users.tolist() == [0]
    assert users_with(town, 2, np.random.default_rng(1)).users.tolist() == []


def test_rows_are_renumbered(town: FollowTask) -> None:
    few = rows_of(town.train, np.array([2, 0]))
    assert [few.row(i).tolist() for i in range(2)] == [[0, 4], [1, 2, 3]]
