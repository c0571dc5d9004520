"""What a recommender is shown of a user: everything, as of users in training, or a few engagements, as of newcomers.

Newcomers are played by users whom training does know: their vector is left out, and all but a few of their edges.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Int32

from bundle.csr import Csr, csr_from_pairs, empty_csr
from bundle.space import Space
from evaluation.task import FollowTask

NOBODY = np.empty(0, dtype=np.int32)
FEW = (1, 2, 3, 5, 10, 20)
# Somebody who has this many edges is no likeness of a newcomer, even when shown with a few of them.
MOST_EDGES = 40


@dataclass(frozen=True, slots=True)
class Shown:
    """One user: θu (None: unknown to training), the targets of the user's edges, those with an edge to the user."""

    vector: Float32[npt.NDArray[np.float32], " d"] | None
    targets: Int32[npt.NDArray[np.int32], " targets"]
    followers: Int32[npt.NDArray[np.int32], " followers"]


def as_known(space: Space, task: FollowTask) -> list[Shown]:
    """The users of the task as training knows them."""
    vectors = space.table(space.relation(task.relation).entry.source).embeddings
    followers = task.train_by_target.take(task.users) if task.same_type else empty_csr(len(task.users))
    return [
        Shown(np.asarray(vectors[user]), task.train.row(user), followers.row(i))
        for i, user in enumerate(task.users.tolist())
    ]


def as_new(engagements: Csr, followers: Csr) -> list[Shown]:
    """People of whom there are only engagements and followers, row by row."""
    return [Shown(None, engagements.row(i), followers.row(i)) for i in range(len(engagements))]


def newcomers(task: FollowTask, few: Sequence[int], rng: np.random.Generator) -> FollowTask:
    """The task in which each user has one of the numbers `few` of training edges; the others become hidden.

    Users with more than MOST_EDGES edges are left out.
    """
    users = task.users[task.train.degrees()[task.users] <= MOST_EDGES]
    rows, kept, lost = [], [NOBODY], [NOBODY]
    for user in users.tolist():
        edges = rng.permutation(task.train.row(user))
        cut = int(rng.choice(few))
        kept.append(edges[:cut])
        lost.append(np.concatenate([edges[cut:], task.hidden.row(user)]))
        rows.append(user)
    names, n = np.array(rows, dtype=np.int32), len(task.train)
    return dataclasses.replace(
        task, users=users, train=_grouped(names, kept[1:], n), hidden=_grouped(names, lost[1:], n)
    )


def _grouped(rows: Int32[npt.NDArray[np.int32], " n"], parts: Sequence[npt.NDArray[np.int32]], n_rows: int) -> Csr:
    sizes = [len(part) for part in parts]
    indices = np.concatenate([NOBODY, *parts]).astype(np.int32)
    return csr_from_pairs(np.repeat(rows, sizes), indices, n_rows)


def engagements_of(task: FollowTask) -> Csr:
    """Row i: what `task.users[i]` engaged with, all that a newcomer is known by."""
    return task.train.take(task.users)


def followers_of(task: FollowTask, known: Bool[npt.NDArray[np.bool_], " users"]) -> Csr:
    """Row i: who follows `task.users[i]`, nobody where that is not `known` or ends differ in type."""
    if not task.same_type:
        return empty_csr(len(task.users))
    followers = task.train_by_target.take(task.users)
    owner = np.repeat(np.arange(len(task.users), dtype=np.int32), followers.degrees())
    return csr_from_pairs(owner[known[owner]], followers.indices[known[owner]], len(task.users))
