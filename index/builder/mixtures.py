"""Every user's mixture of interests (eq. 3 of the TwHIN paper), built block by block without a loop over users."""

from collections.abc import Iterator, Sequence
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
Times = Int64[npt.NDArray[np.int64], " _"]


@dataclass(frozen=True, slots=True)
class Engagements:
    """One relation that counts: its edges from users, the cluster of each target row (-1: none), an edge's weight.

    `clock` names the relations whose times are in one unit: an age is a difference of two times of one clock.
    """

    edges: Edges
    cluster_of: Int32[npt.NDArray[np.int32], " targets"]
    weight: float = 1.0
    symmetric: bool = False
    clock: int = 0


@dataclass(frozen=True, slots=True)
class Counting:
    """How edges count: `edge_weights` multiplies by the graph's own weights, `half_life` halves with age.

    An engagement's age is counted back from the same user's newest of the same clock, in the unit of the graph's time
    column; without a time it has none.
    """

    modes: int
    n_clusters: int
    edge_weights: bool = False
    half_life: float | None = None


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


def _counted(block: RowBlock, owners: Sequence[Engagements], counting: Counting) -> tuple[Keys, Counts]:
    """The (user, cluster) keys of a block, ascending and distinct, with their summed weights."""
    keys, weights = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    newest = _newest(block, owners, counting) if counting.half_life is not None else {}
    for owner, part in _parts(block, owners):
        clusters = owner.cluster_of[block.others[part]]
        inside = np.flatnonzero(clusters >= 0)
        users, positions = block.rows[part][inside], block.positions[part][inside]
        counts = _static_weights(owner, positions, counting)
        if counting.half_life is not None and owner.edges.time is not None:
            counts *= _decay(owner.edges.time[positions], newest[owner.clock][users], counting.half_life)
        keys.append(users.astype(np.int64) * counting.n_clusters + clusters[inside])
        weights.append(counts)
    return summed(np.concatenate(keys), np.concatenate(weights))


def _parts(block: RowBlock, owners: Sequence[Engagements]) -> Iterator[tuple[Engagements, slice]]:
    """Where the edges of each relation, or of each direction of a symmetric one, stand in the block."""
    first = 0
    for owner, length in zip(owners, block.lengths, strict=True):
        yield owner, slice(first, first + length)
        first += length


def _newest(block: RowBlock, owners: Sequence[Engagements], counting: Counting) -> dict[int, Times]:
    """By clock, the time of every user's newest engagement that counts at all."""
    newest: dict[int, Times] = {}
    for owner, part in _parts(block, owners):
        if owner.edges.time is None:
            continue
        positions = block.positions[part]
        counts = _static_weights(owner, positions, counting) > 0
        counts &= owner.cluster_of[block.others[part]] >= 0
        latest = newest.setdefault(owner.clock, np.full(block.stop - block.first, np.iinfo(np.int64).min))
        np.maximum.at(latest, block.rows[part][counts], owner.edges.time[positions[counts]])
    return newest


def _static_weights(owner: Engagements, positions: Positions, counting: Counting) -> Counts:
    """What engagements count whatever their age."""
    weights = np.full(len(positions), owner.weight, dtype=np.float64)
    if counting.edge_weights and owner.edges.weight is not None:
        weights *= owner.edges.weight[positions]
    return weights


def _decay(times: Times, newest: Times, half_life: float) -> Counts:
    """2^(-age / half-life), 1 for a user's newest engagement.

    Counted from there and not from the newest of all, every user keeps an engagement that counts in full: eq. 3 divides
    by the sum, so the shares are the same, and no unit of the half-life and no stray time of somebody else can make
    all of a user's weights vanish. The difference of two int64 is taken without a sign, where it cannot overflow.
    """
    age = np.maximum(newest, times).view(np.uint64) - times.view(np.uint64)
    with np.errstate(over="ignore", under="ignore"):
        decay: Counts = np.exp2(-(age / half_life))
    return decay


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
    """The top modes of each user and their shares of the top's sum: eq. 3. A share too small for float32 is none."""
    positive = counts > 0
    users, clusters = np.divmod(keys[positive], counting.n_clusters)
    counts = counts[positive]
    order = np.lexsort((clusters, -counts, users))
    users, clusters, counts = users[order], clusters[order], counts[order]
    starts = np.searchsorted(users, np.arange(n_users))
    top = np.arange(len(users)) - starts[users] < counting.modes
    totals = np.bincount(users[top], weights=counts[top], minlength=n_users)
    with np.errstate(under="ignore"):
        shares = (counts / totals[users]).astype(np.float32)
    kept = top & (shares > 0)
    return csr_from_sorted(users[kept], clusters[kept].astype(np.int32), n_users, shares[kept])
