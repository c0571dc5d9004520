"""Where the parts are put together: a version becomes a recommender, a build gets its measurement."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bundle.csr import Csr
    from bundle.manifest import Assessment, Manifest, Strategy
    from bundle.space import Bundle
    from index.build.build import Assess
    from service.recommend.recommender import Recommender


def open_recommender(path: Path) -> "Recommender":
    """The recommender over the version in the directory `path`, as the service would open it."""
    from bundle.reader import open_bundle

    return recommender_of(open_bundle(path))


def recommender_of(bundle: "Bundle") -> "Recommender":
    """The recommender over an opened version, with a searcher for every type that has an index."""
    from index.search.open import open_searcher
    from service.recommend.recommender import Recommender

    searchers = {
        (space, name): open_searcher(bundle, space, name)
        for space, entry in bundle.manifest.spaces.items()
        for name in entry.indexes
    }
    return Recommender(bundle, searchers)


@dataclass(frozen=True, slots=True)
class RecommendByRow:
    """The recommender as the evaluation asks it: rows in, rows out, by any strategy or by the name of one."""

    recommender: "Recommender"
    space: str | None = None
    relation: str | None = None

    def __call__(
        self, users: "npt.NDArray[np.int64]", strategy: "Strategy | str", k: int
    ) -> "list[npt.NDArray[np.int64]]":
        if isinstance(strategy, str):
            strategy = self.recommender.bundle.space(self.space).entry.strategies[strategy]
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
        if isinstance(strategy, str):
            strategy = self.recommender.bundle.space(self.space).entry.strategies[strategy]
        slates = self.recommender.recommend_newcomers(
            engagements, followers, strategy, k, space=self.space, relation=self.relation
        )
        return [slate.rows for slate in slates]


def assessor(run: Path, space: str, seed: int) -> "Assess":
    """What a build calls on its staged version: learn weights and measure strategies on the run's validation edges."""
    from bundle.run import open_graph
    from evaluation.assess import assess

    def on_staged(staged: Path, _: "Manifest") -> "Assessment | None":
        recommender = open_recommender(staged)
        known = RecommendByRow(recommender, space=space)
        new = RecommendNewcomers(recommender, space=space)
        return assess(recommender.bundle.space(space), known, new, open_graph(run), seed)

    return on_staged
