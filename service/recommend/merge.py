"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share.

A slate has tens of candidates from a handful of modes: plain lists are several times as fast here as arrays.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.mixtures import split
from service.recommend.types import RECIPROCAL, Picks

Order = Callable[[Sequence[Any]], tuple[Any, ...]]


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
    """What was taken from one column: rows and their positions in it, best first, whether it was read to its end."""

    rows: list[int]
    positions: list[int]
    exhausted: bool


def draw(columns: Sequence[Column], shares: list[float], k: int, unwanted: set[int] | None = None) -> list[Drawn]:
    """Take up to `k` candidates that are not `unwanted` from the modes' columns in proportion to `shares`.

    A candidate in several columns goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion. What was taken is added to `unwanted`.
    """
    rows: list[list[int]] = [[] for _ in columns]
    positions: list[list[int]] = [[] for _ in columns]
    cursors = [0] * len(columns)
    gone = set[int]() if unwanted is None else unwanted
    alive, left = list(range(len(columns))), k
    while alive and left:
        for mode, budget in zip(alive, split([shares[mode] for mode in alive], left), strict=True):
            cursors[mode] = _take(columns[mode].rows, cursors[mode], budget, gone, rows[mode], positions[mode])
        left = k - sum(map(len, rows))
        alive = [mode for mode in alive if cursors[mode] < len(columns[mode].rows)]
    return [Drawn(rows[mode], positions[mode], cursors[mode] == len(columns[mode].rows)) for mode in range(len(rows))]


def _take(column: list[int], cursor: int, budget: int, gone: set[int], rows: list[int], positions: list[int]) -> int:
    """Note up to `budget` rows from `cursor` on that are not `gone` yet. Returns the new cursor."""
    while budget and cursor < len(column):
        row = column[cursor]
        if row not in gone:
            gone.add(row)
            rows.append(row)
            positions.append(cursor)
            budget -= 1
        cursor += 1
    return cursor


def picked(columns: Sequence[Column], drawn: Sequence[Drawn], modes: Sequence[int]) -> Picks:
    """One slate in which the modes alternate, so that every prefix keeps their proportions; ties: the heavier first."""
    order = _alternating(tuple([len(one.rows) for one in drawn]))
    rows = order(_joined([one.rows for one in drawn]))
    scores = [column.scores.take(one.positions).tolist() for column, one in zip(columns, drawn, strict=True)]
    owners = [[mode] * len(one.rows) for mode, one in zip(modes, drawn, strict=True)]
    positions = order(_joined([one.positions for one in drawn]))
    return Picks(rows, order(_joined(scores)), order(_joined(owners)), positions, _sources(columns, rows))


def _joined(parts: Sequence[list[Any]]) -> list[Any]:
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def _sources(columns: Sequence[Column], rows: tuple[int, ...]) -> tuple[int, ...]:
    """Where each was found: all columns are of one source, and have the same followers."""
    if not columns:
        return ()
    source, followers = columns[0].source, columns[0].followers
    if followers:
        return tuple([RECIPROCAL if row in followers else source for row in rows])
    return (source,) * len(rows)


@lru_cache(maxsize=4096)
def _alternating(counts: tuple[int, ...]) -> Order:
    """Takes from the concatenation of modes that gave `counts` candidates the order in which they alternate."""
    if len(counts) < 2 or sum(counts) < 2:
        return tuple
    keys = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for count in counts])
    return itemgetter(*keys.argsort(kind="stable").tolist())
