"""Warm start, eq. 5: known entities keep vectors and optimiser state; new ones start where their neighbours point."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32

from bundle.arrays import forget_pages
from bundle.errors import ConfigError
from bundle.ids import IdTable, IntIds, matching_rows
from bundle.prepared import PreparedGraph, PreparedRelation
from bundle.progress import SILENT, Progress, Stage
from bundle.trained import Trained, TrainedTable
from training.config import TrainConfig
from training.counter_rng import normals_at, stream_seed
from training.model import FORWARD, INVERSE, EmbeddingTable, Relations, zero_relations
from training.partition import Partitioning

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BLOCK = 2**14
NEWCOMER_STREAM = 8
STATE_SAMPLE = 2**20


@dataclass(frozen=True, slots=True)
class Newcomers:
    """One type's entities that the earlier version did not have and that have a neighbour which it had.

    Row v starts at `vectors[place[v]]`, the mean of what its neighbours point at; other rows' place is -1.
    """

    place: Int32[I32, " n"]
    vectors: Float32[F32, "m d"]


@dataclass(frozen=True, slots=True)
class WarmTables:
    """A run that goes on from an earlier version. What a row starts with does not depend on its partition."""

    earlier: tuple[TrainedTable | None, ...]
    rows: tuple[Int32[I32, " _"], ...]
    newcomers: tuple[Newcomers, ...]
    newcomer_state: tuple[float, ...]
    relation_start: Relations
    config: TrainConfig
    partitionings: tuple[Partitioning, ...] = ()

    def table(self, kind: int, partition: int) -> EmbeddingTable:
        """See InitialTables: eq. 5 for the rows of one partition."""
        mine = self.partitionings[kind].rows(partition)
        vectors, state = self._vectors(kind, mine), np.zeros(len(mine), dtype=np.float32)
        before, old = self.earlier[kind], self.rows[kind][mine]
        kept, placed = np.flatnonzero(old >= 0), self.newcomers[kind].place[mine] >= 0
        if before is not None and before.state is not None:
            state[kept] = before.state[old[kept]] * np.float32(self.config.warm_shrink**2)
            forget_pages(before.state)
        # With no state a first step is learning_rate·sqrt(dim) long, whatever the gradient: it would undo the placing.
        state[placed] = self.newcomer_state[kind]
        return EmbeddingTable(vectors, state, vectors.copy() if self.config.l2_previous else None)

    def previous(self, kind: int, partition: int) -> Float32[F32, "n d"] | None:
        """See InitialTables: where the rows of a partition started."""
        return self._vectors(kind, self.partitionings[kind].rows(partition)) if self.config.l2_previous else None

    def relations(self) -> Relations:
        """See InitialTables."""
        return Relations(self.relation_start.vectors.copy(), self.relation_start.accumulator.copy())

    def partitioned(self, partitionings: tuple[Partitioning, ...]) -> "WarmTables":
        """See InitialTables."""
        return replace(self, partitionings=partitionings)

    def _vectors(self, kind: int, mine: I64) -> F32:
        """Where rows start, each a function of the row and the seed alone; some rows at a time."""
        out, before = np.empty((len(mine), self.config.dim), dtype=np.float32), self.earlier[kind]
        newcomers, seed = self.newcomers[kind], stream_seed(self.config.seed, kind, NEWCOMER_STREAM)
        length = np.float32(self.config.init_scale / np.sqrt(self.config.dim))
        shrink = np.float32(self.config.warm_shrink)
        for start in range(0, len(mine), BLOCK):
            block, rows = out[start : start + BLOCK], mine[start : start + BLOCK]
            old, place = self.rows[kind][rows], newcomers.place[rows]
            if before is not None:
                block[old >= 0] = before.vectors[old[old >= 0]] * shrink
                forget_pages(before.vectors)
            block[place >= 0] = newcomers.vectors[place[place >= 0]] * shrink
            unknown = (old < 0) & (place < 0)
            block[unknown] = normals_at(seed, rows[unknown], self.config.dim) * length
        return out


def warm_tables(
    prepared: PreparedGraph, earlier: Trained, config: TrainConfig, progress: Progress = SILENT
) -> WarmTables:
    """Match entities by external id and relations by name, and place the newcomers; `partitioned` comes next.

    `config.warm_shrink` is the factor λ of Ash & Adams 2020, "On Warm-Starting Neural Network Training": vectors that
    were trained to their end follow the old edges too closely to learn from new ones, shorter ones do less so. The
    optimiser state, a mean of squared gradients, takes λ². Memory: the vectors of the newcomers and 8 bytes an entity.
    Says how many of each type are known. Raises ConfigError when nobody is, for another dimension or kind of ids, and
    for both `warm_shrink` and `l2_previous`.
    """
    if config.l2_previous and config.warm_shrink < 1:
        raise ConfigError(
            "l2_previous holds vectors where they were, warm_shrink below 1 lets them go: set one of them."
        )
    if earlier.dim != config.dim:
        raise ConfigError(f"{earlier.path} has {earlier.dim} dimensions, dim is {config.dim}. Set dim = {earlier.dim}.")
    tables = tuple(earlier.tables.get(entity.name) for entity in prepared.entities)
    rows = []
    for entity, table in zip(prepared.entities, tables, strict=True):
        if table is not None and table.ids.kind != entity.ids.kind:
            raise ConfigError(
                f"{entity.name} ids are {table.ids.kind} in {earlier.path}, {entity.ids.kind} in the graph. "
                "Name another version with --warm-start, or leave it out."
            )
        rows.append(_match(entity.ids, None if table is None else table.ids))
    known = [int((old >= 0).sum()) for old in rows]
    counted = [f"{k:,} of {entity.count:,} {entity.name}" for k, entity in zip(known, prepared.entities, strict=True)]
    if not any(known):
        raise ConfigError(
            f"{earlier.path} knows {', '.join(counted)}: it has the types {', '.join(earlier.tables)}, and no id of "
            "theirs is in the graph. Name another version with --warm-start, or leave it out."
        )
    shared = sum(relation.name in earlier.relations for relation in prepared.relations)
    said = f"warm start: {' known, '.join(counted)} known, {shared:,} of {len(prepared.relations):,} relations known"
    relations = _relations(prepared, earlier, config.dim)
    with progress.stage(said, None, "edges") as stage:
        newcomers = _place(prepared, tables, tuple(rows), relations, stage)
    relations.vectors[:] *= np.float32(config.warm_shrink)
    relations.accumulator[:] *= np.float32(config.warm_shrink**2)
    states = tuple(config.warm_shrink**2 * _median_state(*each) for each in zip(tables, rows, strict=True))
    return WarmTables(tables, tuple(rows), newcomers, states, relations, config)


def _median_state(before: TrainedTable | None, old: Int32[I32, " n"]) -> float:
    """The median of the optimiser state that known entities keep, of `STATE_SAMPLE` and more of them; 0 for none."""
    known = old[old >= 0]
    if before is None or before.state is None or len(known) == 0:
        return 0.0
    median = float(np.median(before.state[known[:: max(1, len(known) // STATE_SAMPLE)]]))
    forget_pages(before.state)
    return median


def _match(ids: IdTable, others: IdTable | None) -> I32:
    """For each row the row of the same id in the earlier version, or -1; integers some rows at a time."""
    rows = np.full(len(ids), -1, dtype=np.int32)
    if others is None:
        return rows
    if not isinstance(ids, IntIds):
        return matching_rows(ids, others).astype(np.int32)
    for start in range(0, len(ids), BLOCK):
        rows[start : start + BLOCK] = matching_rows(IntIds(ids.values[start : start + BLOCK]), others)
    forget_pages(ids.values)
    if isinstance(others, IntIds):
        forget_pages(others.values)
    return rows


def _relations(prepared: PreparedGraph, earlier: Trained, dim: int) -> Relations:
    relations = zero_relations(len(prepared.relations), dim)
    for relation in prepared.relations:
        before = earlier.relations.get(relation.name)
        if before is not None:
            relations.vectors[relation.index] = before.vectors
            if before.state is not None:
                relations.accumulator[relation.index] = before.state
    return relations


def _place(
    prepared: PreparedGraph,
    tables: tuple[TrainedTable | None, ...],
    rows: tuple[I32, ...],
    relations: Relations,
    stage: Stage,
) -> tuple[Newcomers, ...]:
    """Eq. 5: the mean, over a newcomer's edges to known entities, of the query that should find it."""
    # An edge from a known s to a newcomer is answered by the query θs + θr, an edge from it to a known t by θt + θr':
    # the newcomer should lie where they point, and their mean is the point nearest to all of them. Both ends of a
    # relation are gone through alike, the second time turned round. Edges between two newcomers say nothing yet.
    # `places` numbers the newcomers of a type, so that the sums have a row for each of them and not for each entity;
    # `np.add.at` adds up repeated rows, which an assignment would not.
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    places = tuple(np.where(old < 0, np.cumsum(old < 0, dtype=np.int32) - 1, -1).astype(np.int32) for old in rows)
    dim = relations.vectors.shape[2]
    sums = [np.zeros((int((old < 0).sum()), dim), dtype=np.float32) for old in rows]
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
                forget_pages(known.vectors)
                stage.advance(len(source))
    return tuple(map(_means, places, sums, counts))


def _means(place: I32, total: F32, count: I64) -> Newcomers:
    """Sums to means, without the newcomers whose count is 0."""
    placed = count > 0
    index = np.append(np.where(placed, np.cumsum(placed) - 1, -1), -1).astype(np.int32)  # place -1 stays -1
    vectors = total if placed.all() else total[placed]
    vectors /= count[placed, None].astype(np.float32)
    return Newcomers(index[place], vectors)


def _edge_blocks(
    relation: PreparedRelation, turned: bool
) -> Iterator[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]]:
    """The relation's edges as (from, to), a block at a time; a symmetric relation's lead both ways already."""
    for start in range(0, len(relation.train), BLOCK):
        src, dst = relation.train.src[start : start + BLOCK], relation.train.dst[start : start + BLOCK]
        yield (dst, src) if turned else (src, dst)
    forget_pages(relation.train.src)
    forget_pages(relation.train.dst)
