"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, UInt8

from bundle.mixtures import allocate

Rows = Int64[npt.NDArray[np.int64], " n"]


class Column(NamedTuple):
    """The eligible candidates of one mode, best first: rows, scores, their ranks in the mode's own list, sources.

    `whole` is false when the mode has more than these.
    """

    rows: Rows
    scores: Float32[npt.NDArray[np.float32], " n"]
    ranks: Rows
    sources: UInt8[npt.NDArray[np.uint8], " n"]
    whole: bool = True


class Drawn(NamedTuple):
    """What was taken from one column: positions in it, best first, and whether it was read to its end."""

    positions: list[int]
    exhausted: bool


def draw(columns: Sequence[Column], shares: Float32[npt.NDArray[np.float32], " modes"], k: int) -> list[Drawn]:
    """Take up to `k` candidates from the modes' columns in proportion to `shares`.

    A candidate in several columns goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion.
    """
    rows = [column.rows.tolist() for column in columns]
    taken_from: list[list[int]] = [[] for _ in columns]
    cursors = [0] * len(columns)
    taken: set[int] = set()
    alive = list(range(len(columns)))
    while alive and len(taken) < k:
        budgets = allocate(shares[alive], k - len(taken)).tolist()
        for mode, budget in zip(alive, budgets, strict=True):
            cursors[mode] = _take(rows[mode], cursors[mode], budget, taken, taken_from[mode])
        alive = [mode for mode in alive if cursors[mode] < len(rows[mode])]
    return [Drawn(taken_from[mode], cursors[mode] == len(rows[mode])) for mode in range(len(columns))]


def _take(rows: list[int], cursor: int, budget: int, taken: set[int], positions: list[int]) -> int:
    """Note the positions of up to `budget` new rows from `cursor` on. Returns the new cursor."""
    if not taken:  # the heaviest mode comes first and need not look
        taken.update(rows[:budget])
        positions.extend(range(len(taken)))
        return len(taken)
    for position in range(cursor, len(rows)):
        if budget == 0:
            return position
        if rows[position] not in taken:
            taken.add(rows[position])
            positions.append(position)
            budget -= 1
    return len(rows)


def interleaved(counts: Sequence[int]) -> Rows:
    """The order in which modes that gave `counts` candidates alternate, as positions in their concatenation.

    Every prefix keeps the modes' proportions; ties go to the heavier mode.
    """
    keys = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for count in counts])
    order: npt.NDArray[np.int64] = np.argsort(keys, kind="stable")
    return order
