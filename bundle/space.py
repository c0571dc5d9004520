"""One embedding space in memory: mapped arrays behind names, everything a request needs to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, Integer, UInt8

from bundle.attributes import Attribute, Labels
from bundle.csr import Csr
from bundle.errors import QueryError
from bundle.ids import IdTable
from bundle.layout import ListQuery
from bundle.manifest import InterestsEntry, Manifest, RelationEntry, SpaceEntry
from bundle.pq import ProductQuantizer
from bundle.rows import CompactRows, ScoredRows

Vectors = Float32[npt.NDArray[np.float32], "n width"]


@dataclass(frozen=True, slots=True)
class EntityTable:
    """The entities of one type. `vectors` has the embedding first, then the target-side columns; `compact` is the
    same in fewer bytes, where the version makes its scores of these; `coordinates` are places on the version's map;
    `candidates` has a bit for each row that may be answered (`index.search.eligible`), None where all may."""

    name: str
    ids: IdTable
    vectors: Vectors
    dim: int
    quantizer: ProductQuantizer | None = None
    codes: UInt8[npt.NDArray[np.uint8], "n parts"] | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    coordinates: Float32[npt.NDArray[np.float32], "n 2"] | None = None
    compact: CompactRows | None = None
    candidates: UInt8[npt.NDArray[np.uint8], " bytes"] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def label(self, row: int) -> str | None:
        """What the entity of `row` is called, where its type has labels and it has one."""
        texts = (one.text(row) for one in self.attributes.values() if isinstance(one, Labels))
        return next(filter(None, texts), None)

    @property
    def scored(self) -> ScoredRows:
        """The vectors that queries and scores are made of; `vectors` themselves unless there are compact ones."""
        return self.vectors if self.compact is None else self.compact

    def scored_embeddings(self, rows: int | Integer[npt.NDArray[np.integer], " n"]) -> npt.NDArray[np.float32]:
        """The embeddings of some rows as scores are made of them."""
        return self.embeddings[rows] if self.compact is None else self.compact[rows][..., : self.dim]

    @property
    def embeddings(self) -> Float32[npt.NDArray[np.float32], "n dim"]:
        """The embeddings alone: a view, no copy."""
        return self.vectors[:, : self.dim]


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: its two vectors and its training edges by source and by target.

    `forward` is θr of eq. 1, added to a source when targets are ranked; `inverse` is added to a target
    when sources are ranked. A symmetric relation has each edge in both directions. `times` are in step with `targets`,
    where the version counts by age.
    """

    entry: RelationEntry
    position: int
    forward: Float32[npt.NDArray[np.float32], " dim"]
    inverse: Float32[npt.NDArray[np.float32], " dim"]
    targets: Csr
    sources: Csr
    popular: Int32[npt.NDArray[np.int32], " top"]
    times: Int64[npt.NDArray[np.int64], " edges"] | None = None


@dataclass(frozen=True, slots=True)
class CandidateLists:
    """For every cluster of a type its best targets by inner product with the cluster's vector, best first, exact. Row 0
    is that of cluster `first`."""

    rows: Int32[npt.NDArray[np.int32], "clusters length"]
    scores: Float32[npt.NDArray[np.float32], "clusters length"]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Interests:
    """What users like among some target types: their mixtures over the clusters of these, from `first` on.

    The rows of `mixtures` are entities of `entry.user_type`, its indices clusters, heaviest first, its weights shares.
    `answers_all`: relations to other types are answered by them too, as in versions that do not name `interests`.
    """

    entry: InterestsEntry
    first: int
    mixtures: Csr
    answers_all: bool = False

    @property
    def among(self) -> str | None:
        """What their files are named by; None for the first."""
        return self.entry.types[0] if self.first else None

    @property
    def clusters(self) -> range:
        """The numbers of the clusters."""
        return range(self.first, self.first + self.entry.count)


def interests_among(interests: Sequence[Interests], target_type: str) -> Interests | None:
    """Those that count engagements with a target type; None where it was not clustered: nobody has modes there."""
    own = next((one for one in interests if target_type in one.entry.types), None)
    return own or next((one for one in interests if one.answers_all), None)


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of all target types, a k-means for each of the `interests`, numbered through.

    `assignment[type][row]` is a cluster, -1 outside of all.
    """

    centroids: Float32[npt.NDArray[np.float32], "clusters dim"]
    medoid_types: UInt8[npt.NDArray[np.uint8], " clusters"]
    medoid_rows: Int32[npt.NDArray[np.int32], " clusters"]
    sizes: Int64[npt.NDArray[np.int64], " clusters"]
    types: tuple[str, ...]
    assignment: Mapping[str, Int32[npt.NDArray[np.int32], " n"]]
    interests: tuple[Interests, ...]
    lists: Mapping[tuple[str, ListQuery], CandidateLists]

    def interests_in(self, target_type: str) -> Interests:
        """Those that count engagements with a target type. Raises QueryError naming the types where there are none."""
        own = interests_among(self.interests, target_type)
        if own is None:
            known = ", ".join(self.types[:20])
            raise QueryError(f"this type was not clustered in this space, so nobody has interests in it; were: {known}")
        return own


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Space:
    """A space of a version, ready to answer: look-ups never fail half-way because all of it is one version."""

    name: str
    entry: SpaceEntry
    entities: Mapping[str, EntityTable]
    relations: Mapping[str, Relation]
    clusters: Clusters

    def table(self, entity_type: str) -> EntityTable:
        """The entities of `entity_type`. Raises QueryError naming the types there are."""
        try:
            return self.entities[entity_type]
        except KeyError:
            known = ", ".join(sorted(self.entities))
            raise QueryError(f"no such entity type in this space; it has: {known}") from None

    def relation(self, name: str) -> Relation:
        """The relation called `name`. Raises QueryError naming (some of) the relations there are."""
        try:
            return self.relations[name]
        except KeyError:
            known = ", ".join(list(self.relations)[:20])
            raise QueryError(f"no such relation in this space; it has: {known}") from None

    def counted_with(self, relation: Relation) -> list[Relation]:
        """The relations whose edges count in the interests that `relation` is answered by: of the same users, to types
        that were clustered with its targets."""
        own, source = interests_among(self.clusters.interests, relation.entry.target), relation.entry.source
        types = own.entry.types if own else ()
        return [one for one in self.relations.values() if one.entry.source == source and one.entry.target in types]


@dataclass(frozen=True, slots=True)
class Bundle:
    """One opened version. Immutable; a request holds one from start to end."""

    path: Path
    manifest: Manifest
    spaces: Mapping[str, Space]

    @property
    def version(self) -> str:
        return self.manifest.version

    def space(self, name: str | None = None) -> Space:
        """The space called `name`, the first one by default. Raises QueryError naming the spaces there are."""
        if name is None:
            return next(iter(self.spaces.values()))
        try:
            return self.spaces[name]
        except KeyError:
            raise QueryError(f"no such space in this version; it has: {', '.join(self.spaces)}") from None
