"""What rescoring in NumPy reads of a relation and that no user changes: laid out once for each open space.

NumPy asks a fixed price for each call and copies what is not in one piece, so lists are sampled and filled up here, to
be fetched in pieces of BLOCK entries. That takes some 5 bytes an edge and 70 an entity; the engine needs none of it.
"""

import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.csr import Csr
from bundle.space import Relation, Space

BLOCK = 16
# Of a candidate's sources the walk reads an even sample of so many, which stands for all.
MOST_SOURCES = 256
# Ways over other relations that are counted, in the version's order of relations.
MOST_WAYS = 16
Degrees = Float32[npt.NDArray[np.float32], " _"]


class Way(NamedTuple):
    """Two steps over other relations: from u, and on from there to candidates."""

    first: Csr
    second: Csr


class Sample(NamedTuple):
    """Of each target at most MOST_SOURCES of its sources, in blocks: target t has `counts[t]`, 1 at least, from
    `starts[t]` on. Entries that only fill up are as large as there are sources in the relation.

    What is summed over a target's sample counts `stands_for[t]` times.
    """

    blocks: Int32[npt.NDArray[np.int32], "blocks block"]
    starts: Int64[npt.NDArray[np.int64], " targets"]
    counts: Int64[npt.NDArray[np.int64], " targets"]
    stands_for: Degrees


class Tables(NamedTuple):
    """Of one relation. `shares` are one over a source's edges; `log_in` and `log_out` are ln(1 + edges) of a target,
    the second zero where it is no source; `rarity` is 1/√(1 + in-degree).

    `offsets` say where the `lists` begin in `ends`, which has their `indptr` one after another: the relation's
    sources, its targets, and the second step of each of the `ways`.
    """

    sample: Sample
    shares: Degrees
    log_in: Degrees
    log_out: Degrees
    rarity: Degrees
    ways: tuple[Way, ...]
    lists: tuple[Csr, ...]
    ends: Int64[npt.NDArray[np.int64], " _"]
    offsets: tuple[int, ...]


# By the space's identity, as long as it lives, and the relation's name.
_known: dict[int, dict[str, Tables]] = {}


def tables_of(space: Space, relation: Relation) -> Tables:
    """Those of a relation of the space: made when they are first asked for."""
    known = _known.get(id(space))
    if known is None:
        known = _known.setdefault(id(space), {})
        weakref.finalize(space, _known.pop, id(space), None)
    name = relation.entry.name
    if name not in known:
        known[name] = _laid_out(space, relation)
    return known[name]


def _laid_out(space: Space, relation: Relation) -> Tables:
    in_degrees = relation.sources.degrees().astype(np.float32)
    out_degrees = relation.targets.degrees().astype(np.float32)
    log_in = np.log1p(in_degrees)
    within = relation.entry.source == relation.entry.target
    ways = tuple(ways_over_others(space, relation))
    lists = (relation.sources, relation.targets, *(way.second for way in ways))
    places = np.cumsum([0, *(len(one.indptr) for one in lists)])
    return Tables(
        sample=sample_of(relation.sources, len(relation.targets)),
        shares=(1.0 / np.maximum(out_degrees, 1.0)).astype(np.float32),
        log_in=log_in,
        log_out=np.log1p(out_degrees) if within else np.zeros_like(log_in),
        rarity=(1.0 / np.sqrt(1.0 + in_degrees)).astype(np.float32),
        ways=ways,
        lists=lists,
        ends=np.concatenate([one.indptr for one in lists]),
        offsets=tuple(places[:-1].tolist()),
    )


def sample_of(sources: Csr, n_sources: int) -> Sample:
    """An even sample of each list, in blocks."""
    degrees = sources.degrees()
    lengths = np.minimum(degrees, MOST_SOURCES)
    counts = np.maximum(-(-lengths // BLOCK), 1)
    starts = np.cumsum(counts) - counts
    blocks = np.full((int(counts.sum()), BLOCK), n_sources, dtype=np.int32)
    owner = np.repeat(np.arange(len(degrees)), lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # The i-th of m that stand for n is the one at ⌊i·n/m⌋; of a list that is read whole the i-th.
    read = sources.indptr[owner] + place * degrees[owner] // lengths[owner]
    blocks.reshape(-1)[starts[owner] * BLOCK + place] = sources.indices[read]
    return Sample(blocks, starts, counts, (degrees / np.maximum(lengths, 1)).astype(np.float32))


def ways_over_others(space: Space, relation: Relation) -> list[Way]:
    """The paths of two edges to the relation's targets of which at least one is of another relation."""
    source, target = relation.entry.source, relation.entry.target
    found = []
    for middle, first, one in _steps_from(space, source):
        for also, second, other in _steps_from(space, target):
            if middle == also and not (one is relation and other is relation):
                # The second step leads from the middle to t: the turned adjacency of t's step to the middle.
                found.append(Way(_adjacency(one, first), _adjacency(other, not second)))
                if len(found) == MOST_WAYS:
                    return found
    return found


def _steps_from(space: Space, entity_type: str) -> Iterator[tuple[str, bool, Relation]]:
    """The steps that an edge leads from a type: the type it leads to, whether along the edge, the relation."""
    for relation in space.relations.values():
        entry = relation.entry
        if entry.source == entity_type:
            yield entry.target, True, relation
        if entry.target == entity_type and not entry.symmetric:
            yield entry.source, False, relation


def _adjacency(relation: Relation, along: bool) -> Csr:
    return relation.targets if along else relation.sources
