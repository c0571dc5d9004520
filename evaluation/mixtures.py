"""A mixture of interests against one vector (the paper's table 1): over numbers of clusters, modes, and mode vectors.

Clusters are made anew for every number by a function that is handed in; the recommender is the service's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64

from bundle.csr import Csr
from bundle.manifest import QueryWeights, Strategy
from bundle.progress import SILENT, Progress
from bundle.records import Record
from bundle.space import Space
from bundle.strategies import BLEND, default_strategies, mixture_blend
from evaluation.rows import Row, strategy_row, vectors_under
from evaluation.task import FollowTask
from recommend.protocol import Users
from recommend.recommender import Recommender

MODES = (3, 10)
# Interests that count, from which a user has several.
SEVERAL = 2.0
SINGLES = ("unimodal", "fold_in", "blend")

Recluster = Callable[[int], Space]


class MixtureRow(Record):
    """One mixture: its clusters, the modes of a user that are drawn from, and what a mode is searched by."""

    clusters: int
    modes: int
    vector: str
    row: Row

    @property
    def name(self) -> str:
        return f"{self.vector}, {self.clusters} clusters, {self.modes} mode{'' if self.modes == 1 else 's'}"


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
    standard = default_strategies()
    by_vector = {
        "centroid": standard["mixture_centroid"],
        "medoid": standard["mixture_medoid"],
        "personal": standard["mixture"],
        "blended": standard["mixture"].model_copy(update={"weights": blended}),
    }
    return {vector: strategy.model_copy(update={"modes": modes}) for vector, strategy in by_vector.items()}


def mixture_report(
    task: FollowTask,
    recommender: Recommender,
    recluster: Recluster,
    counts: Sequence[int],
    *,
    modes: Sequence[int] = MODES,
    seed: int = 0,
    progress: Progress = SILENT,
) -> MixtureReport:
    """Measure every mixture and every single vector on the task; then the best of each by interests of the user.

    `recluster` makes the version's space with another number of clusters. The single vectors are the version's, or
    the standard ones; they do without rescoring, so that both are what their queries find.
    """
    strategies = default_strategies() | recommender.bundle.space().entry.strategies
    singles = {name: strategies[name] for name in SINGLES}
    learnt = strategies.get("mixture_blend")
    blended = mixture_blend(BLEND) if learnt is None else learnt.weights
    sweep = _Sweep(task, recommender, recluster, seed)
    mixtures: list[MixtureRow] = []
    with progress.stage("Mixtures", len(counts) * len(modes) * 4, "mixtures") as bar:
        for count in counts:
            clustered = sweep.clustered(count)
            for n_modes in modes:
                for vector, strategy in mixture_strategies(n_modes, blended).items():
                    row = sweep.row(task, clustered, strategy, vector)
                    mixtures.append(MixtureRow(clusters=count, modes=n_modes, vector=vector, row=row))
                    bar.advance()
    rows = [sweep.row(task, recommender, strategy, name) for name, strategy in singles.items()]
    best, single = max(mixtures, key=lambda one: judged(one.row)), max(rows, key=judged)
    clustered = sweep.clustered(best.clusters)
    winners = {best.name: mixture_strategies(best.modes, blended)[best.vector], single.name: singles[single.name]}
    made = clustered.bundle.space()
    interests = made.clusters.interests_in(made.relation(task.relation).entry.target)
    many = effective_interests(interests.mixtures, task.users) >= SEVERAL
    return MixtureReport(
        relation=task.relation,
        users=len(task.users),
        singles=tuple(rows),
        mixtures=tuple(mixtures),
        several=sweep.rows_of(many, clustered, winners),
        one=sweep.rows_of(~many, clustered, winners),
    )


def effective_interests(mixtures: Csr, users: Users) -> Float64[npt.NDArray[np.float64], " users"]:
    """How many interests of equal weight a user's mixture is worth: the exponential of its entropy; 0 without any."""
    effective = np.zeros(len(users))
    for i, user in enumerate(users.tolist()):
        shares = mixtures.row_weights(user).astype(np.float64)
        if len(shares):
            shares = shares / shares.sum()
            effective[i] = np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-12))))
    return effective


def judged(row: Row) -> float:
    """What the best mixture is chosen by: one-way recall, which a following back cannot explain, else all recall."""
    prefix = "one_way_" if "one_way_recall@10" in row.metrics else ""
    return (row.mean(f"{prefix}recall@10") + row.mean(f"{prefix}recall@50")) / 2.0


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Whom to ask about whom, over any number of clusters."""

    task: FollowTask
    recommender: Recommender
    recluster: Recluster
    seed: int

    def clustered(self, count: int) -> Recommender:
        """The recommender over `count` clusters."""
        return self.recommender.with_space(self.recluster(count))

    def row(self, task: FollowTask, recommender: Recommender, strategy: Strategy, name: str) -> Row:
        """One strategy on the users of `task`."""
        vectors = vectors_under(recommender.bundle.space(), task.relation)
        return strategy_row(task, recommender, name, vectors, self.seed, strategy=strategy)

    def rows_of(
        self,
        chosen: Bool[npt.NDArray[np.bool_], " users"],
        recommender: Recommender,
        strategies: Mapping[str, Strategy],
    ) -> tuple[Row, ...]:
        """Every strategy on the chosen users of the task; none when there are no such users."""
        some = self.task.of_users(self.task.users[chosen])
        if not len(some.users):
            return ()
        return tuple(self.row(some, recommender, strategy, name) for name, strategy in strategies.items())
