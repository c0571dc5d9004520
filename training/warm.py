"""Warm start, eq. 5: known entities keep vectors and optimiser state; new ones start where their neighbours point."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import ConfigError
from bundle.ids import matching_rows
from bundle.prepared import PreparedGraph, PreparedRelation
from training.config import TrainConfig
from training.earlier import Earlier, EarlierTable
from training.model import FORWARD, INVERSE, Relations, Table, zero_relations
from training.origin import Origin
from training.partition import Partitioning

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class Newcomers:
    """One type's entities that the earlier version did not have: `place[v]` is row v's position among them, or -1.

    `vectors` are means of what their neighbours point at; `placed` says which had such a neighbour.
    """

    place: Int64[I64, " n"]
    vectors: Float32[F32, "m d"]
    placed: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WarmOrigin:
    """A run that goes on from an earlier version. `random` gives the newcomers without a known neighbour."""

    earlier: tuple[EarlierTable | None, ...]
    rows: tuple[Int64[I64, " _"], ...]
    newcomers: tuple[Newcomers, ...]
    relation_start: Relations
    partitionings: tuple[Partitioning, ...]
    random: Origin
    keep_previous: bool

    def table(self, kind: int, partition: int) -> Table:
        """See Origin: eq. 5 for the rows of one partition."""
        mine = self.partitionings[kind].rows(partition)
        start = self.random.table(kind, partition)
        before, old = self.earlier[kind], self.rows[kind][mine]
        kept = np.flatnonzero(old >= 0)
        if before is not None and len(kept):
            start.vectors[kept] = before.vectors[old[kept]]
            if before.state is not None:
                start.accumulator[kept] = before.state[old[kept]]
        place = self.newcomers[kind].place[mine]
        placed = np.flatnonzero(place >= 0)
        placed = placed[self.newcomers[kind].placed[place[placed]]]
        start.vectors[placed] = self.newcomers[kind].vectors[place[placed]]
        # With no state a first step is learning_rate·sqrt(dim) long, whatever the gradient: it would undo the placing.
        start.accumulator[placed] = np.median(start.accumulator[kept]) if len(kept) else 0.0
        return Table(start.vectors, start.accumulator, start.vectors.copy() if self.keep_previous else None)

    def previous(self, kind: int, partition: int) -> Float32[F32, "n d"] | None:
        """See Origin: where the rows of a partition started."""
        return self.table(kind, partition).vectors if self.keep_previous else None

    def relations(self) -> Relations:
        """See Origin."""
        return Relations(self.relation_start.vectors.copy(), self.relation_start.accumulator.copy())

    def dealt(self, partitionings: tuple[Partitioning, ...]) -> "WarmOrigin":
        """See Origin."""
        return replace(self, partitionings=partitionings, random=self.random.dealt(partitionings))


def warm_origin(
    prepared: PreparedGraph,
    earlier: Earlier,
    partitionings: tuple[Partitioning, ...],
    config: TrainConfig,
    random: Origin,
) -> WarmOrigin:
    """Match entities by external id and relations by name, and place the newcomers.

    Memory: the vectors of the newcomers. Raises ConfigError for another dimension or kind of ids.
    """
    if earlier.dim != config.dim:
        raise ConfigError(f"{earlier.path} has {earlier.dim} dimensions, dim is {config.dim}. Set dim = {earlier.dim}.")
    tables = tuple(earlier.tables.get(entity.name) for entity in prepared.entities)
    rows = []
    for entity, table in zip(prepared.entities, tables, strict=True):
        if table is not None and table.ids.kind != entity.ids.kind:
            raise ConfigError(
                f"{entity.name} ids are {table.ids.kind} in {earlier.path}, {entity.ids.kind} in the graph."
            )
        absent = np.full(entity.count, -1, dtype=np.int64)
        rows.append(absent if table is None else matching_rows(entity.ids, table.ids))
    relations = _relations(prepared, earlier, config.dim)
    newcomers = _place(prepared, tables, tuple(rows), relations, config)
    return WarmOrigin(
        tables, tuple(rows), newcomers, relations, partitionings, random, keep_previous=config.l2_previous > 0
    )


def _relations(prepared: PreparedGraph, earlier: Earlier, dim: int) -> Relations:
    relations = zero_relations(len(prepared.relations), dim)
    for relation in prepared.relations:
        vectors, state = earlier.relations.get(relation.name, (None, None))
        if vectors is not None:
            relations.vectors[relation.index] = vectors
        if state is not None:
            relations.accumulator[relation.index] = state
    return relations


def _place(
    prepared: PreparedGraph,
    tables: tuple[EarlierTable | None, ...],
    rows: tuple[I64, ...],
    relations: Relations,
    config: TrainConfig,
) -> tuple[Newcomers, ...]:
    """Eq. 5: the mean, over a newcomer's edges to known entities, of the query that should find it."""
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    places = tuple(np.where(old < 0, np.cumsum(old < 0) - 1, -1) for old in rows)
    sums = [np.zeros((int((old < 0).sum()), config.dim), dtype=np.float32) for old in rows]
    counts = [np.zeros(len(total), dtype=np.int64) for total in sums]
    for relation in prepared.relations:
        forward, inverse = relations.vectors[relation.index][[FORWARD, INVERSE]]
        for s, t, translation in (
            (number[relation.source], number[relation.target], forward),
            (number[relation.target], number[relation.source], inverse),
        ):
            known = tables[s]
            if known is None or len(sums[t]) == 0:
                continue
            for source, target in _edge_blocks(relation, turned=translation is inverse):
                useful = (rows[s][source] >= 0) & (places[t][target] >= 0)
                at = places[t][target[useful]]
                np.add.at(sums[t], at, known.vectors[rows[s][source[useful]]] + translation)
                np.add.at(counts[t], at, 1)
    means = [total / np.maximum(count, 1)[:, None] for total, count in zip(sums, counts, strict=True)]
    return tuple(
        Newcomers(place, mean.astype(np.float32), count > 0)
        for place, mean, count in zip(places, means, counts, strict=True)
    )


def _edge_blocks(
    relation: PreparedRelation, turned: bool
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """The relation's edges as (from, to), a block at a time; a symmetric relation's lead both ways already."""
    for start in range(0, len(relation.train), BLOCK):
        src, dst = relation.train.src[start : start + BLOCK], relation.train.dst[start : start + BLOCK]
        yield (dst, src) if turned else (src, dst)
