"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share.

A slate has tens of candidates from a handful of modes: plain lists are several times as fast here as arrays.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, filterfalse, islice
from operator import itemgetter, length_hint
from typing import Any, NamedTuple

from recommend.mixtures import split
from recommend.types import RECIPROCAL, Picks

Order = Callable[[Sequence[Any]], tuple[Any, ...]]


class Column(NamedTuple):
    """The candidates of one mode, best first, and their scores. `followers` are the candidates that have an edge to the
    user; `whole` is false when the mode has more than these; `encoded` is each as an answer shows it, or nothing.
    """

    rows: list[int]
    scores: list[float]
    source: int
    followers: frozenset[int] = frozenset()
    whole: bool = True
    encoded: Sequence[bytes] = ()


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
    gone = set[int]() if unwanted is None else unwanted
    unread = [iter(column.rows) for column in columns]
    fresh = [filterfalse(gone.__contains__, reader) for reader in unread]
    alive, left = list(range(len(columns))), k
    while alive and left:
        for mode, budget in zip(alive, split([shares[mode] for mode in alive], left), strict=True):
            taken = list(islice(fresh[mode], budget))
            gone.update(taken)
            rows[mode] += taken
        left = k - sum(map(len, rows))
        alive = [mode for mode in alive if length_hint(unread[mode])]
    return [
        Drawn(taken, _positions(column.rows, taken), not length_hint(reader))
        for column, taken, reader in zip(columns, rows, unread, strict=True)
    ]


def _positions(column: list[int], taken: list[int]) -> list[int]:
    """Where `taken` stand in `column`, which has them in the same order."""
    positions: list[int] = []
    at = -1
    for row in taken:
        at = column.index(row, at + 1)
        positions.append(at)
    return positions


def picked(columns: Sequence[Column], drawn: Sequence[Drawn], modes: Sequence[int]) -> Picks:
    """One slate in which the modes alternate, so that every prefix keeps their proportions; ties: the heavier first."""
    order = _alternating([len(one.rows) for one in drawn])
    rows = order(_joined([one.rows for one in drawn]))
    return Picks(
        rows,
        order(_at(drawn, [column.scores for column in columns])),
        order(_joined([[mode] * len(one.rows) for mode, one in zip(modes, drawn, strict=True)])),
        order(_joined([one.positions for one in drawn])),
        _sources(columns, rows),
        order(_at(drawn, [column.encoded for column in columns])) if columns and columns[0].encoded else (),
    )


def _at(drawn: Sequence[Drawn], values: Sequence[Sequence[Any]]) -> list[Any]:
    """Of each column's values those of the candidates that were drawn."""
    return [of_column[position] for of_column, one in zip(values, drawn, strict=True) for position in one.positions]


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


def _alternating(counts: Sequence[int]) -> Order:
    """Takes from the concatenation of modes that gave `counts` candidates the order in which they alternate."""
    if len(counts) < 2 or sum(counts) < 2:
        return tuple
    keys = list(chain.from_iterable(map(_steps, counts)))
    return itemgetter(*sorted(range(len(keys)), key=keys.__getitem__))


@lru_cache(maxsize=256)
def _steps(count: int) -> tuple[float, ...]:
    """The places of `count` candidates spread evenly over 0 to 1."""
    return tuple([(number + 0.5) / count for number in range(count)])
