"""How interests share a slate: budgets by largest remainder, no candidate twice, dry interests hand on their share.

A slate has tens of candidates from a handful of modes: plain lists are several times as fast here as arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, filterfalse, islice
from operator import itemgetter, length_hint
from typing import Any, NamedTuple

from recommend.mixtures import split
from recommend.types import Picks

Order = Callable[[Sequence[Any]], tuple[Any, ...]]
NO_SOURCES: Mapping[int, int] = {}


class RankedList(NamedTuple):
    """The candidates of one mode, best first, and their scores. `sources` says of some where they come from, the others
    are of `source`; `whole` is false when the mode has more than these; `encoded` is each as an answer shows it, or
    nothing.
    """

    rows: list[int]
    scores: list[float]
    source: int
    sources: Mapping[int, int] = NO_SOURCES
    whole: bool = True
    encoded: Sequence[bytes] = ()


class Draw(NamedTuple):
    """What was taken from one list: rows and their positions in it, best first, whether it was read to its end."""

    rows: list[int]
    positions: list[int]
    exhausted: bool


def draw(lists: Sequence[RankedList], shares: list[float], k: int, unwanted: set[int] | None = None) -> list[Draw]:
    """Take up to `k` candidates that are not `unwanted` from the modes' lists in proportion to `shares`.

    A candidate in several lists goes to the heaviest mode that reaches it. A mode that runs dry gives
    what is left of its share to the others, again in proportion. What was taken is added to `unwanted`.
    """
    rows: list[list[int]] = [[] for _ in lists]
    taken = set[int]() if unwanted is None else unwanted
    # Two iterators over each list. `fresh` passes over what any mode has taken by the time it gets there: it looks
    # `taken` up anew for each candidate, so that no list is ever filtered again. `unread` is what `fresh` reads from;
    # its length hint is the number of candidates left, known without reading one.
    unread = [iter(ranked.rows) for ranked in lists]
    fresh = [filterfalse(taken.__contains__, reader) for reader in unread]
    # Each round splits the places that are left among the modes that are not dry. A round ends with every place taken
    # or with at least one more mode dry, so there are no more rounds than modes.
    alive, left = list(range(len(lists))), k
    while alive and left:
        for mode, budget in zip(alive, split([shares[mode] for mode in alive], left), strict=True):
            more = list(islice(fresh[mode], budget))
            taken.update(more)
            rows[mode] += more
        left = k - sum(map(len, rows))
        alive = [mode for mode in alive if length_hint(unread[mode])]
    return [
        Draw(drawn, _positions(ranked.rows, drawn), not length_hint(reader))
        for ranked, drawn, reader in zip(lists, rows, unread, strict=True)
    ]


def _positions(ranked: list[int], drawn: list[int]) -> list[int]:
    """Where `drawn` stand in `ranked`, which has them in the same order."""
    positions: list[int] = []
    at = -1
    for row in drawn:
        at = ranked.index(row, at + 1)
        positions.append(at)
    return positions


def interleaved(lists: Sequence[RankedList], draws: Sequence[Draw], modes: Sequence[int]) -> Picks:
    """One slate in which the modes alternate, so that every prefix keeps their proportions; ties: the heavier first."""
    order = _alternating([len(one.rows) for one in draws])
    rows = order(_joined([one.rows for one in draws]))
    return Picks(
        rows,
        order(_at(draws, [ranked.scores for ranked in lists])),
        order(_joined([[mode] * len(one.rows) for mode, one in zip(modes, draws, strict=True)])),
        order(_joined([one.positions for one in draws])),
        _sources(lists, rows),
        order(_at(draws, [ranked.encoded for ranked in lists])) if lists and lists[0].encoded else (),
    )


def _at(draws: Sequence[Draw], values: Sequence[Sequence[Any]]) -> list[Any]:
    """Of each list's values those of the candidates that were drawn."""
    return [of_list[position] for of_list, one in zip(values, draws, strict=True) for position in one.positions]


def _joined(parts: Sequence[list[Any]]) -> list[Any]:
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def _sources(lists: Sequence[RankedList], rows: tuple[int, ...]) -> tuple[int, ...]:
    """Where each candidate comes from: all lists are of one source, and name the same others."""
    if not lists:
        return ()
    source, others = lists[0].source, lists[0].sources
    if others:
        return tuple([others.get(row, source) for row in rows])
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
