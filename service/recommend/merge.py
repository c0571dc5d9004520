"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.mixtures import allocate
from service.recommend.types import Pick, Source


class Column(NamedTuple):
    """The eligible candidates of one mode, best first, and the rank of each in the mode's own list.

    `followers` are the candidates among them that have an edge to the user.
    """

    rows: list[int]
    scores: list[float]
    ranks: Sequence[int]
    source: Source
    followers: frozenset[int] = frozenset()


def draw(columns: Sequence[Column], shares: Float32[npt.NDArray[np.float32], " modes"], k: int) -> list[list[Pick]]:
    """Take up to `k` candidates from the modes' columns in proportion to `shares`; one list a mode, best first.

    A candidate in several columns goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion.
    """
    drawn: list[list[Pick]] = [[] for _ in columns]
    cursors = [0] * len(columns)
    taken: set[int] = set()
    alive = [mode for mode, column in enumerate(columns) if column.rows]
    left = k
    while left and alive:
        budgets = allocate(shares[alive], left).tolist()
        for mode, budget in zip(alive, budgets, strict=True):
            cursors[mode] = _take(columns[mode], mode, cursors[mode], budget, taken, drawn[mode])
        left = k - len(taken)
        alive = [mode for mode in alive if cursors[mode] < len(columns[mode].rows)]
    return drawn


def _take(column: Column, mode: int, cursor: int, budget: int, taken: set[int], picks: list[Pick]) -> int:
    """Move up to `budget` new candidates of `column` from `cursor` on into `picks`. Returns the new cursor."""
    rows = column.rows
    wanted = len(picks) + budget
    while len(picks) < wanted and cursor < len(rows):
        row = rows[cursor]
        if row not in taken:
            taken.add(row)
            source: Source = "reciprocal" if row in column.followers else column.source
            picks.append(Pick(row, mode, column.ranks[cursor], column.scores[cursor], source))
        cursor += 1
    return cursor


def interleave(drawn: Sequence[Sequence[Pick]]) -> list[Pick]:
    """One slate in which every prefix keeps the modes' proportions; ties go to the heavier mode."""
    filled = [picks for picks in drawn if picks]
    if len(filled) == 1:
        return list(filled[0])
    keyed = [((place + 0.5) / len(picks), pick.mode, pick) for picks in filled for place, pick in enumerate(picks)]
    keyed.sort(key=lambda item: item[:2])
    return [pick for _, _, pick in keyed]
