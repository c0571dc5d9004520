"""What the users who are likest to one have: candidates that join a search's before these are rescored (user kNN).

How like another user v is to u are the first two steps of the walk, u→i←v, over the edges that v has:
`Σ_i 1 / (sources of i · targets of v)` over the targets i that both have. A candidate's mass is the sum over those of
the likest who have it. A search knows how near vectors are; this knows who has the same, for a few hundred entries of
lists beside the walk that is counted anyway. Lists are cut as there (`recommend/paths.py`).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Integer

from bundle.csr import Csr
from bundle.manifest import Neighbours
from bundle.shards import ranges
from bundle.space import Relation, Space
from recommend.paths import places_among, shortest
from recommend.profile import Profile
from recommend.tables import tables_of

Rows = Integer[npt.NDArray[np.integer], " _"]
Masses = Float32[npt.NDArray[np.float32], " _"]
Keeps = Callable[[Rows], Bool[npt.NDArray[np.bool_], " _"]]


def of_neighbours(space: Space, relation: Relation, profile: Profile, wanted: Neighbours, keeps: Keeps) -> Rows:
    """What the `wanted.users` likest users have that `keeps` lets through, the likeliest first, at most
    `wanted.candidates`; of equal masses the lower row."""
    entries, lengths, _ = _read(relation.sources, profile.targets)
    steps: Masses = np.repeat(np.float32(1.0) / np.maximum(lengths, 1, dtype=np.float32), lengths)
    users, masses = _summed(entries, steps, len(relation.targets))
    masses *= tables_of(space, relation).shares[users]
    if profile.row is not None:
        masses[users == profile.row] = -1.0
    likest = _largest(users, masses, wanted.users)
    likest = likest[masses[likest] > 0]
    entries, lengths, read = _read(relation.targets, users[likest])
    rows, sums = _summed(entries, np.repeat(masses[likest[read]], lengths), len(relation.sources))
    kept = keeps(rows)
    rows, sums = rows[kept], sums[kept]
    return rows[_largest(rows, sums, wanted.candidates)]


def _read(lists: Csr, rows: Rows) -> tuple[Rows, Rows, Rows]:
    """The lists of the rows, or of those with the shortest ones, MOST_READ entries together: end to end; how long each
    is, and which of the rows they are of."""
    lengths = lists.indptr[rows + 1] - lists.indptr[rows]
    read = shortest(lengths)
    lengths = lengths[read]
    return lists.indices[ranges(lists.indptr[rows[read]], lengths)], lengths, read


def _summed(rows: Rows, masses: Masses, n: int) -> tuple[Rows, Masses]:
    """Each of the rows, of `n` that there are, once, and the sum of its masses: one after another, as the engine adds
    them."""
    with places_among(rows, n) as among:
        places = among.take(rows)
    sums = np.zeros(len(rows) + 1, dtype=np.float32)
    np.add.at(sums, places, masses)
    last = np.flatnonzero(places == np.arange(1, len(rows) + 1))
    return rows[last].astype(np.int64), sums[places[last]]


def _largest(rows: Rows, masses: Masses, n: int) -> Rows:
    """Where the `n` largest masses are, the largest first; of equal ones the lower row."""
    places = np.arange(len(rows))
    if len(rows) > n:
        places = np.flatnonzero(masses >= np.partition(masses, len(rows) - n)[len(rows) - n])
    found: Rows = places[np.lexsort((rows[places], -masses[places]))[:n]]
    return found
