"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share.

A slate has tens of candidates from a handful of modes: plain lists are several times as fast here as arrays.
"""

from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.mixtures import split
from service.recommend.types import NO_PICKS, RECIPROCAL, Picks


class Column(NamedTuple):
    """The candidates of one mode, best first, and their scores, perhaps more of those. `followers` are the candidates
    that have an edge to the user; `whole` is false when the mode has more than these.
    """

    rows: list[int]
    scores: Float32[npt.NDArray[np.float32], " n"]
    source: int
    followers: frozenset[int] = frozenset()
    whole: bool = True


class Drawn(NamedTuple):
    """What was taken from one column: positions in it, best first, and whether it was read to its end."""

    positions: list[int]
    exhausted: bool


def draw(columns: Sequence[Column], shares: list[float], k: int, unwanted: set[int] | None = None) -> list[Drawn]:
    """Take up to `k` candidates that are not `unwanted` from the modes' columns in proportion to `shares`.

    A candidate in several columns goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion.
    """
    taken: list[list[int]] = [[] for _ in columns]
    cursors = [0] * len(columns)
    gone = unwanted or set()
    alive, left = list(range(len(columns))), k
    while alive and left:
        for mode, budget in zip(alive, split([shares[mode] for mode in alive], left), strict=True):
            cursors[mode] = _take(columns[mode].rows, cursors[mode], budget, gone, taken[mode])
        left = k - sum(map(len, taken))
        alive = [mode for mode in alive if cursors[mode] < len(columns[mode].rows)]
    return [Drawn(taken[mode], cursors[mode] == len(columns[mode].rows)) for mode in range(len(columns))]


def _take(rows: list[int], cursor: int, budget: int, gone: set[int], positions: list[int]) -> int:
    """Note the positions of up to `budget` rows from `cursor` on that are not `gone` yet. Returns the new cursor."""
    wanted = len(positions) + budget
    while len(positions) < wanted and cursor < len(rows):
        chunk = rows[cursor : cursor + wanted - len(positions)]
        positions += [position for position, row in enumerate(chunk, cursor) if row not in gone]
        gone.update(chunk)
        cursor += len(chunk)
    return cursor


def picked(columns: Sequence[Column], drawn: Sequence[Drawn], modes: Sequence[int]) -> Picks:
    """One slate in which the modes alternate, so that every prefix keeps their proportions; ties: the heavier first."""
    parts = [
        _of_one_mode(column, positions, mode)
        for column, (positions, _), mode in zip(columns, drawn, modes, strict=True)
        if positions
    ]
    if len(parts) < 2:
        return parts[0] if parts else NO_PICKS
    picks = reduce(Picks.followed_by, parts)
    return picks.ordered(_alternating(tuple(map(len, parts))))


def _of_one_mode(column: Column, positions: list[int], mode: int) -> Picks:
    rows = [column.rows[position] for position in positions]
    sources = [column.source] * len(rows)
    if column.followers:
        sources = [RECIPROCAL if row in column.followers else column.source for row in rows]
    scores = column.scores[positions].tolist()
    return Picks(tuple(rows), tuple(scores), (mode,) * len(rows), tuple(positions), tuple(sources))


@lru_cache(maxsize=4096)
def _alternating(counts: tuple[int, ...]) -> "itemgetter[tuple[object, ...]]":
    """Takes from the concatenation of modes that gave `counts` candidates the order in which they alternate."""
    keys = [(place + 0.5) / count for count in counts for place in range(count)]
    return itemgetter(*sorted(range(len(keys)), key=keys.__getitem__))
