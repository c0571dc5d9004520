"""What a recommender knows of a user: everything, as of users in training, or a few engagements, as of newcomers.

Newcomers are played by users whom training does know: their vector is left out, and all but a few of their edges.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int32, Int64

from bundle.csr import Csr, csr_from_pairs, empty_csr
from bundle.space import Space
from evaluation.task import FollowTask
from recommend.elsewhere import DatedLists
from recommend.profile import NOBODY, Profile, profile_of_newcomer, profile_of_row
from recommend.types import NO_LIVE_EDGES

FEW = (1, 2, 3, 5, 10, 20)
# Somebody who has this many edges is no likeness of a newcomer, even with all but a few of them hidden.
MOST_EDGES = 40


def profiles_of_users(space: Space, task: FollowTask) -> list[Profile]:
    """The users of the task as the version knows them."""
    relation = space.relation(task.relation)
    return [profile_of_row(space, relation, user, NO_LIVE_EDGES, n_modes=0) for user in task.users.tolist()]


def profiles_of_newcomers(
    space: Space, relation: str, engagements: Csr, followers: Csr, others: Mapping[str, DatedLists]
) -> list[Profile]:
    """People of whom there are only engagements, followers and engagements of other relations, row by row."""
    chosen = space.relation(relation)
    return [
        profile_of_newcomer(
            space,
            chosen,
            engagements.row(i).astype(np.int64),
            followers.row(i).astype(np.int64),
            n_modes=0,
            others={name: rows.row(i) for name, rows in others.items()},
        )
        for i in range(len(engagements))
    ]


def as_newcomers(task: FollowTask, few: Sequence[int], rng: np.random.Generator) -> FollowTask:
    """The task in which each user has one of the numbers `few` of training edges; the others become hidden.

    Users with more than MOST_EDGES edges are left out.
    """
    users = task.users[task.train.degrees()[task.users] <= MOST_EDGES]
    rows, kept, lost = [], [NOBODY], [NOBODY]
    for user in users.tolist():
        edges = _shuffled(task.train.row(user), rng)
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


def _shuffled(row: Int32[npt.NDArray[np.int32], " n"], rng: np.random.Generator) -> Int32[npt.NDArray[np.int32], " n"]:
    """A copy in random order. `permutation` of the row itself fails where it is empty and cannot be written, as of a
    mapped file: numpy takes it for a copy already, since no two empty arrays share memory."""
    return row[rng.permutation(len(row))]


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


def others_of(space: Space, task: FollowTask, rng: np.random.Generator) -> dict[str, DatedLists]:
    """By each relation that tells of the task's, row i: some of what `task.users[i]` engages with by it; of every
    other user nothing.
    """
    found = {}
    for name in space.relation(task.relation).entry.elsewhere:
        other, known = space.relation(name), rng.random(len(task.users)) < 0.5
        places = [
            _some_edges(other.targets, user, rng) if told else NOBODY
            for user, told in zip(task.users.tolist(), known.tolist(), strict=True)
        ]
        every = np.concatenate([NOBODY, *places]).astype(np.int64)
        indptr = np.cumsum([0, *map(len, places)], dtype=np.int64)
        lists = Csr(indptr, other.targets.indices[every])
        found[name] = DatedLists(lists, None if other.times is None else other.times[every])
    return found


def _some_edges(lists: Csr, user: int, rng: np.random.Generator) -> Int64[npt.NDArray[np.int64], " n"]:
    """The places of some of a user's edges, ascending."""
    first, n = int(lists.indptr[user]), int(lists.indptr[user + 1] - lists.indptr[user])
    return first + np.sort(rng.permutation(n)[: rng.choice(FEW)])
