"""The searches of the service's live mixture by themselves, without a server: what they cost and what they find."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.space import Bundle
from index.search.exact import ExactSearcher
from index.search.open import open_searcher
from index.search.protocol import Searcher
from recommend.recommender import Recommender
from recommend.types import RecommendRequest


class Mixture(NamedTuple):
    """One request: a query a mode, the share of each, and the rows that must not be in the answer."""

    queries: npt.NDArray[np.float32]
    shares: list[float]
    excluded: npt.NDArray[np.int64]


class RawSearch:
    """The queries, exclusions and depth of the live strategy, answered in this process."""

    def __init__(self, bundle: Bundle, users: list[str], k: int, modes: int) -> None:
        space = bundle.space()
        candidate_type = space.entry.default.candidate_type
        self._k = k
        self.searcher = open_searcher(bundle, space.name, candidate_type)
        self.exact = ExactSearcher(space.entities[candidate_type].vectors)
        self.vectors = space.entities[candidate_type].embeddings
        self.dim = self.vectors.shape[1]
        recommender = Recommender(bundle, {(space.name, candidate_type): self.searcher})
        plans = [recommender.plan(RecommendRequest(user=u, k=k, strategy="mixture", modes=modes)) for u in users]
        self.mixtures = [
            Mixture(plan.queries(), plan.modes.shares.tolist(), plan.exclusions.rows().copy()) for plan in plans
        ]

    def cpu_us(self, part: slice) -> float:
        """CPU microseconds of one request's searches, over a part of the users."""
        before = time.process_time()
        for mixture in self.mixtures[part]:
            self.nearest(self.searcher, mixture)
        return 1e6 * (time.process_time() - before) / len(self.mixtures[part])

    def nearest(self, searcher: Searcher, mixture: Mixture) -> list[list[int]]:
        """The best rows of each mode."""
        excluded = [mixture.excluded] * len(mixture.queries)
        return [hits.rows.tolist() for hits in searcher.search(mixture.queries, self._k, exclude=excluded)]


def recall(found: Sequence[list[list[int]]], truth: Sequence[list[list[int]]]) -> float:
    """The mean share of each mode's true best rows that was found."""
    shares = [
        len(set(rows) & set(best)) / len(best)
        for modes, true_modes in zip(found, truth, strict=True)
        for rows, best in zip(modes, true_modes, strict=True)
    ]
    return float(np.mean(shares))
