"""Which entities of a type may be answered as candidates: those with enough edges into them, the most engaged first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, Int64

from bundle.errors import ConfigError
from bundle.manifest import CandidatesEntry
from index.builder.config import CandidatesConfig
from index.search.eligible import Bitmap, mask_of, pack

BLOCK_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those of one type, and what the manifest says of them."""

    bitmap: Bitmap
    entry: CandidatesEntry


@runtime_checkable
class Degrees(Protocol):
    """How many edges each entity of a type has, of which parts are asked for: an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Int64[npt.NDArray[np.int64], " part"]: ...


@dataclass(frozen=True, slots=True)
class SummedDegrees:
    """The degrees by several relations together, counted from their offsets part by part."""

    indptrs: Sequence[Int64[npt.NDArray[np.int64], " n_plus_1"]]

    def __len__(self) -> int:
        return len(self.indptrs[0]) - 1

    def __getitem__(self, part: slice, /) -> Int64[npt.NDArray[np.int64], " part"]:
        ends = slice(part.start, part.stop + 1)
        total: npt.NDArray[np.int64] = np.sum([np.diff(indptr[ends]) for indptr in self.indptrs], axis=0)
        return total


def blocks_of(in_degrees: Degrees) -> Iterator[slice]:
    """Parts to look at together: each begins at a multiple of 8 rows."""
    for start in range(0, len(in_degrees), BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, len(in_degrees)))


def most_popular(in_degrees: Degrees, limit: int, candidates: Bitmap | None) -> Int32[npt.NDArray[np.int32], " top"]:
    """The rows with most edges into them, none without any, by falling in-degree, equal ones in order: `limit` at most
    and of `candidates` alone."""
    rows, most = np.empty(0, np.int64), np.empty(0, np.int64)
    for block in blocks_of(in_degrees):
        degrees = in_degrees[block]
        if candidates is not None:
            degrees = np.where(mask_of(candidates[block.start >> 3 :], len(degrees)), degrees, 0)
        more = np.flatnonzero(degrees > (most[-1] if len(most) == limit else 0))
        rows, most = np.concatenate([rows, block.start + more]), np.concatenate([most, degrees[more]])
        order = np.argsort(-most, kind="stable")[:limit]
        rows, most = rows[order], most[order]
    return rows.astype(np.int32)


def choose_candidates(entity_type: str, in_degrees: Degrees, config: CandidatesConfig) -> Candidates | None:
    """The rows with `config.min_in_degree` or more, at most `max_count` of them: those with most, of equal ones the
    first rows. None where these are all. Raises ConfigError where there is none.
    """
    degrees, counts = _histogram(in_degrees)
    enough = degrees >= config.min_in_degree
    count = int(counts[enough].sum())
    if not count:
        raise ConfigError(
            f"candidates.min_in_degree is {config.min_in_degree}, and no {entity_type} has so many training edges into "
            f"it; the most is {degrees.max(initial=0)}. Lower it."
        )
    least, of_least = config.min_in_degree, len(in_degrees)
    if config.max_count is not None and config.max_count < count:
        count = config.max_count
        # Those with at least so many edges, for each degree: the last degree that is needed gives only some.
        at_least = np.cumsum(counts[::-1])[::-1]
        last = int(np.flatnonzero(at_least >= count)[-1])
        least, of_least = int(degrees[last]), count - int(at_least[last] - counts[last])
    if count == len(in_degrees):
        return None
    parts = []
    for block in blocks_of(in_degrees):
        part = in_degrees[block]
        kept = part >= least
        equal = np.flatnonzero(part == least)
        kept[equal[of_least:]] = False
        of_least -= min(of_least, len(equal))
        parts.append(pack(kept))
    entry = CandidatesEntry(count=count, min_in_degree=config.min_in_degree, max_count=config.max_count)
    return Candidates(np.concatenate(parts), entry)


def _histogram(in_degrees: Degrees) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The degrees that there are, ascending, and how many entities have each: there are few, √(2·edges) at the most."""
    degrees, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for block in blocks_of(in_degrees):
        more, of_each = np.unique(in_degrees[block], return_counts=True)
        degrees, place = np.unique(np.concatenate([degrees, more]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, of_each]), len(degrees)).astype(np.int64)
    return degrees, counts
