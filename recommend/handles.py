"""A space of a version as the compiled engine sees it: handles over the mapped arrays, made once."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Integer

from bundle.ids import IntIds, StringIds
from bundle.manifest import Neighbours, RelationEntry, Strategy
from bundle.space import EntityTable, Interests, Relation, Space, interests_among
from engine.native import Entities, Ids, Mixtures, Native
from engine.native import Relation as RelationHandle
from engine.native import Space as SpaceHandle
from engine.native import Strategy as StrategyHandle
from index.search.ranking import row_handle
from recommend.plan import UNNAMED, list_query
from recommend.profile import Profile
from recommend.queries import medoid_vectors
from recommend.rescoring import FEATURES, network_arrays
from recommend.types import Modes

# What the engine numbers, in its order: Merge, ModeVector (strategy.h).
MERGES = ("single", "proportional", "popular")
MODE_VECTORS = ("personal", "centroid", "medoid")
TERMS = ("user", "fold_in", "mode", "relation", "popularity", "reciprocity", "elsewhere", "recency")


class SpaceHandles:
    """The handles of one space: by name its relations, by type its ids. They keep the arrays alive."""

    def __init__(self, native: Native, space: Space) -> None:
        self._native, self._space = native, space
        self.ids = {name: _ids(native, table) for name, table in space.entities.items()}
        entities = {name: self._entities(table) for name, table in space.entities.items()}
        stored = {one.first: self._mixtures(one, entities) for one in space.clusters.interests}
        nobodys: dict[str, Mixtures] = {}

        def mixtures(relation: RelationEntry) -> Mixtures:
            own = interests_among(space.clusters.interests, relation.target)
            if own is not None:
                return stored[own.first]
            if relation.source not in nobodys:  # nobody has modes among targets that were not clustered
                nobodys[relation.source] = self._no_mixtures(
                    entities[relation.source], len(space.table(relation.source))
                )
            return nobodys[relation.source]

        self.relations = {
            name: self._relation(one, entities, mixtures(one.entry)) for name, one in space.relations.items()
        }
        self.handle = self._open()
        for handle in self.relations.values():
            native.add_relation(self.handle, handle)
        for name, handle in self.relations.items():
            native.find_ways(self.handle, handle)
            for other, share in space.relations[name].entry.elsewhere.items():
                native.add_elsewhere(handle, self.relations[other], share)
        self._strategies: dict[tuple[str, str], StrategyHandle] = {}

    def _entities(self, table: EntityTable) -> Entities:
        assignment = self._space.clusters.assignment.get(table.name)
        return self._native.entities(
            self.ids[table.name], row_handle(self._native, table.scored), table.dim, assignment
        )

    def _mixtures(self, one: Interests, entities: Mapping[str, Entities]) -> Mixtures:
        stored = one.mixtures
        shares = np.ones(len(stored.indices), dtype=np.float32) if stored.weights is None else stored.weights
        return self._native.mixtures(entities[one.entry.user_type], stored.indptr, stored.indices, shares)

    def _no_mixtures(self, of: Entities, count: int) -> Mixtures:
        nothing = np.empty(0, dtype=np.int32)
        return self._native.mixtures(of, np.zeros(count + 1, dtype=np.int64), nothing, nothing.astype(np.float32))

    def _relation(self, one: Relation, entities: Mapping[str, Entities], mixtures: Mixtures) -> RelationHandle:
        counting = self._space.entry.clusters
        clock = counting.clocks.get(one.entry.name)
        return self._native.relation(
            entities[one.entry.source],
            entities[one.entry.target],
            one.forward,
            one.targets.indptr,
            one.targets.indices,
            one.targets.weights,
            one.sources.indptr,
            one.sources.indices,
            one.popular,
            counting.relation_weights.get(one.entry.name, 1.0),
            int(counting.edge_weights),
            int(one.entry.symmetric),
            one.times,
            clock.number if clock is not None else 0,
            mixtures,
        )

    def _open(self) -> SpaceHandle:
        clusters = self._space.clusters
        every = np.arange(len(clusters.centroids), dtype=np.int32)
        medoids = medoid_vectors(self._space, Modes(every, np.ones(len(every), dtype=np.float32)))
        return self._native.space(
            clusters.centroids,
            medoids,
            self._space.entry.clusters.modes,
            self._space.entry.clusters.half_life or 0.0,
        )

    def strategy(self, name: str, strategy: Strategy, relation: RelationEntry) -> StrategyHandle:
        """The handle of a relation's strategy, made when it is first asked for; each relation has its own by a name.

        One without a name is made each time.
        """
        if name == UNNAMED:
            return self._make(strategy, relation.target)
        handle = self._strategies.get((name, relation.name))
        if handle is None:
            handle = self._strategies[name, relation.name] = self._make(strategy, relation.target)
        return handle

    def features(
        self, relation: Relation, profile: Profile, candidates: Integer[npt.NDArray[np.integer], " n"]
    ) -> Float32[npt.NDArray[np.float32], "n features"]:
        """What `recommend.rescoring.features_of` has of distinct candidates, to 1e-5."""
        found = np.empty((len(candidates), len(FEATURES)), dtype=np.float32)
        self._native.features(
            self.relations[relation.entry.name],
            -1 if profile.row is None else profile.row,
            None if profile.vector is None else np.ascontiguousarray(profile.vector),
            profile.targets.astype(np.int32),
            profile.followers(relation).astype(np.int32),
            profile.elsewhere.rows.astype(np.int32),
            profile.elsewhere.shares,
            profile.elsewhere.recencies,
            candidates.astype(np.int32),
            found,
        )
        return found

    def of_neighbours(
        self, relation: Relation, profile: Profile, wanted: Neighbours
    ) -> Int32[npt.NDArray[np.int32], " n"]:
        """What `recommend.neighbours.of_neighbours` has of what the user has not."""
        rows = np.empty(wanted.candidates, dtype=np.int32)
        targets = profile.targets.astype(np.int32)
        row = -1 if profile.row is None else profile.row
        handle = self.relations[relation.entry.name]
        return rows[: self._native.neighbours(handle, row, targets, wanted.users, rows)]

    def _make(self, strategy: Strategy, target: str) -> StrategyHandle:
        lists = self._space.clusters.lists.get((target, list_query(strategy))) if strategy.precomputed else None
        network = None if strategy.rescoring is None else network_arrays(strategy.rescoring)
        neighbours = None if strategy.rescoring is None else strategy.rescoring.neighbours
        return self._native.strategy(
            MERGES.index(strategy.merge),
            MODE_VECTORS.index(strategy.mode_vector or "personal"),
            np.array([getattr(strategy.weights, term) for term in TERMS], dtype=np.float64),
            None if lists is None else lists.rows,
            None if lists is None else lists.scores,
            0 if lists is None else lists.first,
            0 if strategy.rescoring is None else strategy.rescoring.pool,
            *((0, 0) if neighbours is None else (neighbours.users, neighbours.candidates)),
            *((None, None, None) if network is None else network),
        )


def _ids(native: Native, table: EntityTable) -> Ids:
    if isinstance(table.ids, StringIds):
        return native.text_ids(table.ids.offsets, table.ids.utf8)
    assert isinstance(table.ids, IntIds)  # noqa: S101 - there are two kinds
    return native.number_ids(table.ids.values)
