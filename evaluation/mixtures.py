"""A mixture of interests against one vector (the paper's table 1): over numbers of clusters, modes, and mode vectors.

Clusters are made anew for every number; who answers is handed in, so that the service's own path is measured.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Float64, Int64

from bundle.csr import Csr
from bundle.manifest import QueryWeights, Strategy
from bundle.progress import Progress, SilentProgress
from bundle.records import Record
from evaluation.follow import Row, strategy_row
from evaluation.task import FollowTask, Lists

MODES = (3, 10)
SEVERAL = 2.0  # interests that count, from which a user has several
SILENT = SilentProgress()
Users = Int64[npt.NDArray[np.int64], " users"]


@runtime_checkable
class Clustered(Protocol):
    """A version with one number of clusters: every user's mixture over them, and answers by any strategy."""

    @property
    def mixtures(self) -> Csr: ...

    def __call__(self, users: Users, strategy: Strategy, k: int) -> Lists: ...


@runtime_checkable
class Cluster(Protocol):
    """Makes `count` clusters and the mixtures of `users` over them."""

    def __call__(self, count: int, users: Users) -> Clustered: ...


class MixtureRow(Record):
    """One mixture: its clusters, the modes of a user that are drawn from, and what a mode is searched by."""

    clusters: int
    modes: int
    vector: str
    row: Row

    @property
    def name(self) -> str:
        return f"{self.vector}, {self.clusters} clusters, {self.modes} modes"


class MixtureReport(Record):
    """`singles` are the strategies of one vector. `several` and `one` have the best of both on users by interests."""

    relation: str
    users: int
    singles: tuple[Row, ...]
    mixtures: tuple[MixtureRow, ...]
    several: tuple[Row, ...]
    one: tuple[Row, ...]


def mixture_strategies(modes: int, blended: QueryWeights) -> dict[str, Strategy]:
    """The four mode vectors: the paper's centroid and medoid, the user's own mean there, and that in a blend."""

    def mixture(vector: str, weights: QueryWeights) -> Strategy:
        return Strategy.model_validate(
            {"merge": "proportional", "mode_vector": vector, "modes": modes, "weights": weights}
        )

    return {
        "centroid": mixture("centroid", QueryWeights(mode=1.0)),
        "medoid": mixture("medoid", QueryWeights(mode=1.0)),
        "personal": mixture("personal", QueryWeights(mode=1.0, relation=1.0)),
        "blended": mixture("personal", blended),
    }


def mixture_report(
    task: FollowTask,
    cluster: Cluster,
    counts: Sequence[int],
    singles: Mapping[str, Strategy],
    blended: QueryWeights,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    *,
    modes: Sequence[int] = MODES,
    seed: int = 0,
    progress: Progress = SILENT,
) -> MixtureReport:
    """Measure every mixture and every single vector on the task; then the best of each by interests of the user.

    `singles` must do without rescoring, so that both are what their queries find. `blended` are the weights of the
    blended mode; `vectors` are the targets' embeddings, for diversity alone.
    """
    mixtures: list[MixtureRow] = []
    with progress.stage("Mixtures", len(counts) * len(modes) * 4, "mixtures") as bar:
        for count in counts:
            made = cluster(count, task.users)
            for n_modes in modes:
                for vector, strategy in mixture_strategies(n_modes, blended).items():
                    row = _row(task, made, strategy, vector, vectors, seed)
                    mixtures.append(MixtureRow(clusters=count, modes=n_modes, vector=vector, row=row))
                    bar.advance()
    rows = [_row(task, made, strategy, name, vectors, seed) for name, strategy in singles.items()]
    best, single = max(mixtures, key=lambda one: judged(one.row)), max(rows, key=judged)
    made = cluster(best.clusters, task.users)
    winners = {best.name: mixture_strategies(best.modes, blended)[best.vector], single.name: singles[single.name]}
    many = effective_interests(made.mixtures, task.users) >= SEVERAL
    parts = [_of(task, chosen, made, winners, vectors, seed) for chosen in (many, ~many)]
    return MixtureReport(
        relation=task.relation,
        users=len(task.users),
        singles=tuple(rows),
        mixtures=tuple(mixtures),
        several=parts[0],
        one=parts[1],
    )


def effective_interests(mixtures: Csr, users: Users) -> Float64[npt.NDArray[np.float64], " users"]:
    """How many interests of equal weight a user's mixture is worth: the exponential of its entropy; 0 without any."""
    found = np.zeros(len(users))
    for i, user in enumerate(users.tolist()):
        shares = mixtures.row_weights(user).astype(np.float64)
        if len(shares):
            shares = shares / shares.sum()
            found[i] = np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-12))))
    return found


def judged(row: Row) -> float:
    """What the best mixture is chosen by: one-way recall, which a following back cannot explain, else all recall."""
    prefix = "one_way_" if "one_way_recall@10" in row.metrics else ""
    return (row.mean(f"{prefix}recall@10") + row.mean(f"{prefix}recall@50")) / 2.0


def _of(
    task: FollowTask,
    chosen: Bool[npt.NDArray[np.bool_], " users"],
    made: Clustered,
    strategies: Mapping[str, Strategy],
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    seed: int,
) -> tuple[Row, ...]:
    some = task.of_users(task.users[chosen])
    if not len(some.users):
        return ()
    return tuple(_row(some, made, strategy, name, vectors, seed) for name, strategy in strategies.items())


def _row(
    task: FollowTask,
    made: Clustered,
    asked: Strategy,
    name: str,
    vectors: Float32[npt.NDArray[np.float32], "targets d"],
    seed: int,
) -> Row:
    def answer(users: Users, strategy: str, k: int) -> Lists:
        return made(users, asked, k)

    return strategy_row(task, answer, name, vectors, seed)
