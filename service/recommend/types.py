"""What is asked and what is answered: requests in the client's ids, slates in rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from bundle.manifest import QueryWeights
from bundle.space import Space

AUTO = "auto"
NO_MODE = -1

# How far down the ladder an answer had to go: the deepest rung that was used.
Fallback = Literal["deeper_search", "fold_in", "user_vector", "popular"]
Source = Literal["list", "search", "reciprocal", "popular"]


@dataclass(frozen=True, slots=True)
class LiveEdges:
    """A user's edges that are newer than the bundle, in external ids, so that any version can read them.

    `added` and `removed` map a relation to target ids; `blocked` maps an entity type to ids.
    """

    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blocked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.blocked)

    def merged(self, other: "LiveEdges") -> "LiveEdges":
        """Both sets of edges together."""
        return LiveEdges(
            _joined(self.added, other.added),
            _joined(self.removed, other.removed),
            _joined(self.blocked, other.blocked),
        )


NO_LIVE_EDGES = LiveEdges()


def _joined(one: Mapping[str, tuple[str, ...]], two: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    if not one or not two:
        return one or two
    return {name: one.get(name, ()) + two.get(name, ()) for name in {**one, **two}}


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """One question. `None` takes the bundle's default; `strategy` may be "auto".

    `engagements` are edges of this request alone: they represent a user nobody has seen, or add to one
    who is known. `depth` overrides how far the searcher looks.
    """

    user: str | None = None
    engagements: LiveEdges = NO_LIVE_EDGES
    k: int = 20
    space: str | None = None
    user_type: str | None = None
    candidate_type: str | None = None
    relation: str | None = None
    strategy: str = AUTO
    modes: int | None = None
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = True
    depth: int | None = None


class Pick(NamedTuple):
    """One candidate of a slate: its row, the mode that chose it (position, or `NO_MODE`), its rank and score there."""

    row: int
    mode: int
    rank: int
    score: float
    source: Source


@dataclass(frozen=True, slots=True)
class Modes:
    """The interests a slate was drawn from, heaviest first: clusters, their shares of the slate, their budgets."""

    clusters: Int32[npt.NDArray[np.int32], " modes"]
    shares: Float32[npt.NDArray[np.float32], " modes"]
    budgets: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.clusters)


NO_MODES = Modes(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer, best first. In a mixture the modes alternate so that every prefix keeps their proportions.

    `fallback` says that the strategy alone could not answer, `short` that fewer than k are eligible.
    """

    space: Space
    version: str
    candidate_type: str
    relation: str
    strategy: str
    weights: QueryWeights
    picks: tuple[Pick, ...]
    modes: Modes
    excluded: int
    fallback: Fallback | None = None
    short: bool = False

    @property
    def rows(self) -> Int32[npt.NDArray[np.int32], " n"]:
        """The candidates' rows, best first."""
        return np.array([pick.row for pick in self.picks], dtype=np.int32)

    def ids(self) -> list[str]:
        """The candidates' external ids, best first."""
        return self.space.entities[self.candidate_type].ids.externals(self.rows)
