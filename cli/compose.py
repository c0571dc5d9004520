"""Where the parts are put together: a version becomes a recommender, a build gets its measurement."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from bundle.csr import Csr
    from bundle.manifest import Assessment, Manifest, Strategy
    from bundle.progress import Progress
    from bundle.space import Bundle, Space
    from index.builder.version import Assess
    from recommend.recommender import Recommender


def open_recommender(path: Path) -> "Recommender":
    """The recommender over the version in the directory `path`, as the service would open it."""
    from bundle.reader import open_bundle

    return recommender_of(open_bundle(path))


def recommender_of(bundle: "Bundle") -> "Recommender":
    """The recommender over an opened version, with a searcher for every type that has an index."""
    from index.search.open import open_searcher
    from recommend.recommender import Recommender

    searchers = {
        (space, name): open_searcher(bundle, space, name)
        for space, entry in bundle.manifest.spaces.items()
        for name in entry.indexes
    }
    return Recommender(bundle, searchers)


def _strategy(recommender: "Recommender", space: str | None, asked: "Strategy | str") -> "Strategy":
    """The strategy itself, or the version's of that name."""
    return recommender.bundle.space(space).entry.strategies[asked] if isinstance(asked, str) else asked


@dataclass(frozen=True, slots=True)
class RecommendByRow:
    """The recommender as the evaluation asks it: rows in, rows out, by any strategy or by the name of one."""

    recommender: "Recommender"
    space: str | None = None
    relation: str | None = None

    def __call__(
        self, users: "npt.NDArray[np.int64]", strategy: "Strategy | str", k: int
    ) -> "list[npt.NDArray[np.int64]]":
        strategy = _strategy(self.recommender, self.space, strategy)
        slates = self.recommender.recommend_rows(users, strategy, k, space=self.space, relation=self.relation)
        return [slate.rows for slate in slates]


@dataclass(frozen=True, slots=True)
class RecommendNewcomers:
    """The recommender as the evaluation asks it for people unknown to it: a few engagements, perhaps followers."""

    recommender: "Recommender"
    space: str | None = None
    relation: str | None = None

    def __call__(
        self, engagements: "Csr", followers: "Csr", strategy: "Strategy | str", k: int
    ) -> "list[npt.NDArray[np.int64]]":
        strategy = _strategy(self.recommender, self.space, strategy)
        slates = self.recommender.recommend_newcomers(
            engagements, followers, strategy, k, space=self.space, relation=self.relation
        )
        return [slate.rows for slate in slates]


@dataclass(frozen=True, slots=True)
class Reclustered:
    """A recommender over other clusters than the version's, as the sweep over mixtures asks it."""

    recommender: "Recommender"
    relation: str
    mixtures: "Csr"

    def __call__(self, users: "npt.NDArray[np.int64]", strategy: "Strategy", k: int) -> "list[npt.NDArray[np.int64]]":
        return RecommendByRow(self.recommender, relation=self.relation)(users, strategy, k)


def reclustered(
    bundle: "Bundle", relation: str, count: int, users: "npt.NDArray[np.int64]", seed: int, *, modes: int = 10
) -> Reclustered:
    """The version's first space with `count` clusters made anew; of its users only `users` have mixtures (eq. 3)."""
    from dataclasses import replace

    from bundle.space import Clusters
    from index.builder.clusters import cluster
    from index.builder.config import ClusterConfig
    from index.builder.devices import find_device

    space = bundle.space()
    types = space.entry.clusters.types
    vectors = {name: space.table(name).embeddings for name in types}
    found = cluster(vectors, types, ClusterConfig(count=count, iterations=10), seed, find_device())
    mixtures = _mixtures(space, found.assignment, users, modes)
    parts = (found.centroids, found.medoid_types, found.medoid_rows, found.sizes, types, found.assignment, mixtures)
    entry = space.entry.clusters.model_copy(update={"count": count, "modes": modes})
    changed = replace(
        space,
        clusters=Clusters(*parts, space.entry.clusters.mixture_type, {}),
        entry=space.entry.model_copy(update={"clusters": entry}),
    )
    return Reclustered(recommender_of(replace(bundle, spaces={space.name: changed})), relation, mixtures)


def _mixtures(
    space: "Space", assignment: "Mapping[str, npt.NDArray[np.int32]]", users: "npt.NDArray[np.int64]", modes: int
) -> "Csr":
    import numpy as np

    from bundle.csr import Csr
    from recommend.mixtures import mixture_of

    user_type = space.entry.clusters.mixture_type
    relations = [
        one for one in space.relations.values() if one.entry.source == user_type and one.entry.target in assignment
    ]
    sizes = np.zeros(len(space.table(user_type)) + 1, dtype=np.int64)
    clusters, weights = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.float32)]
    for user in np.sort(users).tolist():
        engaged = np.concatenate([assignment[one.entry.target][one.targets.row(user)] for one in relations])
        found, shares = mixture_of(engaged, np.ones(len(engaged), dtype=np.float32), modes)
        sizes[user + 1] = len(found)
        clusters.append(found)
        weights.append(shares)
    return Csr(np.cumsum(sizes), np.concatenate(clusters), np.concatenate(weights))


def assessor(run: Path, space: str, seed: int, progress: "Progress") -> "Assess":
    """What a build calls on its staged version: learn weights and measure strategies on the run's validation edges."""
    from bundle.run import open_graph
    from evaluation.learning.assess import assess

    def on_staged(staged: Path, _: "Manifest") -> "Assessment | None":
        recommender = open_recommender(staged)
        known = RecommendByRow(recommender, space=space)
        new = RecommendNewcomers(recommender, space=space)
        return assess(recommender.bundle.space(space), known, new, open_graph(run), seed, progress=progress)

    return on_staged
