"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share.

A slate has tens of candidates from a handful of modes: plain lists are several times as fast here as arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.mixtures import allocate
from service.recommend.types import RECIPROCAL, Picks


class Column(NamedTuple):
    """The candidates of one mode, best first. `followers` are those among them that have an edge to the user;
    `whole` is false when the mode has more than these.
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


def draw(
    columns: Sequence[Column],
    shares: Float32[npt.NDArray[np.float32], " modes"],
    k: int,
    unwanted: set[int] | None = None,
) -> list[Drawn]:
    """Take up to `k` candidates that are not `unwanted` from the modes' columns in proportion to `shares`.

    A candidate in several columns goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion.
    """
    taken: list[list[int]] = [[] for _ in columns]
    cursors = [0] * len(columns)
    gone = unwanted or set()
    alive, left = list(range(len(columns))), k
    while alive and left:
        budgets = allocate(shares if len(alive) == len(columns) else shares[alive], left).tolist()
        for mode, budget in zip(alive, budgets, strict=True):
            before = len(taken[mode])
            cursors[mode] = _take(columns[mode].rows, cursors[mode], budget, gone, taken[mode])
            left -= len(taken[mode]) - before
        alive = [mode for mode in alive if cursors[mode] < len(columns[mode].rows)]
    return [Drawn(taken[mode], cursors[mode] == len(columns[mode].rows)) for mode in range(len(columns))]


def _take(rows: list[int], cursor: int, budget: int, gone: set[int], positions: list[int]) -> int:
    """Note the positions of up to `budget` rows from `cursor` on that are not `gone` yet. Returns the new cursor."""
    for position in range(cursor, len(rows)):
        if budget == 0:
            return position
        row = rows[position]
        if row not in gone:
            gone.add(row)
            positions.append(position)
            budget -= 1
    return len(rows)


def picked(columns: Sequence[Column], drawn: Sequence[Drawn], modes: Sequence[int]) -> Picks:
    """One slate in which the modes alternate, so that every prefix keeps their proportions; ties: the heavier first."""
    keys: list[float] = []
    picks = Picks([], [], [], [], [])
    for column, (positions, _), mode in zip(columns, drawn, modes, strict=True):
        count = len(positions)
        keys += [(place + 0.5) / count for place in range(count)]
        picks.extend(
            [column.rows[position] for position in positions],
            column.scores[positions].tolist(),
            [mode] * count,
            positions,
            [RECIPROCAL if column.rows[position] in column.followers else column.source for position in positions]
            if column.followers
            else [column.source] * count,
        )
    return picks if len(drawn) == 1 else picks.ordered(sorted(range(len(keys)), key=keys.__getitem__))
