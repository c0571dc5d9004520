"""Which entities of a type may be answered as candidates: those with enough edges into them, the most engaged first."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.errors import ConfigError
from bundle.manifest import CandidatesEntry
from index.builder.config import CandidatesConfig
from index.search.eligible import Bitmap, pack


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those of one type, and what the manifest says of them."""

    bitmap: Bitmap
    entry: CandidatesEntry


def choose_candidates(
    entity_type: str, in_degrees: Int64[npt.NDArray[np.int64], " n"], config: CandidatesConfig
) -> Candidates | None:
    """The rows with `config.min_in_degree` or more, at most `max_count` of them: those with most, of equal ones the
    first rows. None where these are all. Raises ConfigError where there is none.
    """
    kept = in_degrees >= config.min_in_degree
    count = int(np.count_nonzero(kept))
    if not count:
        raise ConfigError(
            f"candidates.min_in_degree is {config.min_in_degree}, and no {entity_type} has so many training edges into "
            f"it; the most is {in_degrees.max(initial=0)}. Lower it."
        )
    if config.max_count is not None and config.max_count < count:
        count = config.max_count
        least = int(np.partition(in_degrees, len(in_degrees) - count)[len(in_degrees) - count])
        kept = in_degrees > least
        equal = np.flatnonzero(in_degrees == least)
        kept[equal[: count - int(np.count_nonzero(kept))]] = True
    if count == len(kept):
        return None
    entry = CandidatesEntry(count=count, min_in_degree=config.min_in_degree, max_count=config.max_count)
    return Candidates(pack(kept), entry)
