"""Which edges are held out: at random, or the last by time; a small slice to learn from where no split is asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, UInt8

from bundle.scratch import scratch_array

# The part of an edge, as `Parts` holds it.
TRAIN, VALID, TEST = 0, 1, 2
# Of the slice that is held out to learn from; what a build learns asks some thousand users.
SLICE_LEAST, SLICE_MOST = 500, 50_000
SMALL = 1000
# Places of the permutation that are made or read at a time.
_CHUNK = 1 << 20
# A pass over the times narrows the range that holds a rank by this factor: four passes for 64 bits.
BINS = 1 << 16
Parts = UInt8[npt.NDArray[np.uint8], " e"]


def random_parts(directory: Path, count: int, fraction: float, seed: int) -> Parts:
    """The part of each of `count` edges in file order, TRAIN, VALID or TEST.

    The first int(fraction * count) places of `numpy.random.default_rng(seed).permutation(count)` are the test edges,
    half as many after them the validation edges. The permutation is made in a file, 8 bytes an edge.
    """
    order = scratch_array(directory / "order", np.int64, count)
    for start in range(0, count, _CHUNK):
        order[start : start + _CHUNK] = np.arange(start, min(start + _CHUNK, count))
    np.random.default_rng(seed).shuffle(order)
    parts: Parts = scratch_array(directory / "parts", np.uint8, count)
    test = int(fraction * count)
    valid = test // 2
    _set(parts, order[:test], TEST)
    _set(parts, order[test : test + valid], VALID)
    return parts


def validation_parts(directory: Path, count: int, fraction: float, seed: int) -> Parts | None:
    """The part of each of `count` edges in file order, TRAIN or VALID, at random; None where none is held out."""
    held_out = slice_size(count, fraction)
    if not held_out:
        return None
    parts: Parts = scratch_array(directory / "parts", np.uint8, count)
    _set(parts, np.random.default_rng(seed).choice(count, held_out, replace=False, shuffle=False), VALID)
    return parts


def slice_size(count: int, fraction: float) -> int:
    """How many of `count` edges are held out to learn from: `fraction` of them, but at least SLICE_LEAST as far as that
    is no more than a tenth, and at most SLICE_MOST; of fewer than SMALL none.
    """
    if count < SMALL or fraction == 0:
        return 0
    return min(max(int(fraction * count), min(SLICE_LEAST, count // 10)), SLICE_MOST)


def _set(parts: Parts, places: npt.NDArray[np.int64], part: int) -> None:
    for start in range(0, len(places), _CHUNK):
        parts[places[start : start + _CHUNK]] = part


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


def time_parts(directory: Path, times: BatchedTimes, count: int, fraction: float) -> Parts:
    """The part of each of `count` edges in file order, TRAIN, VALID or TEST, by `time_bounds`."""
    parts: Parts = scratch_array(directory / "parts", np.uint8, count)
    bounds = time_bounds(times, count, fraction)
    if bounds is None:
        return parts
    valid_from, test_from = bounds
    start = 0
    for batch in times.batches():
        late = np.where(batch >= test_from, TEST, np.where(batch >= valid_from, VALID, TRAIN))
        parts[start : start + len(batch)] = late
        start += len(batch)
    return parts


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
