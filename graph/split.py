"""Which edges are held out: by a draw, or the last by time; a small slice to learn from where no split is asked for.

A draw is a hash of the edge itself, so an edge that is held out stays so while a graph grows around it: what a version
is measured on, the version that it was warm started from has not seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, Integer, UInt8, UInt64

from bundle.hashing import xxh64_of_numbers, xxh64_of_text
from graph.schema import RandomSplit, ValidationSpec

# The part of an edge, as `Parts` holds it.
TRAIN, VALID, TEST = 0, 1, 2
# Of the slice that is held out to learn from; what a build learns asks some thousand users.
SLICE_LEAST, SLICE_MOST = 500, 50_000
SMALL = 1000
# A draw has so many bits of its hash: a share of them is exact as a float, and Spark's whole numbers have a sign.
DRAW_BITS = 53
# A pass over the times narrows the range that holds a rank by this factor: four passes for 64 bits.
BINS = 1 << 16
Parts = UInt8[npt.NDArray[np.uint8], " e"]
Draws = Int64[npt.NDArray[np.int64], " n"]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Draw:
    """The draw of an edge, 0 … 2^53 - 1: the upper bits of Spark's `xxhash64(seed, relation, a, b)`, the seed as text.

    `a` and `b` are the XXH64 (seed 42) of source and target; where the relation is symmetric, the smaller and the
    larger of the two as numbers with a sign. `keys` are what seed and relation make of it, by the relation's number.
    """

    keys: UInt64[U64, " r"]
    symmetric: bool

    @classmethod
    def of(cls, names: Sequence[str], symmetric: bool, seed: int) -> "Draw":
        """The draw for the relations of these names."""
        start = xxh64_of_text(str(seed))
        return cls(np.array([xxh64_of_text(name, start) for name in names], dtype=np.uint64), symmetric)

    def __call__(
        self,
        source: UInt64[U64, " n"],
        target: UInt64[U64, " n"],
        relation: Integer[npt.NDArray[np.integer], " n"],
    ) -> Draws:
        """The draws of edges whose ends have these hashes."""
        first, second = source.view(np.int64), target.view(np.int64)
        if self.symmetric:
            first, second = np.minimum(first, second), np.maximum(first, second)
        hashed = xxh64_of_numbers(second, xxh64_of_numbers(first, self.keys[relation]))
        return (hashed >> np.uint64(64 - DRAW_BITS)).view(np.int64)


class DrawBounds(NamedTuple):
    """Draws below `test_below` are test edges, those from `valid_from` on validation edges.

    From both ends: whatever the shares are, none turns a test edge into a validation edge or back.
    """

    test_below: int
    valid_from: int

    def parts(self, draws: Draws) -> Parts:
        """The part of each edge."""
        return np.where(draws < self.test_below, TEST, np.where(draws >= self.valid_from, VALID, TRAIN)).astype(
            np.uint8
        )


def draw_bounds(split: RandomSplit | ValidationSpec, count: int) -> DrawBounds | None:
    """Of `count` edges each is a test edge with probability `split.fraction` and a validation edge with half of it; of
    a slice to learn from a validation edge with `slice_share`. None where none is held out.
    """
    if isinstance(split, RandomSplit):
        return DrawBounds(_drawn(split.fraction), _drawn(1.0 - split.fraction / 2))
    share = slice_share(count, split.fraction)
    return DrawBounds(0, _drawn(1.0 - share)) if share else None


def slice_share(count: int, fraction: float) -> float:
    """The share of `count` edges that is held out to learn from: `fraction`, but at least SLICE_LEAST edges as far as
    that is no more than a tenth, and at most SLICE_MOST; of fewer than SMALL none.

    From SMALL edges on it never grows with their number: what is held out of a larger graph was held out before, if it
    was there.
    """
    if count < SMALL or fraction == 0:
        return 0.0
    return min(max(fraction, min(SLICE_LEAST / count, 0.1)), SLICE_MOST / count)


def _drawn(share: float) -> int:
    return int(share * 2**DRAW_BITS)


@runtime_checkable
class Times(Protocol):
    """The times of a relation's edges, of which there is at least one, however they are kept."""

    def span(self) -> tuple[int, int]:
        """The smallest and the largest."""
        ...

    def counted(self, low: int, high: int, width: int) -> Int64[npt.NDArray[np.int64], " bins"]:
        """How many of those from `low` to `high` lie in each of `BINS` ranges of `width`, the first from `low` on."""
        ...


@dataclass(frozen=True, slots=True)
class BatchedTimes:
    """Times that are gone through batch by batch."""

    batches: Callable[[], Iterator[Int64[npt.NDArray[np.int64], " n"]]]

    def span(self) -> tuple[int, int]:
        """The smallest and the largest."""
        low = min(int(batch.min()) for batch in self.batches() if len(batch))
        return low, max(int(batch.max()) for batch in self.batches() if len(batch))

    def counted(self, low: int, high: int, width: int) -> Int64[npt.NDArray[np.int64], " bins"]:
        """How many lie in each range."""
        counts = np.zeros(BINS, dtype=np.int64)
        for batch in self.batches():
            inside = batch[(batch >= low) & (batch <= high)]
            # The span of 64-bit times may be wider than int64: as unsigned numbers the difference wraps round to it.
            distance = inside.astype(np.uint64) - np.uint64(low % 2**64)
            counts += np.bincount((distance // np.uint64(width)).astype(np.int64), minlength=BINS)
        return counts


def time_bounds(times: Times, count: int, fraction: float) -> tuple[int, int] | None:
    """From which time on edges are validation edges, and from which on test edges; None where none is held out.

    The test edges are the int(fraction * count) latest, the validation edges half as many of those before. Edges of
    one time stay together, so a part may get more than its share: all that are as late as its earliest.
    """
    test = int(fraction * count)
    if test == 0:
        return None
    test_from, before = value_at(times, count - test)
    return value_at(times, max(before - test // 2, 0))[0], test_from


def time_parts(times: Int64[npt.NDArray[np.int64], " e"], bounds: tuple[int, int]) -> Parts:
    """The part of each edge by its time and the `time_bounds`."""
    valid_from, test_from = bounds
    return np.where(times >= test_from, TEST, np.where(times >= valid_from, VALID, TRAIN)).astype(np.uint8)


def value_at(times: Times, rank: int) -> tuple[int, int]:
    """The value that stands at `rank` (from 0) in ascending order, and how many are smaller; each pass narrows its
    range 65,536-fold."""
    low, high = times.span()
    left = rank
    while low < high:
        width = (high - low) // BINS + 1
        counts = times.counted(low, high, width)
        ends = np.cumsum(counts)
        bin_ = int(np.searchsorted(ends, left, side="right"))
        left -= int(ends[bin_] - counts[bin_])  # from now on counted from the start of that bin
        low, high = low + bin_ * width, min(high, low + (bin_ + 1) * width - 1)
    return low, rank - left
