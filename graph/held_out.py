"""What the held-out edges have in common with the training edges: too much, or too little to be predicted."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Integer, UInt64

from bundle.prepared import Edges, PreparedGraph, PreparedRelation

# Edges that are looked at together; of held-out edges this many wait in memory for the training edges to pass by.
_CHUNK = 1 << 20
Rows = Integer[npt.NDArray[np.integer], " n"]


class HeldOut(NamedTuple):
    """Of a relation's held-out edges: how many are training edges too, how many have an end unseen in training."""

    trained: int
    unseen: int


def held_out_counts(graph: PreparedGraph) -> list[HeldOut]:
    """The counts of every relation. A split that is drawn from the edges cannot hold out a training edge."""
    if not any(len(relation.valid) or len(relation.test) for relation in graph.relations):
        return [HeldOut(0, 0)] * len(graph.relations)
    ends = {entity.name: np.zeros(entity.count, dtype=np.bool_) for entity in graph.entities}
    for relation in graph.relations:
        for src, dst in chunks(relation.train):
            ends[relation.source][src] = True
            ends[relation.target][dst] = True
    by_files = graph.split is not None and graph.split.by == "files"
    counts = []
    for relation in graph.relations:
        sources, targets = ends[relation.source], ends[relation.target]
        pairs = [pair for part in (relation.valid, relation.test) for pair in chunks(part)]
        unseen = sum(int(np.count_nonzero(~(sources[src] & targets[dst]))) for src, dst in pairs)
        trained = sum(_trained(src, dst, relation) for src, dst in pairs) if by_files else 0
        counts.append(HeldOut(trained, unseen))
    return counts


def chunks(edges: Edges) -> Iterator[tuple[Rows, Rows]]:
    """The ends of the edges, a million at a time."""
    for start in range(0, len(edges), _CHUNK):
        yield edges.src[start : start + _CHUNK], edges.dst[start : start + _CHUNK]


def _trained(src: Rows, dst: Rows, relation: PreparedRelation) -> int:
    """How many of the edges are training edges; the direction does not matter where edges have none."""
    keys, counts = np.unique(pair_keys(src, dst, relation.symmetric), return_counts=True)
    known = np.zeros(len(keys), dtype=np.bool_)
    for train_src, train_dst in chunks(relation.train):
        candidates = pair_keys(train_src, train_dst, relation.symmetric)
        places = np.minimum(np.searchsorted(keys, candidates), len(keys) - 1)
        known[places[keys[places] == candidates]] = True
    return int(counts[known].sum())


def pair_keys(src: Rows, dst: Rows, symmetric: bool) -> UInt64[npt.NDArray[np.uint64], " n"]:
    """One number for each pair of ends: 32 bits each. Where the relation is symmetric, both orders have the same."""
    first, second = (np.minimum(src, dst), np.maximum(src, dst)) if symmetric else (src, dst)
    keys: npt.NDArray[np.uint64] = (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
    return keys
