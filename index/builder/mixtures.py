"""Every user's mixture of interests (eq. 3 of the TwHIN paper), built block by block without a loop over users."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int32, Int64

from bundle.arrays import map_array
from bundle.csr import Csr, csr_from_sorted
from bundle.growing import GrowingArray
from bundle.progress import Stage

# Engagements counted at a time, and the bytes that each takes meanwhile.
BLOCK_EDGES = 1 << 19
ENGAGEMENT_BYTES = 128
Positions = Int64[npt.NDArray[np.int64], " _"]
Keys = Int64[npt.NDArray[np.int64], " _"]
Counts = Float64[npt.NDArray[np.float64], " _"]
Times = Int64[npt.NDArray[np.int64], " _"]


@dataclass(frozen=True, slots=True)
class Engagements:
    """One relation that counts: its edges by user, the cluster of each target row (-1: none), an edge's weight.

    `times` are in step with the edges. `clock` names the relations whose times are in one unit: an age is a difference
    of two times of one clock.
    """

    edges: Csr
    cluster_of: Int32[npt.NDArray[np.int32], " targets"]
    weight: float = 1.0
    times: Int64[npt.NDArray[np.int64], " entries"] | None = None
    clock: int = 0

    def part(self, first: int, stop: int) -> tuple[Positions, Positions, Counts, Times | None]:
        """Of the users from `first` to before `stop`, as far as the targets are in clusters: users less `first`,
        clusters, the graph's own weights, times."""
        entries = slice(int(self.edges.indptr[first]), int(self.edges.indptr[stop]))
        clusters = self.cluster_of[self.edges.indices[entries]]
        inside = np.flatnonzero(clusters >= 0)
        users = np.repeat(np.arange(stop - first), np.diff(self.edges.indptr[first : stop + 1]))[inside]
        weights = np.ones(len(inside)) if self.edges.weights is None else self.edges.weights[entries][inside]
        times = None if self.times is None else self.times[entries][inside]
        return users, clusters[inside].astype(np.int64), weights.astype(np.float64), times


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


def build_mixtures(engagements: Sequence[Engagements], n_users: int, counting: Counting) -> Iterator[Csr]:
    """P(c|u) of every user, heaviest mode first, equal ones by cluster, a block of users at a time; a user without
    engagements has none.

    Memory follows the edges of a block. A user's engagements are summed in the order of relations and targets.
    """
    first = 0
    while first < n_users:
        stop = _block_end(engagements, first, n_users)
        keys, counts = _counted([(item, *item.part(first, stop)) for item in engagements], stop - first, counting)
        yield heaviest(keys, counts, stop - first, counting)
        first = stop


def _block_end(engagements: Sequence[Engagements], first: int, n_users: int) -> int:
    """The users from `first` on that have BLOCK_EDGES engagements together, or one that has more."""

    def entries(user: int) -> int:
        return sum(int(item.edges.indptr[user]) for item in engagements)

    most = min(n_users, first + BLOCK_EDGES)
    return first + max(1, bisect_right(range(first + 1, most + 1), entries(first) + BLOCK_EDGES, key=entries))


def write_mixtures(blocks: Iterable[Csr], files: Sequence[Path], bar: Stage) -> Csr:
    """Write the mixtures of all users, block by block, to the `files` for offsets, clusters and weights; map them."""
    ends, modes, shares = map(GrowingArray, files, (np.int64, np.int32, np.float32))
    ends.append(np.zeros(1, np.int64))
    for block in blocks:
        ends.append(modes.count + block.indptr[1:])
        bar.advance(len(block))
        modes.append(block.indices)
        shares.append(np.ones(len(block.indices), np.float32) if block.weights is None else block.weights)
    for file in (ends, modes, shares):
        file.finish()
    return Csr(*map(map_array, files))


_Part = tuple[Engagements, Positions, Positions, Counts, Times | None]


def _counted(parts: Sequence[_Part], n_users: int, counting: Counting) -> tuple[Keys, Counts]:
    """The (user, cluster) keys of a block, ascending and distinct, with their summed weights."""
    keys, weights = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    newest = {} if counting.half_life is None else _newest(parts, n_users, counting)
    for item, users, clusters, own, times in parts:
        counts = _static_weights(item, own, counting)
        if counting.half_life is not None and times is not None:
            counts *= _decay(times, newest[item.clock][users], counting.half_life)
        keys.append(users * counting.n_clusters + clusters)
        weights.append(counts)
    return summed(np.concatenate(keys), np.concatenate(weights))


def _newest(parts: Sequence[_Part], n_users: int, counting: Counting) -> dict[int, Times]:
    """By clock, the time of every user's newest engagement that counts at all."""
    newest: dict[int, Times] = {}
    for item, users, _, own, times in parts:
        if times is not None:
            counts = _static_weights(item, own, counting) > 0
            latest = newest.setdefault(item.clock, np.full(n_users, np.iinfo(np.int64).min))
            np.maximum.at(latest, users[counts], times[counts])
    return newest


def _static_weights(item: Engagements, own: Counts, counting: Counting) -> Counts:
    """What engagements count whatever their age."""
    return own * item.weight if counting.edge_weights else np.full(len(own), item.weight, dtype=np.float64)


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
    order = np.argsort(keys, kind="stable")  # or a sum would depend on who else is in the block, and on the processor
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
