"""A town of eight users small enough to rank by hand.

0 follows 1, 2, 3. Those follow: 1 → 4, 5;  2 → 4, 0;  3 → 4, 5.  6 → 0;  4 → 5;  5 → 6;  nobody follows 7.
So from 0 there are three paths to 4 and two to 5, and 6 follows 0. Held out for the test: 0 → 4 and 0 → 6;
for validation: 0 → 5.
"""

import numpy as np
import pytest

from bundle.csr import csr_from_pairs
from evaluation.task import FollowTask

TRAIN = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 4), (2, 0), (3, 4), (3, 5), (6, 0), (4, 5), (5, 6)]
VALID = [(0, 5)]
TEST = [(0, 4), (0, 6)]
N_USERS = 8


def adjacency(pairs: list[tuple[int, int]], n: int = N_USERS):
    src, dst = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    return csr_from_pairs(src, dst, n)


@pytest.fixture
def town() -> FollowTask:
    train = adjacency(TRAIN)
    return FollowTask(
        relation="follows",
        users=np.array([0], dtype=np.int64),
        train=train,
        train_by_target=train.transposed(N_USERS),
        hidden=adjacency(VALID),
        held_out=adjacency(TEST),
        same_type=True,
    )
