"""Chunks as tensors: made ready on the host one by one, or all at once on the device that trains them.

On the device the draws of `training.counter_rng` are made again in int64, which has no unsigned shift and no unsigned
product: the same numbers to the bit.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from bundle.errors import ConfigError
from training.backends.base import BucketWork
from training.backends.torch_step import Known
from training.chunks import Pairs, chunk_lengths, make_chunk
from training.config import TrainConfig
from training.counter_rng import GOLDEN, mix
from training.edges import BucketEdges

LARGEST_KEY = HALF = 2**63
# Of chunks in the schedule; an update has several of them, of any lengths.
Positions = Int64[npt.NDArray[np.int64], " _"]


@dataclass(frozen=True, slots=True)
class Batch:
    """c chunks of b edges each between the same two entity types; rows are local to the bucket's partitions.

    A `known` pair (edge, candidate) is an edge too, and so no negative.
    """

    source_type: int
    target_type: int
    src: Int64[Tensor, "c b"]
    dst: Int64[Tensor, "c b"]
    rel: Int64[Tensor, "c b"]
    weight: Float[Tensor, "c b"]
    negative_targets: Int64[Tensor, "c k"]
    negative_sources: Int64[Tensor, "c k"]
    known_targets: Known
    known_sources: Known


@runtime_checkable
class Feed(Protocol):
    """Makes batches of a bucket."""

    def batch(self, positions: Positions) -> Batch:
        """The chunks at these positions of the schedule, which are of one group and one length."""
        ...


class HostFeed:
    """Makes chunks with numpy, in time that grows with the edges' neighbours: what a processor does best."""

    def __init__(self, work: BucketWork, config: TrainConfig, device: torch.device) -> None:
        self._work, self._config, self._device = work, config, device
        sizes = [len(table) for table in (*work.sources, *work.targets)]
        self._flags: npt.NDArray[np.bool_] = np.zeros(max(sizes, default=0), dtype=np.bool_)

    def batch(self, positions: Positions) -> Batch:
        """See Feed."""
        work = self._work
        edges = work.groups[work.schedule.group[positions[0]]]
        chunks = [
            make_chunk(edges, work.schedule, position, self._config, work.relation_weights, self._flags)
            for position in positions.tolist()
        ]
        return Batch(
            edges.source_type,
            edges.target_type,
            src=self._rows([chunk.src for chunk in chunks]),
            dst=self._rows([chunk.dst for chunk in chunks]),
            rel=self._rows([chunk.rel for chunk in chunks]),
            weight=torch.from_numpy(np.stack([chunk.weight for chunk in chunks])).to(self._device),
            negative_targets=self._rows([chunk.negative_targets for chunk in chunks]),
            negative_sources=self._rows([chunk.negative_sources for chunk in chunks]),
            known_targets=self._pairs([chunk.known_targets for chunk in chunks]),
            known_sources=self._pairs([chunk.known_sources for chunk in chunks]),
        )

    def _rows(self, rows: list[npt.NDArray[np.int32]]) -> Int64[Tensor, "c _"]:
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self._device)

    def _pairs(self, pairs: list[Pairs]) -> Known:
        """Where they are: a mask of them takes a processor as long as half a matrix product."""
        chunk = np.repeat(np.arange(len(pairs)), [len(edge) for edge, _ in pairs])
        columns = (chunk, *(np.concatenate(column) for column in zip(*pairs, strict=True)))
        return tuple(torch.from_numpy(column).to(self._device) for column in columns)


@dataclass(frozen=True, slots=True)
class _Known:
    """All edges as sorted numbers ((row · relations) + relation) · n + neighbour, to be looked up."""

    keys: Int64[Tensor, " e"]
    relations: int
    n: int

    def mask(
        self, rows: Int64[Tensor, "c b"], relations: Int64[Tensor, "c b"], candidates: Int64[Tensor, "c k"]
    ) -> Bool[Tensor, "c b k"]:
        """Which candidates are true neighbours."""
        wanted = ((rows * self.relations + relations) * self.n)[:, :, None] + candidates[:, None, :]
        place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        found: Bool[Tensor, "c b k"] = self.keys[place] == wanted
        return found


class _Group:
    """One group's edges on the device."""

    def __init__(self, edges: BucketEdges, order: npt.NDArray[np.int32], device: torch.device, masks: str) -> None:
        self.edges = edges
        self.order = torch.from_numpy(order).to(device)
        self.src, self.dst, self.rel = (torch.from_numpy(a).to(device) for a in (edges.src, edges.dst, edges.rel))
        self.weight = None if edges.weight is None else torch.from_numpy(edges.weight).to(device)
        self.out = self.into = None
        if masks == "all":
            self.out = _known(self.src, self.rel, self.dst, (edges.n_source, edges.n_target))
            self.into = _known(self.dst, self.rel, self.src, (edges.n_target, edges.n_source))


def _known(rows: Tensor, relations: Tensor, neighbours: Tensor, sizes: tuple[int, int]) -> _Known:
    count = int(relations.max()) + 1 if len(relations) else 1
    if sizes[0] * count * sizes[1] >= LARGEST_KEY:
        raise ConfigError(
            f"A bucket of {sizes[0]} sources, {count} relations and {sizes[1]} targets is too large to index on a GPU: "
            "their product must stay below 2^63. Use more partitions."
        )
    keys = (rows.long() * count + relations) * sizes[1] + neighbours
    return _Known(keys.sort().values, count, sizes[1])


class DeviceFeed:
    """Makes batches on the device from the bucket's edges there: the same draws and masks as HostFeed's."""

    def __init__(self, work: BucketWork, config: TrainConfig, device: torch.device) -> None:
        self._config, self._device, self._schedule = config, device, work.schedule
        self._starts = torch.from_numpy(work.schedule.start).to(device)
        self._groups = [
            _Group(edges, order, device, config.masks)
            for edges, order in zip(work.groups, work.schedule.order, strict=True)
        ]
        self._relation_weights = torch.from_numpy(work.relation_weights).to(device)

    def batch(self, positions: Positions) -> Batch:
        """See Feed."""
        group = self._groups[self._schedule.group[positions[0]]]
        chunks = self._upload(positions)
        length = int(chunk_lengths(self._schedule, positions[:1], self._config.chunk)[0])
        within = torch.arange(length, device=self._device)
        at = group.order[self._starts[chunks][:, None] + within].long()
        src, dst, rel = (column[at].long() for column in (group.src, group.dst, group.rel))
        weight = self._relation_weights[rel] if group.weight is None else self._relation_weights[rel] * group.weight[at]
        targets, sources = self._negatives(group, src, dst, chunks)
        return Batch(
            group.edges.source_type, group.edges.target_type, src, dst, rel, weight, targets, sources,
            self._mask(group.out, src, rel, dst, targets), self._mask(group.into, dst, rel, src, sources),
        )  # fmt: skip

    def _mask(
        self,
        known: _Known | None,
        rows: Int64[Tensor, "c b"],
        relations: Int64[Tensor, "c b"],
        ends: Int64[Tensor, "c b"],
        candidates: Int64[Tensor, "c k"],
    ) -> Bool[Tensor, "c b k"]:
        if known is not None:
            return known.mask(rows, relations, candidates)
        return shown_mask(rows, relations, ends, candidates, min(self._config.negatives_in_batch, rows.shape[1]))

    def _upload(self, positions: Positions) -> Int64[Tensor, " c"]:
        """From pinned memory: a copy from any other makes the host wait until the device has done all before it."""
        on_host = torch.from_numpy(positions)
        if self._device.type == "cuda":
            on_host = on_host.pin_memory()
        return on_host.to(self._device, non_blocking=True)

    def _negatives(
        self, group: _Group, src: Int64[Tensor, "c b"], dst: Int64[Tensor, "c b"], chunks: Int64[Tensor, " c"]
    ) -> tuple[Int64[Tensor, "c k"], Int64[Tensor, "c k"]]:
        """As `training.chunks.draw_negatives`."""
        config, edges = self._config, group.edges
        u, v, own = config.negatives_uniform, config.negatives_prevalence, config.negatives_in_batch
        bits = draws(chunk_seeds(self._schedule.seed, chunks), 2 * (u + v))
        popular = below(bits[:, 2 * u :], len(edges))
        targets = [dst[:, :own], below(bits[:, :u], edges.n_target), group.dst[popular[:, :v]].long()]
        sources = [src[:, :own], below(bits[:, u : 2 * u], edges.n_source), group.src[popular[:, v:]].long()]
        return torch.cat(targets, 1), torch.cat(sources, 1)


def shown_mask(
    rows: Int64[Tensor, "c b"],
    relations: Int64[Tensor, "c b"],
    ends: Int64[Tensor, "c b"],
    candidates: Int64[Tensor, "c k"],
    own: int,
) -> Bool[Tensor, "c b k"]:
    """As `training.chunks.shown_pairs`, for several chunks."""
    shown: Bool[Tensor, "c b k"] = ends[:, :, None] == candidates[:, None, :]
    same = (rows[:, :, None] == rows[:, None, :own]) & (relations[:, :, None] == relations[:, None, :own])
    shown[:, :, :own] |= same
    return shown


def signed(value: int) -> int:
    """The int64 with the same 64 bits as the unsigned `value`."""
    value &= 2 * HALF - 1
    return value - 2 * HALF if value >= HALF else value


FIRST, SECOND, STEP = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB), signed(GOLDEN)


def _shift(bits: Int64[Tensor, "*n"], by: int) -> Int64[Tensor, "*n"]:
    """Shift right and fill with zeros; torch's own shift repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(state: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    state = (state ^ _shift(state, 30)) * FIRST
    state = (state ^ _shift(state, 27)) * SECOND
    return state ^ _shift(state, 31)


def chunk_seeds(seed: int, positions: Int64[Tensor, " c"]) -> Int64[Tensor, " c"]:
    """`stream_seed(seed, position)` for every position."""
    return _mix((positions + 1) * STEP + signed(mix(GOLDEN * (seed + 1))))


def draws(seeds: Int64[Tensor, " c"], count: int) -> Int64[Tensor, "c count"]:
    """The first `count` draws of every stream."""
    counters = torch.arange(1, count + 1, device=seeds.device)
    return _mix(seeds[:, None] + counters * STEP)


def below(bits: Int64[Tensor, "*n"], bound: int) -> Int64[Tensor, "*n"]:
    """Map draws to 0 … bound - 1; `bound` < 2^31, so that the product stays below 2^63."""
    return (_shift(bits, 32) * bound) >> 32
