"""Cold start: users asked for as if training did not know them, beside the same users as it does."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field

from bundle.progress import SILENT, Progress
from bundle.records import Record
from evaluation.learning.evidence import engagements_of, followers_of
from evaluation.rows import Estimate, Vectors, newcomer_row, strategy_row
from evaluation.task import FollowTask
from recommend.protocol import RowRecommender

KNOWN = (1, 3, 5, 10)
USERS = 500
SHARES = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50")
AskedBy = Literal["in training", "by engagements", "by engagements and followers"]


class NewcomerRow(Record):
    """Users with `known` engagements, asked for in one way; `share` is of the recall of the same users by name."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    known: int
    strategy: str
    asked: AskedBy = Field(validation_alias="shown", serialization_alias="shown")
    metrics: dict[str, Estimate]
    share: dict[str, float] = {}


def newcomer_rows(
    task: FollowTask,
    recommender: RowRecommender,
    strategy: str,
    vectors: Vectors,
    rng: np.random.Generator,
    *,
    known: Sequence[int] = KNOWN,
    progress: Progress = SILENT,
) -> tuple[NewcomerRow, ...]:
    """For each number of engagements, users with just so many training edges and a held-out one, asked for by name,
    by these engagements, and by them and their followers.

    As a newcomer the user's vector is not used, and who follows the user only where it is said. At most USERS users a
    number; numbers without users are left out.
    """
    rows: list[NewcomerRow] = []
    with progress.stage("Cold start", len(known), "groups of users") as bar:
        for number in known:
            few = users_with(task, number, rng)
            if len(few.users):
                rows += _of_one(few, number, recommender, strategy, vectors)
            bar.advance()
    return tuple(rows)


def _of_one(
    few: FollowTask, number: int, recommender: RowRecommender, strategy: str, vectors: Vectors
) -> Iterator[NewcomerRow]:
    reference = strategy_row(few, recommender, strategy, vectors, 0)
    yield NewcomerRow(known=number, strategy=strategy, asked="in training", metrics=reference.metrics)
    engagements = engagements_of(few)
    ways: tuple[AskedBy, ...] = ("by engagements", "by engagements and followers")
    for asked in ways if few.same_type else ways[:1]:
        followers = followers_of(few, np.full(len(few.users), asked == ways[1]))
        row = newcomer_row(few, recommender, engagements, followers, strategy, vectors, 0)
        shares = {name: row.mean(name) / reference.mean(name) for name in SHARES if reference.mean(name) > 0}
        yield NewcomerRow(known=number, strategy=strategy, asked=asked, metrics=row.metrics, share=shares)


def users_with(task: FollowTask, number: int, rng: np.random.Generator) -> FollowTask:
    """The task for users who have `number` training edges and a held-out one, at most USERS of them."""
    eligible = np.flatnonzero((task.train.degrees() == number) & (task.held_out.degrees() > 0))
    return dataclasses.replace(task, users=np.sort(rng.permutation(eligible)[:USERS]).astype(np.int64))
