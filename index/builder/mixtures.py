"""Every user's mixture of interests (eq. 3 of the TwHIN paper), built block by block without a loop over users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int32, Int64

from bundle.csr import Csr, concatenated, csr_from_sorted
from bundle.prepared import Edges
from index.builder.edges import Positions, RowBlock, row_blocks

BLOCK_EDGES = 1 << 22
Keys = Int64[npt.NDArray[np.int64], " _"]
Counts = Float64[npt.NDArray[np.float64], " _"]


@dataclass(frozen=True, slots=True)
class Engagements:
    """One relation that counts: its edges from users, the cluster of each target row (-1: none), an edge's weight."""

    edges: Edges
    cluster_of: Int32[npt.NDArray[np.int32], " targets"]
    weight: float = 1.0
    symmetric: bool = False


@dataclass(frozen=True, slots=True)
class Counting:
    """How edges count: `edge_weights` multiplies by the graph's own weights, `half_life` halves with age.

    `newest` is the time that ages are counted from, in the unit of the graph's time column.
    """

    modes: int
    n_clusters: int
    edge_weights: bool = False
    half_life: float | None = None
    newest: int = 0


def build_mixtures(engagements: Sequence[Engagements], n_users: int, counting: Counting) -> Csr:
    """P(c|u) of every user, heaviest mode first, equal ones by cluster; a user without engagements has none.

    Memory follows the edges of a block and the result, not the graph.
    """
    if not engagements:
        return Csr(np.zeros(n_users + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    streams, owners = [], []
    for item in engagements:
        directions = item.edges.directed(item.symmetric)
        streams.extend(directions)
        owners.extend([item] * len(directions))
    blocks = row_blocks(streams, n_users, BLOCK_EDGES)
    parts = []
    for block in blocks:
        keys, counts = _counted(block, owners, counting)
        parts.append(heaviest(keys, counts, block.stop - block.first, counting))
    return concatenated(parts)


def newest_time(engagements: Sequence[Engagements]) -> int:
    """The latest time of any edge; 0 when no relation has times."""
    times = [int(item.edges.time.max()) for item in engagements if item.edges.time is not None and len(item.edges)]
    return max(times, default=0)


def _counted(block: RowBlock, owners: Sequence[Engagements], counting: Counting) -> tuple[Keys, Counts]:
    """The (user, cluster) keys of a block, ascending and distinct, with their summed weights."""
    keys, weights = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    first = 0
    for owner, length in zip(owners, block.lengths, strict=True):
        part = slice(first, first + length)
        clusters = owner.cluster_of[block.others[part]]
        inside = np.flatnonzero(clusters >= 0)
        keys.append(block.rows[part][inside].astype(np.int64) * counting.n_clusters + clusters[inside])
        weights.append(_weights(owner, block.positions[part][inside], counting))
        first += length
    return summed(np.concatenate(keys), np.concatenate(weights))


def _weights(owner: Engagements, positions: Positions, counting: Counting) -> Counts:
    weights = np.full(len(positions), owner.weight, dtype=np.float64)
    if counting.edge_weights and owner.edges.weight is not None:
        weights *= owner.edges.weight[positions]
    if counting.half_life is not None and owner.edges.time is not None:
        weights *= np.exp2((owner.edges.time[positions] - counting.newest) / counting.half_life)
    return weights


def summed(keys: Keys, weights: Counts) -> tuple[Keys, Counts]:
    """Distinct `keys` in ascending order and the sum of the weights of each."""
    if len(keys) == 0:
        return keys, weights
    if weights.min() == weights.max():  # sorting the keys alone is several times as fast as sorting them by index
        each = weights[0]
        keys = np.sort(keys)
        starts = _run_starts(keys)
        return keys[starts], np.diff(starts, append=len(keys)) * each
    order = np.argsort(keys)
    keys = keys[order]
    starts = _run_starts(keys)
    return keys[starts], np.add.reduceat(weights[order], starts)


def _run_starts(keys: Keys) -> Positions:
    return np.flatnonzero(np.diff(keys, prepend=-1))


def heaviest(keys: Keys, counts: Counts, n_users: int, counting: Counting) -> Csr:
    """The top modes of each user and their shares of the top's sum: eq. 3."""
    positive = counts > 0
    users, clusters = np.divmod(keys[positive], counting.n_clusters)
    counts = counts[positive]
    order = np.lexsort((clusters, -counts, users))
    users, clusters, counts = users[order], clusters[order], counts[order]
    starts = np.searchsorted(users, np.arange(n_users))
    kept = np.arange(len(users)) - starts[users] < counting.modes
    users, clusters, counts = users[kept], clusters[kept], counts[kept]
    totals = np.bincount(users, weights=counts, minlength=n_users)
    shares = (counts / totals[users]).astype(np.float32)
    return csr_from_sorted(users, clusters.astype(np.int32), n_users, shares)
