"""The order in which a bucket's edges are trained, and chunks made ready: edges, negatives, which are true pairs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from training.config import TrainConfig
from training.counter_rng import below, draws, stream_seed
from training.edges import BucketEdges, known_pairs

I32 = npt.NDArray[np.int32]
Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One visit of a bucket. Chunk c holds `order[group[c]][start[c]:start[c] + chunk]` of that group's edges."""

    order: tuple[Int32[I32, " _"], ...]
    group: Int32[I32, " c"]
    start: Int64[npt.NDArray[np.int64], " c"]
    seed: int

    def __len__(self) -> int:
        return len(self.group)


def make_schedule(groups: tuple[BucketEdges, ...], chunk: int, *stream: int) -> Schedule:
    """Shuffle a bucket for one visit; the same `stream` numbers give the same order."""
    rng = np.random.default_rng(stream_seed(*stream, 0))
    order = tuple(_permutation(len(edges), rng) for edges in groups)
    starts = [np.arange(0, len(edges), chunk, dtype=np.int64) for edges in groups]
    group = np.repeat(np.arange(len(groups), dtype=np.int32), [len(s) for s in starts])
    visit = _permutation(len(group), rng)
    start = np.concatenate([*starts, np.empty(0, dtype=np.int64)])
    return Schedule(order, group[visit], start[visit], stream_seed(*stream, 1))


def chunk_lengths(
    schedule: Schedule, positions: Int64[npt.NDArray[np.int64], " c"], chunk: int
) -> Int64[npt.NDArray[np.int64], " c"]:
    """Edges in each chunk: the last one of a group may be short."""
    edges = np.array([len(order) for order in schedule.order])
    lengths: npt.NDArray[np.int64] = np.minimum(chunk, edges[schedule.group[positions]] - schedule.start[positions])
    return lengths


def _permutation(n: int, rng: np.random.Generator) -> I32:
    order = np.arange(n, dtype=np.int32)
    rng.shuffle(order)
    return order


@dataclass(frozen=True, slots=True)
class Chunk:
    """Edges that share negatives. `known_targets` are (edge, column) pairs that are no negatives, likewise sources."""

    src: Int32[I32, " b"]
    dst: Int32[I32, " b"]
    rel: Int32[I32, " b"]
    weight: Float32[npt.NDArray[np.float32], " b"]
    negative_targets: Int32[I32, " k"]
    negative_sources: Int32[I32, " k"]
    known_targets: Pairs
    known_sources: Pairs


def make_chunk(
    edges: BucketEdges,
    schedule: Schedule,
    position: int,
    config: TrainConfig,
    relation_weights: Float32[npt.NDArray[np.float32], " r"],
    flags: npt.NDArray[np.bool_],
) -> Chunk:
    """Collect the chunk at `position` of the schedule; `flags` is scratch space as in `known_pairs`."""
    start = schedule.start[position]
    at = schedule.order[schedule.group[position]][start : start + config.chunk]
    src, dst, rel = edges.src[at], edges.dst[at], edges.rel[at]
    weight = relation_weights[rel] if edges.weight is None else relation_weights[rel] * edges.weight[at]
    targets, sources = draw_negatives(edges, src, dst, config, stream_seed(schedule.seed, position))
    if config.masks == "chunk":
        own = min(config.negatives_in_batch, len(at))
        known = shown_pairs(src, rel, dst, targets, own), shown_pairs(dst, rel, src, sources, own)
    else:
        known = known_pairs(edges.out, src, rel, targets, flags), known_pairs(edges.into, dst, rel, sources, flags)
    return Chunk(src, dst, rel, weight, targets, sources, *known)


def shown_pairs(rows: I32, relations: I32, ends: I32, candidates: I32, own: int) -> Pairs:
    """The true pairs (edge, candidate) that a chunk itself shows, by comparison alone: a candidate that is the edge's
    own end, and the end of another edge from the same row under the same relation; the first `own` are ends."""
    shown = ends[:, None] == candidates
    shown[:, :own] |= (rows[:, None] == rows[:own]) & (relations[:, None] == relations[:own])
    edge, candidate = np.nonzero(shown)
    return edge, candidate


def draw_negatives(edges: BucketEdges, src: I32, dst: I32, config: TrainConfig, seed: int) -> tuple[I32, I32]:
    """Negatives for both directions: the chunk's own rows, uniform ones, and ends of edges drawn at random."""
    u, v, own = config.negatives_uniform, config.negatives_prevalence, config.negatives_in_batch
    bits = draws(seed, 0, 2 * (u + v))
    popular = below(bits[2 * u :], len(edges))
    targets = [dst[:own], below(bits[:u], edges.n_target), edges.dst[popular[:v]]]
    sources = [src[:own], below(bits[u : 2 * u], edges.n_source), edges.src[popular[v:]]]
    return np.concatenate(targets), np.concatenate(sources)
