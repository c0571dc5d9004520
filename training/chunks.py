"""One chunk made ready: its edges, the negatives of both directions, and which of them are true pairs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from training.config import TrainConfig
from training.counter_rng import below, draws, stream_seed
from training.edges import BucketEdges, known_pairs
from training.schedule import Schedule

I32 = npt.NDArray[np.int32]
Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


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
    return Chunk(
        src, dst, rel, weight, targets, sources,
        known_pairs(edges.out, src, rel, targets, flags),
        known_pairs(edges.into, dst, rel, sources, flags),
    )  # fmt: skip


def draw_negatives(edges: BucketEdges, src: I32, dst: I32, config: TrainConfig, seed: int) -> tuple[I32, I32]:
    """Negatives for both directions: the chunk's own rows, uniform ones, and ends of edges drawn at random."""
    u, v, own = config.negatives_uniform, config.negatives_prevalence, config.negatives_in_batch
    bits = draws(seed, 0, 2 * (u + v))
    popular = below(bits[2 * u :], len(edges))
    targets = [dst[:own], below(bits[:u], edges.n_target), edges.dst[popular[:v]]]
    sources = [src[:own], below(bits[u : 2 * u], edges.n_source), edges.src[popular[v:]]]
    return np.concatenate(targets), np.concatenate(sources)
