"""Cold start: users shown with a few engagements alone, beside the same users as training knows them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.progress import SILENT, Progress
from evaluation.follow import ColdRow, Recommend, RecommendNewcomers, Row, Shown, strategy_row
from evaluation.learning.evidence import engagements_of, followers_of
from evaluation.task import FollowTask, Lists

KNOWN = (1, 3, 5, 10)
USERS = 500
SHARES = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50")


class Asked(NamedTuple):
    """A strategy by the name that the rows carry, and what to ask for: for users in training, and for newcomers."""

    name: str
    known: str
    newcomer: str


def cold_rows(
    task: FollowTask,
    recommend: Recommend,
    recommend_newcomers: RecommendNewcomers,
    strategies: Sequence[Asked],
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    rng: np.random.Generator,
    *,
    known: Sequence[int] = KNOWN,
    progress: Progress = SILENT,
) -> tuple[ColdRow, ...]:
    """For each number of engagements, users with just so many training edges and a held-out one, asked for by name,
    by these engagements, and by them and their followers.

    As a newcomer the user's vector is not used, and who follows the user only where it is said. At most USERS users a
    number; numbers without users are left out.
    """
    found: list[ColdRow] = []
    with progress.stage("Cold start", len(known), "groups of users") as bar:
        for number in known:
            few = users_with(task, number, rng)
            if len(few.users):
                for asked in strategies:
                    found += _of_one(few, number, recommend, recommend_newcomers, asked, vectors)
            bar.advance()
    return tuple(found)


def _of_one(
    few: FollowTask,
    number: int,
    recommend: Recommend,
    recommend_newcomers: RecommendNewcomers,
    asked: Asked,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
) -> Iterator[ColdRow]:
    reference = strategy_row(few, recommend, asked.known, vectors, 0)
    yield ColdRow(known=number, strategy=asked.name, shown="in training", metrics=reference.metrics)
    ways: tuple[Shown, ...] = ("by engagements", "by engagements and followers")
    for shown in ways if few.same_type else ways[:1]:
        row = _as_newcomers(few, recommend_newcomers, asked.newcomer, vectors, with_followers=shown == ways[1])
        shares = {name: row.mean(name) / reference.mean(name) for name in SHARES if reference.mean(name) > 0}
        yield ColdRow(known=number, strategy=asked.name, shown=shown, metrics=row.metrics, share=shares)


def _as_newcomers(
    few: FollowTask,
    recommend: RecommendNewcomers,
    strategy: str,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    *,
    with_followers: bool,
) -> Row:
    engagements = engagements_of(few)
    followers = followers_of(few, np.full(len(few.users), with_followers))

    def answer(users: npt.NDArray[np.int64], strategy: str, k: int) -> Lists:
        return recommend(engagements, followers, strategy, k + 1)  # one of them may be the user

    return strategy_row(few, answer, strategy, vectors, 0)


def users_with(task: FollowTask, number: int, rng: np.random.Generator) -> FollowTask:
    """The task for users who have `number` training edges and a held-out one, at most USERS of them."""
    eligible = np.flatnonzero((task.train.degrees() == number) & (task.held_out.degrees() > 0))
    return dataclasses.replace(task, users=np.sort(rng.permutation(eligible)[:USERS]).astype(np.int64))
