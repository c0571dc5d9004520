"""Cold start: users represented by a few engagements alone, beside the same users as training knows them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.csr import Csr
from evaluation.follow import Recommend, RecommendCold, Row, strategy_row
from evaluation.task import FollowTask, Lists

KNOWN = (1, 3, 5, 10)
USERS = 500


def cold_rows(
    task: FollowTask,
    recommend: Recommend,
    recommend_cold: RecommendCold,
    strategies: Sequence[str],
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    rng: np.random.Generator,
    *,
    known: Sequence[int] = KNOWN,
) -> dict[int, tuple[Row, ...]]:
    """For each number of engagements, users with just so many training edges and a held-out one, asked for twice.

    `<strategy>, trained` names the user; `<strategy>, fold-in` shows the engagements of somebody unknown, so neither
    the user's vector nor who follows them is used. At most USERS users a number; numbers without users are left out.
    """
    found = {}
    for number in known:
        few = users_with(task, number, rng)
        if not len(few.users):
            continue

        def fold_in(users: npt.NDArray[np.int64], strategy: str, k: int, few: FollowTask = few) -> Lists:
            return recommend_cold(rows_of(few.train, users), strategy, k)

        rows = []
        for strategy in strategies:
            trained = strategy_row(few, recommend, strategy, vectors, 0)
            folded = strategy_row(few, fold_in, strategy, vectors, 0)
            rows.append(trained.model_copy(update={"name": f"{strategy}, trained"}))
            rows.append(folded.model_copy(update={"name": f"{strategy}, fold-in"}))
        found[number] = tuple(rows)
    return found


def users_with(task: FollowTask, number: int, rng: np.random.Generator) -> FollowTask:
    """The task for users who have `number` training edges and a held-out one, at most USERS of them."""
    eligible = np.flatnonzero((task.train.degrees() == number) & (task.held_out.degrees() > 0))
    return dataclasses.replace(task, users=np.sort(rng.permutation(eligible)[:USERS]).astype(np.int64))


def rows_of(csr: Csr, rows: npt.NDArray[np.int64]) -> Csr:
    """Some rows of an adjacency, renumbered from 0."""
    sizes = csr.degrees()[rows]
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
    parts = [csr.row(int(row)) for row in rows]
    return Csr(indptr, np.concatenate([np.empty(0, dtype=np.int32), *parts]).astype(np.int32))
