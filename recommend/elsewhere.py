"""What a user has by other relations between the same types, and how much each of it speaks for a candidate.

An edge of another relation counts for the share of that relation's edges that are edges of the one asked for too, less
what chance would make (`RelationEntry.elsewhere`): who viewed it may buy it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.space import Relation, Space
from recommend.types import Rows, in_sorted

# Shares end where a thousandth is little, as damped paths and walks do.
FINEST = np.float32(1000.0)


class Elsewhere(NamedTuple):
    """Candidates that the user has by other relations: rows, ascending, and the sum of the shares for each."""

    rows: Rows
    shares: Float32[npt.NDArray[np.float32], " n"]

    def shares_of(self, rows: Integer[npt.NDArray[np.integer], " m"]) -> Float32[npt.NDArray[np.float32], " m"]:
        """The share of each of `rows`, 0 for what the user does not have."""
        out = np.zeros(len(rows), dtype=np.float32)
        if not len(self.rows):
            return out
        present = in_sorted(rows, self.rows)
        out[present] = self.shares[np.searchsorted(self.rows, rows[present])]
        return out

    def terms_of(self, rows: Integer[npt.NDArray[np.integer], " m"]) -> Float32[npt.NDArray[np.float32], " m"]:
        """`ln(1 + 1000 share)` of each of `rows`: what `QueryWeights.elsewhere` multiplies."""
        terms: npt.NDArray[np.float32] = np.log1p(FINEST * self.shares_of(rows))
        return terms


NOTHING_ELSEWHERE = Elsewhere(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def elsewhere_of(space: Space, relation: Relation, targets_of: Callable[[Relation], Rows]) -> Elsewhere:
    """What a user has by the relations that tell of `relation`; `targets_of` are the user's targets by each of them."""
    found = [(targets_of(space.relations[name]), share) for name, share in relation.entry.elsewhere.items()]
    if not found:
        return NOTHING_ELSEWHERE
    rows, places = np.unique(np.concatenate([targets for targets, _ in found]), return_inverse=True)
    shares = np.zeros(len(rows), dtype=np.float32)
    # In the manifest's order, one after another: the engine adds the same numbers in the same order.
    np.add.at(shares, places, np.concatenate([np.full(len(targets), share, np.float32) for targets, share in found]))
    return Elsewhere(rows.astype(np.int64), shares)
