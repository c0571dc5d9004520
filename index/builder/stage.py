"""Putting the parts of one space into a version under construction: ids, vectors, edges, clusters, lists, codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Integer

from bundle.arrays import AnyArray, map_array
from bundle.attributes import AttributeEntry, arrays_of
from bundle.csr import Csr
from bundle.errors import RunError
from bundle.layout import ListQuery, SpaceLayout
from bundle.manifest import (
    Clock,
    ClustersEntry,
    CompressionEntry,
    CompressionPoint,
    DefaultQuery,
    EntityEntry,
    InterestsEntry,
    RelationEntry,
)
from bundle.prepared import EntityTable, PreparedRelation, id_files
from bundle.progress import Progress, Stage
from bundle.run import Run
from bundle.verify import require_finite
from bundle.writer import BundleWriter
from index.builder.candidates import Candidates, SummedDegrees, choose_candidates, most_popular
from index.builder.clocks import clocks, may_need_times, per_second, time_warnings
from index.builder.clusters import Clustering, candidate_lists, cluster, joined
from index.builder.compression import Compression, compress, default_subquantizers
from index.builder.config import BuildConfig, require_known
from index.builder.coordinates import STEPS, lay_out
from index.builder.devices import Device
from index.builder.edges import Work, stage_edges
from index.builder.elsewhere import Staged, telling
from index.builder.interests import MOST_TYPES, Group, groups_of, not_clustered
from index.builder.losses import LossMeter
from index.builder.mixtures import Counting, Engagements, build_mixtures, write_mixtures
from index.builder.queries import QueryMaker, sources_of
from index.builder.room import Scratch, blocks
from index.builder.smoothing import Smoothing, smooth
from index.search.eligible import Bitmap

POPULAR = 10_000
MIXTURE_PARTS: tuple[Literal["indptr", "clusters", "weights"], ...] = ("indptr", "clusters", "weights")
# Edges whose reverse is looked for: a share of a tenth is then known to within .013.
RETURNED_SAMPLE = 2000
BLOCK_USERS = 1 << 20
# Rows of a version have 32 bits.
MOST_ROWS = 2**31
# Products of longer vectors come near the end of float32, and sums of them past it.
LONGEST_SQUARED = 1e30


def in_sorted_rows(
    lists: Csr, rows: Integer[npt.NDArray[np.integer], " n"], values: Integer[npt.NDArray[np.integer], " n"]
) -> Bool[npt.NDArray[np.bool_], " n"]:
    """Whether each value is in its row of `lists`, whose rows ascend: one search in halves for all of them, since a
    graph may have thousands of relations."""
    low, end = lists.indptr[rows], lists.indptr[rows.astype(np.int64) + 1]
    high = end
    last = len(lists.indices) - 1
    while (low < high).any():
        middle = (low + high) // 2
        less = (low < high) & (lists.indices[np.minimum(middle, last)] < values)
        low, high = np.where(less, middle + 1, low), np.where(less | (low >= high), high, middle)
    found: npt.NDArray[np.bool_] = (low < end) & (lists.indices[np.minimum(low, last)] == values)
    return found


def _require_scores(vectors: Float32[npt.NDArray[np.float32], "n d"], where: str, first_row: int) -> None:
    """Raise RunError for vectors with NaN or Inf, or so long that no score of them is a number."""
    with np.errstate(over="ignore", invalid="ignore"):
        usable = np.einsum("ij,ij->i", vectors, vectors) <= LONGEST_SQUARED
    if not usable.all():
        row = first_row + int(np.argmin(usable))
        raise RunError(f"{where}: row {row} holds NaN, Inf or numbers too large to multiply. Train the run again.")


@dataclass(frozen=True, slots=True)
class SpaceStage:
    """One space being written: where it comes from, where it goes, how it is to be built."""

    run: Run
    writer: BundleWriter
    layout: SpaceLayout
    config: BuildConfig
    default: DefaultQuery
    device: Device
    work: Work

    @property
    def scratch(self) -> Scratch:
        """Where arrays of passing use lie."""
        return Scratch(self.work.directory)

    @property
    def counts(self) -> dict[str, int]:
        """Entities of each type."""
        return {entity.name: entity.count for entity in self.run.graph.entities}

    def ids(self) -> tuple[EntityEntry, ...]:
        """The id tables and attributes, as they are in the run. Raises RunError for more rows than 32 bits hold."""
        for entity in self.run.graph.entities:
            if entity.count > MOST_ROWS:
                raise RunError(
                    f"{self.run.path}: {entity.name} has {entity.count} entities, a version holds at most {MOST_ROWS} "
                    "of a type. Split it into several types."
                )
            names = self.layout.ids(entity.name, entity.ids.kind)
            for name, path in zip(names, id_files(self.run.graph.path, entity.name, entity.ids.kind), strict=True):
                self.writer.array(name, map_array(path))
        return tuple(
            EntityEntry(name=e.name, id=e.ids.kind, count=e.count, attributes=self._attributes(e))
            for e in self.run.graph.entities
        )

    def _attributes(self, entity: EntityTable) -> tuple[AttributeEntry, ...]:
        """Write the attributes of one type, as they are in the run."""
        for number, (_, attribute) in enumerate(entity.attributes):
            for part, array in arrays_of(attribute).items():
                self.writer.array(self.layout.attribute(entity.name, number, part), array)
        return tuple(entry for entry, _ in entity.attributes)

    def vectors(self, bar: Stage) -> None:
        """The embeddings with their popularity column, ln(1 + in-degree), the relation vectors, the optimiser state;
        needs the edges staged.
        """
        for name, embeddings in self.run.vectors.items():
            file, popular_by = self.layout.vectors(name), self.popular_by(name)
            in_degrees = None if popular_by is None else self._in_degrees(popular_by)
            bar.note(f"vectors of {name}")
            out = self.writer.create(file, np.float32, (len(embeddings), self.run.dim + 1))
            for block in blocks(*embeddings.shape):
                _require_scores(embeddings[block], f"{self.run.path}: vectors of {name}", block.start)
                out[block, : self.run.dim] = embeddings[block]
                out[block, self.run.dim] = 0.0 if in_degrees is None else np.log1p(in_degrees[block])
            self.writer.add(file)
            bar.advance(len(embeddings))
        _require_scores(self.run.relation_vectors.reshape(-1, self.run.dim), f"{self.run.path}: relation vectors", 0)
        self.writer.array(self.layout.relations, self.run.relation_vectors)
        for name in (*self.run.vectors, "relations"):
            state = self.run.optimizer_file(name)
            if state.exists():
                sums = map_array(state)
                require_finite(sums, str(state))
                self.writer.array(self.layout.optimizer(name), sums)

    def edges(self, bar: Stage) -> tuple[RelationEntry, ...]:
        """Both CSR directions of every relation."""
        entries = []
        for position, relation in enumerate(self.run.graph.relations):
            counts = (self.counts[relation.source], self.counts[relation.target])
            bar.note(f"edges of {relation.name}")
            times = (
                self._times_file(position) if may_need_times(relation, self.run.graph, self.config.mixtures) else None
            )
            stage_edges(
                self.writer, self.layout, position, relation.train, counts, relation.symmetric, self.work, times
            )
            bar.advance(len(relation.train))
            entries.append(
                RelationEntry(
                    name=relation.name,
                    source=relation.source,
                    target=relation.target,
                    symmetric=relation.symmetric,
                    coverage=relation.coverage,
                    edges=len(relation.train),
                )
            )
        return self._with_elsewhere(entries, bar)

    def _with_elsewhere(self, entries: Sequence[RelationEntry], bar: Stage) -> tuple[RelationEntry, ...]:
        """The relations with what others between the same types tell of them; needs the edges staged."""
        by_types: dict[tuple[str, str], list[int]] = {}
        for position, entry in enumerate(entries):
            by_types.setdefault((entry.source, entry.target), []).append(position)
        found: dict[str, dict[str, float]] = {}
        for positions in by_types.values():
            if len(positions) > 1:
                bar.note(f"edges that relations from {entries[positions[0]].source} share")
                staged = {entries[one].name: Staged(self._targets(one), self._sources(one)) for one in positions}
                found |= telling(staged, self.config.seed)
        return tuple(entry.model_copy(update={"elsewhere": found.get(entry.name, {})}) for entry in entries)

    def candidates(self) -> dict[str, Candidates]:
        """By type who may be answered, of the types where these are not all, and the most popular of them by every
        relation; needs the edges staged. Raises ConfigError for settings that leave nobody.
        """
        chosen = {}
        relations = self.run.graph.relations
        for name in dict.fromkeys(relation.target for relation in relations if self.counts[relation.target]):
            edges = self._in_degrees(*(one.name for one in relations if one.target == name))
            found = choose_candidates(name, edges, self.config.candidates)
            if found is not None:
                self.writer.array(self.layout.candidates(name), found.bitmap)
                chosen[name] = found
        for position, relation in enumerate(relations):
            among = chosen[relation.target].bitmap if relation.target in chosen else None
            rows = most_popular(self._in_degrees(relation.name), POPULAR, among)
            self.writer.array(self.layout.popular(position), rows)
        return chosen

    def _in_degrees(self, *relations: str) -> SummedDegrees:
        """Edges that point to each target of some relations, as they were staged."""
        return SummedDegrees(
            [
                map_array(self.writer.path(self.layout.edges(position, "sources")[0]))
                for position, relation in enumerate(self.run.graph.relations)
                if relation.name in relations
            ]
        )

    def _degrees(self, entity_type: str) -> SummedDegrees:
        """Edges at either end of each entity of a type, as they were staged."""
        indptrs = []
        for position, relation in enumerate(self.run.graph.relations):
            if relation.source == entity_type:
                indptrs.append(map_array(self.writer.path(self.layout.edges(position, "targets")[0])))
            if relation.target == entity_type and not relation.symmetric:  # whose edges by source lead both ways
                indptrs.append(map_array(self.writer.path(self.layout.edges(position, "sources")[0])))
        return SummedDegrees(indptrs)

    def _times_file(self, position: int) -> Path:
        return self.work.directory / f"{position}.times.npy"

    def _targets(self, position: int) -> Csr:
        """A relation's edges by source, as they were staged."""
        indptr, indices, weights = (self.writer.path(name) for name in self.layout.edges(position, "targets"))
        return Csr(map_array(indptr), map_array(indices), map_array(weights) if weights.exists() else None)

    def _sources(self, position: int) -> Csr:
        """A relation's edges by target, as they were staged."""
        indptr, indices, *_ = (self.writer.path(name) for name in self.layout.edges(position, "sources"))
        return Csr(map_array(indptr), map_array(indices))

    def popular_by(self, entity_type: str) -> str | None:
        """The relation by which popularity among a type is counted; None where none points to it.

        Of several relations the default one counts, else of those of high coverage the one with the most edges.
        """
        if entity_type == self.default.candidate_type:
            return self.default.relation
        to_type = [one for one in self.run.graph.relations if one.target == entity_type]
        best = max(to_type, key=lambda one: (one.coverage == "high", len(one.train)), default=None)
        return None if best is None else best.name

    def returned_share(self, position: int) -> float:
        """The share of a relation's edges whose reverse is there too, of a sample; 0 where there can be none.

        Of symmetric ones 0 too: whoever is at the other end is known already.
        """
        relation = self.run.graph.relations[position]
        if relation.source != relation.target or relation.symmetric or not len(relation.train):
            return 0.0
        targets = self._targets(position)
        some = np.random.default_rng(self.config.seed).integers(0, len(targets.indices), RETURNED_SAMPLE)
        return float(in_sorted_rows(targets, targets.indices[some], sources_of(targets, some)).mean())

    def clusters(self, bar: Stage) -> Clustering:
        """A k-means for each group of types, and the medoids."""
        parts = []
        for number, group in enumerate(self.groups()):
            bar.note(f"vectors of {', '.join(group.types)}")
            settings = self.config.clusters
            if number and settings.count is not None:  # of a type that is not named there may be fewer
                fewer = min(settings.count, sum(self.counts[name] for name in group.types))
                settings = settings.model_copy(update={"count": fewer})
            directory = self.work.directory / f"clusters-{number}"
            directory.mkdir()
            room = Scratch(directory)
            degrees = {name: self._degrees(name) for name in group.types}
            vectors, seed = self.run.vectors, self.config.seed
            parts.append(cluster(vectors, degrees, group.types, settings, seed, self.device, room, bar))
        clustering = joined(parts)
        self.writer.array(self.layout.clusters("centroids"), clustering.centroids)
        self.writer.array(self.layout.clusters("medoid_types"), clustering.medoid_types)
        self.writer.array(self.layout.clusters("medoid_rows"), clustering.medoid_rows)
        self.writer.array(self.layout.clusters("sizes"), clustering.sizes)
        for name in clustering.types:
            self.writer.array(self.layout.assignment(name), clustering.assignment[name])
        return clustering

    def groups(self) -> list[Group]:
        """The types that are clustered together."""
        together = self.config.clusters.types
        require_known("clusters.types", together or (), self.run.vectors)
        return groups_of(self.run, self.default, together)

    def mixtures(self, clustering: Clustering, relations: Sequence[RelationEntry], bar: Stage) -> ClustersEntry:
        """The modes of every user over each group of types; needs the `relations` staged."""
        settings, interests = self.config.mixtures, list[InterestsEntry]()
        for number, group in enumerate(self.groups()):
            bar.note(f"of {group.user_type} among {', '.join(group.types)}")
            with_modes, without = self._mixtures_of(number, group, clustering, bar)
            interests.append(
                InterestsEntry(
                    types=group.types,
                    count=clustering.counts[number],
                    user_type=group.user_type,
                    users_with_modes=with_modes,
                    users_without_modes=without,
                )
            )
        return ClustersEntry(
            count=len(clustering.centroids),
            types=clustering.types,
            modes=settings.modes,
            mixture_type=interests[0].user_type,
            list_length=self.config.clusters.list_length,
            relation_weights=settings.relation_weights,
            edge_weights=settings.edge_weights,
            half_life=settings.half_life,
            clocks=self._clocks(relations),
            users_with_modes=interests[0].users_with_modes,
            users_without_modes=interests[0].users_without_modes,
            interests=tuple(interests),
        )

    def _mixtures_of(self, number: int, group: Group, clustering: Clustering, bar: Stage) -> tuple[int, int]:
        """Write the modes of a group's users; how many have some, and how many have none in spite of their edges."""
        engagements = self._engagements(group, clustering)
        settings = self.config.mixtures
        counting = Counting(
            modes=settings.modes,
            n_clusters=len(clustering.centroids),
            edge_weights=settings.edge_weights,
            half_life=settings.half_life,
        )
        made = build_mixtures(engagements, self.counts[group.user_type], counting)
        if settings.smoothing is not None:
            smoothing = Smoothing(settings.smoothing.neighbours, settings.smoothing.share)
            own = [self.work.directory / f"own-{number}.{part}.npy" for part in MIXTURE_PARTS]
            made = smooth(write_mixtures(made, own, bar), self.run.vectors[group.user_type], smoothing, counting)
        files = [self.layout.mixtures(part, group.types[0] if number else None) for part in MIXTURE_PARTS]
        mixtures = write_mixtures(made, [self.writer.path(file) for file in files], bar)
        for file in files:
            self.writer.add(file)
        with_modes, without = 0, 0
        n_users = self.counts[group.user_type]
        for rows in (slice(first, min(first + BLOCK_USERS, n_users)) for first in range(0, n_users, BLOCK_USERS)):
            modes = np.diff(mixtures.indptr[rows.start : rows.stop + 1]) > 0
            with_modes += int(np.count_nonzero(modes))
            without += int(np.count_nonzero(self._have_edges(group, rows) & ~modes))
        return with_modes, without

    def _have_edges(self, group: Group, users: slice) -> Bool[npt.NDArray[np.bool_], " users"]:
        """Who of the group's users has a training edge that leads to its types."""
        engaged = np.zeros(users.stop - users.start, dtype=np.bool_)
        for position in self._counted(group):
            indptr = map_array(self.writer.path(self.layout.edges(position, "targets")[0]))
            engaged |= np.diff(indptr[users.start : users.stop + 1]) > 0
        return engaged

    def warnings(self, clusters: ClustersEntry) -> Iterator[str]:
        """What a person should know of the mixtures: types left out, users with edges and without modes, times in odd
        units."""
        if left := not_clustered(self.run, clusters.types):
            names = ", ".join(left[:20]) + (", …" if len(left) > 20 else "")
            yield (
                f"{len(left):,} target types were not clustered, as at most {MOST_TYPES} are: {names}. Nobody has "
                "modes there: relations to them are answered by strategies without modes. Name the types that shall "
                "have them in clusters.types."
            )
        for one in clusters.interests:
            if one.users_without_modes:
                engaged = one.users_without_modes + (one.users_with_modes or 0)
                yield (
                    f"{one.users_without_modes:,} of {engaged:,} entities of {one.user_type} with edges to "
                    f"{', '.join(one.types)} ({one.users_without_modes / engaged:.1%}) have no modes there: all that "
                    "they engaged with weighs nothing. They are answered by strategies without modes."
                )
        if self.config.mixtures.half_life is not None:
            counted = [one for group in self.groups() for one in self._counted(group).values()]
            yield from time_warnings({one.name: one.train.time for one in counted}, self.config.mixtures.half_life)

    def _engagements(self, group: Group, clustering: Clustering) -> list[Engagements]:
        weights = self.config.mixtures.relation_weights
        require_known("mixtures.relation_weights", list(weights), [one.name for one in self.run.graph.relations])
        relations, mapped = self._counted(group), self._mapped_times(group)
        return [
            Engagements(
                self._targets(position),
                clustering.assignment[one.target],
                float(weights.get(one.name, 1.0)),
                time,
                clock,
            )
            for (position, one), time, clock in zip(relations.items(), mapped, clocks(mapped), strict=True)
        ]

    def _counted(self, group: Group) -> dict[int, PreparedRelation]:
        """The relations whose edges count in a group's mixtures, by position."""
        return {
            position: one
            for position, one in enumerate(self.run.graph.relations)
            if one.source == group.user_type and one.target in group.types
        }

    def _mapped_times(self, group: Group) -> list[AnyArray | None]:
        """When the edges of each of them were made, in step with those by source; None of one without times."""
        files = [self._times_file(position) for position in self._counted(group)]
        return [map_array(file) if file.exists() else None for file in files]

    def _clocks(self, relations: Sequence[RelationEntry]) -> dict[str, Clock]:
        """The clock of each relation that counts by age, whose times go into the version: in mixtures, and where what a
        user has by it tells of another relation."""
        needed = {name for one in relations for name in one.elsewhere}
        if self.config.mixtures.half_life is not None:
            needed |= {one.name for group in self.groups() for one in self._counted(group).values()}
        files = {position: self._times_file(position) for position, one in enumerate(relations) if one.name in needed}
        mapped = {position: map_array(file) for position, file in files.items() if file.exists()}
        found = {}
        for (position, times), number in zip(mapped.items(), clocks(list(mapped.values())), strict=True):
            self.writer.array(self.layout.times(position), times)
            found[relations[position].name] = Clock(number=number, per_second=per_second(times))
        return found

    def lists(self, clustering: Clustering, entity_type: str, candidates: Bitmap | None) -> None:
        """The exact candidate lists of one type, of `candidates` alone, for centroid and medoid queries of the clusters
        that it is in; none of a type that no relation leads to."""
        if entity_type not in clustering.types:
            return
        own = self._clusters_of(entity_type, clustering)
        centroids = clustering.centroids[own]
        medoids = np.empty_like(centroids)
        for position, name in enumerate(clustering.types):
            of_type = clustering.medoid_types[own] == position
            medoids[of_type] = self.run.vectors[name][clustering.medoid_rows[own][of_type]]
        embeddings, length = self.run.vectors[entity_type], self.config.clusters.list_length
        queries: dict[ListQuery, Float32[npt.NDArray[np.float32], "clusters d"]]
        queries = {"centroid": centroids, "medoid": medoids}
        for query, vectors in queries.items():
            found = candidate_lists(vectors, embeddings, length, candidates)
            self.writer.array(self.layout.candidate_list(entity_type, query, "rows"), found.rows)
            self.writer.array(self.layout.candidate_list(entity_type, query, "scores"), found.scores)

    def _clusters_of(self, entity_type: str, clustering: Clustering) -> slice:
        """The clusters of the group that a type is in."""
        number = next(number for number, group in enumerate(self.groups()) if entity_type in group.types)
        first = sum(clustering.counts[:number])
        return slice(first, first + clustering.counts[number])

    def compression(self, entity_type: str, bar: Stage) -> CompressionEntry:
        """The codes of one type, with golden vectors for other decoders."""
        settings = self.config.compression
        parts = settings.subquantizers or default_subquantizers(self.run.dim)
        compression = compress(
            self.run.vectors[entity_type],
            parts,
            rotated=settings.rotated,
            training_vectors=settings.training_vectors,
            rng=np.random.default_rng(self.config.seed),
            device=self.device,
            room=lambda _, dtype, shape: self.writer.create(self.layout.pq(entity_type, "codes"), dtype, shape),
            bar=bar,
        )
        self.writer.array(self.layout.pq(entity_type, "codebooks"), compression.quantizer.codebooks)
        self.writer.add(self.layout.pq(entity_type, "codes"))
        self.writer.array(self.layout.pq(entity_type, "golden"), compression.golden)
        rotation = compression.quantizer.rotation
        if rotation is not None:
            self.writer.array(self.layout.pq(entity_type, "rotation"), rotation)
        return CompressionEntry(
            subquantizers=parts,
            rotated=rotation is not None,
            ratio=compression.ratio,
            mse=compression.mse,
            cosine=compression.cosine,
            tried=self._losses(entity_type, compression),
        )

    def _losses(self, entity_type: str, taken: Compression) -> tuple[CompressionPoint, ...]:
        """What other sizes would have lost; nothing under a limit on memory, whose plan has no room for it."""
        if self.config.memory is not None:
            return ()
        vectors, rotated = self.run.vectors[entity_type], self.config.compression.rotated
        return LossMeter.of(vectors, rotated=rotated, seed=self.config.seed, device=self.device).measure(taken)

    def map(self, progress: Progress) -> None:
        """The place of every entity on one map, unless the settings want none."""
        points = self.config.map.points
        if points:
            with progress.stage("Laying out the map", STEPS, "steps") as stage:

                def room(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> AnyArray:
                    return self.writer.create(self.layout.coordinates(name), dtype, shape)

                for name in lay_out(self.run.vectors, points, self.config.seed, stage, room):
                    self.writer.add(self.layout.coordinates(name))

    def query_maker(self, clustering: Clustering) -> QueryMaker:
        """Real queries over the staged edges."""
        targets = {position: self._targets(position) for position in range(len(self.run.graph.relations))}
        popular = frozenset(relation.target for relation in self.run.graph.relations)
        centroids = {name: clustering.centroids[self._clusters_of(name, clustering)] for name in clustering.types}
        return QueryMaker(self.run, targets, popular, centroids)

    def staged_vectors(self, entity_type: str) -> Float32[npt.NDArray[np.float32], "_ width"]:
        """The vectors of one type with their target-side columns, mapped from the version being written."""
        return map_array(self.writer.path(self.layout.vectors(entity_type)))
