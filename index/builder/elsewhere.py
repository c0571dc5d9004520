"""Which relations between the same types tell of each other: what share of one's edges are edges of the other too.

Of the users of a sample all edges of all relations are compared. Chance is what popularity and activity alone would
make: an edge u→t is one of a relation of E edges too with probability (edges from u) · (edges to t) / E. Only what is
beyond chance is kept, so that relations which have nothing to do with each other cost a request nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.csr import Csr
from bundle.shards import ranges

# Edges that are compared, about, and users of whom they are at most.
SAMPLE = 1 << 20
MOST_USERS = 1 << 15
# Standard deviations that shared edges have to be above chance: every pair of many relations is looked at.
BEYOND_CHANCE = 4.0
# Other relations that are read for a user, those that tell most.
MOST_TELLING = 16
Rows = Int64[npt.NDArray[np.int64], " n"]
Counts = Int64[npt.NDArray[np.int64], "relations relations"]


class Staged(NamedTuple):
    """A relation's training edges by source and by target."""

    targets: Csr
    sources: Csr


class _Sample(NamedTuple):
    """All edges of some users, relation after relation: whose they are, where they lead, and of which relation; those
    of relation i are the ones from `starts[i]` to `starts[i + 1]`."""

    users: Int64[npt.NDArray[np.int64], " n"]
    targets: Int64[npt.NDArray[np.int64], " n"]
    relations: Int64[npt.NDArray[np.int64], " n"]
    starts: Int64[npt.NDArray[np.int64], " relations_plus_1"]

    def of(self, relation: int) -> slice:
        """Where the edges of a relation are: with hundreds of relations nothing may look at all edges for each two."""
        return slice(int(self.starts[relation]), int(self.starts[relation + 1]))


def telling(relations: Mapping[str, Staged], seed: int) -> dict[str, dict[str, float]]:
    """For each of the relations, all between the same two types, those that tell of it, most telling first, and the
    share of their edges that are its too, beyond chance.
    """
    names, staged = list(relations), list(relations.values())
    sample = _sampled(staged, np.random.default_rng(seed))
    shared, sizes = _shared(sample, len(names)), np.diff(sample.starts)
    found = {}
    for position, name in enumerate(names):
        shares = {}
        for other in np.flatnonzero(shared[:, position] > BEYOND_CHANCE).tolist():  # fewer never are beyond it
            if other != position:
                by_chance = _expected(sample, other, staged[position])
                beyond = shared[other, position] - by_chance
                if beyond > BEYOND_CHANCE * np.sqrt(max(by_chance, 1.0)):
                    shares[names[other]] = round(float(beyond / sizes[other]), 6)
        best = sorted(shares, key=lambda other: -shares[other])[:MOST_TELLING]
        found[name] = {other: shares[other] for other in best if shares[other]}
    return found


def _sampled(staged: list[Staged], rng: np.random.Generator) -> _Sample:
    """Users by chance until their edges are SAMPLE, without those who have a good part of as many alone."""
    n = len(staged[0].targets)
    users = rng.permutation(n) if n <= MOST_USERS else rng.permutation(np.unique(rng.integers(0, n, MOST_USERS)))
    degrees = np.sum([_degrees(one.targets, users) for one in staged], axis=0)
    kept = (degrees > 0) & (degrees <= SAMPLE // 16)
    users, degrees = users[kept], degrees[kept]
    users = np.sort(users[: max(1, int(np.searchsorted(np.cumsum(degrees), SAMPLE)))])
    counts = [_degrees(one.targets, users) for one in staged]
    targets = [one.targets.indices[ranges(one.targets.indptr[users], n)] for one, n in zip(staged, counts, strict=True)]
    sizes = [len(some) for some in targets]
    return _Sample(
        np.concatenate([np.repeat(users, n) for n in counts]).astype(np.int64),
        np.concatenate(targets).astype(np.int64),
        np.repeat(np.arange(len(sizes)), sizes),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )


def _degrees(lists: Csr, rows: Rows) -> Rows:
    # Of these rows alone: the whole of a mapped array may have 10⁸ numbers.
    degrees: Rows = lists.indptr[rows + 1] - lists.indptr[rows]
    return degrees


def _shared(sample: _Sample, n: int) -> Counts:
    """How many edges each two of `n` relations share."""
    order = np.lexsort((sample.relations, sample.targets, sample.users))
    keys = sample.users[order] << 32 | sample.targets[order]
    relations = sample.relations[order]
    counts = np.zeros((n, n), dtype=np.int64)
    step, found = 1, np.arange(len(keys))
    # The entries of one pair of ends stand side by side: compared with the next, the next but one, and so on.
    while len(found := found[found + step < len(keys)]) and len(found := found[keys[found] == keys[found + step]]):
        np.add.at(counts, (relations[found], relations[found + step]), 1)
        step += 1
    return counts + counts.T


def _expected(sample: _Sample, other: int, relation: Staged) -> float:
    """How many of the sampled edges of `other` would be edges of `relation` by chance."""
    edges = sample.of(other)
    users, targets = sample.users[edges], sample.targets[edges]
    out, into = _degrees(relation.targets, users), _degrees(relation.sources, targets)
    return float(np.minimum(out.astype(np.float64) * into / max(len(relation.targets.indices), 1), 1.0).sum())
