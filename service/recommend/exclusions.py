"""Who must not be in the answer: the user, whom they already follow or blocked, whom the request names."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64, Integer

from bundle.space import Relation, Space
from service.recommend.profile import Profile, Rows, known_rows
from service.recommend.types import LiveEdges


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Rows of the candidate type: `seen` ascending (often a long mapped row), `others` a few more."""

    seen: Rows
    others: frozenset[int]

    def keeps(self, rows: Integer[npt.NDArray[np.integer], " n"]) -> Bool[npt.NDArray[np.bool_], " n"]:
        """True for each of `rows` that may be in the answer."""
        kept = ~in_sorted(rows, self.seen)
        if self.others:
            kept &= ~np.isin(rows, np.fromiter(self.others, dtype=np.int64, count=len(self.others)))
        return kept

    def rows(self) -> Int64[npt.NDArray[np.int64], " n"]:
        """All of them, each once, in no order."""
        outside = [row for row in self.others if not in_sorted(np.array([row]), self.seen)[0]]
        return np.concatenate([self.seen, np.array(outside, dtype=np.int64)])


def in_sorted(
    rows: Integer[npt.NDArray[np.integer], " n"], ascending: Integer[npt.NDArray[np.integer], " m"]
) -> Bool[npt.NDArray[np.bool_], " n"]:
    """Whether each of `rows` is in `ascending`, by binary search."""
    if not len(ascending):
        return np.zeros(len(rows), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ascending, rows), len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[positions] == rows
    return found


def build_exclusions(
    space: Space, relation: Relation, profile: Profile, live: LiveEdges, exclude: tuple[str, ...], exclude_seen: bool
) -> Exclusions:
    """Self and blocked always; the profile's targets unless `exclude_seen` is false; the ids that the request names."""
    entry = relation.entry
    named = (*exclude, *live.blocked.get(entry.target, ()))
    others = set(known_rows(space.entities[entry.target].ids.rows(named)).tolist()) if named else set()
    if entry.source == entry.target and profile.row is not None:
        others.add(int(profile.row))
    seen = profile.targets if exclude_seen else profile.targets[:0]
    return Exclusions(seen, frozenset(others))
