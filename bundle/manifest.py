"""The manifest of a version: what it holds, where it came from, what it was measured to do.

It is written last and is the version's commit. `docs/bundle-format.md` is the normative text, `bundle/manifest_file.py`
reads it.
"""

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NonNegativeFloat, PositiveFloat, model_validator

from bundle.attributes import AttributeEntry
from bundle.ids import IdKind
from bundle.layout import PART_NAME
from bundle.records import Record
from bundle.rows import CompactKind

# What is written. Version 1 has learnt strategies for its default relation alone.
FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)
# A path in the version: no part begins with a dot, so none leads out of it.
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
# What every JSON reader takes as it stands, and more than any array can have.
MAX_COUNT = 2**53
# Of a warm start of a warm start, and so on.
MOST_ANCESTORS = 100
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)

PartName = Annotated[str, Field(pattern=PART_NAME)]
FileName = Annotated[str, Field(pattern=FILE_NAME, max_length=255)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Share = Annotated[float, Field(ge=0, le=1)]
ModeVector = Literal["centroid", "medoid", "personal"]
Feature = Literal[  # what each is: recommend/rescoring.py
    "user",
    "fold_in",
    "damped_fold_in",
    "followers",
    "relation",
    "length",
    "nearest_target",
    "three_nearest_targets",
    "soft_nearest_target",
    "nearest_follower",
    "reciprocity",
    "in_degree",
    "out_degree",
    "user_out_degree",
    "user_in_degree",
    "followed_by_targets",  # these and the following: recommend/paths.py
    "followed_by_followers",
    "following_targets",
    "following_followers",
    "damped_followed_by_targets",
    "damped_followed_by_followers",
    "damped_following_targets",
    "damped_following_followers",
    "walk",
    "root_walk",
    "other_relations",
    "elsewhere",
    "recency",
]


class Model(Record, allow_inf_nan=False):
    """A part of the manifest. Its numbers are finite: another would be written as null and could not be read back."""


class FileEntry(Model):
    """One file of the version. `dtype` and `shape` only for `.npy` files."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: Count
    dtype: str | None = None
    shape: tuple[Count, ...] | None = None


class EntityEntry(Model):
    """One entity type of a space."""

    name: PartName
    id: IdKind
    count: Count
    attributes: tuple[AttributeEntry, ...] = ()


class RelationEntry(Model):
    """One relation; its position in the list is its row in `relations.npy` and its number in `edges/`.

    `elsewhere` are other relations between the same types whose edges tell of this one's: by name, the share of their
    edges that is an edge of this one too, less what chance would make.
    """

    name: str
    source: PartName
    target: PartName
    symmetric: bool = False
    coverage: Literal["high", "low"] = "high"
    edges: Count = 0
    elsewhere: dict[str, Share] = {}


class QueryWeights(Model):
    """Weights of the terms of a query vector and of its score; learnt on validation edges at build time.

    For a user u, a mode c and a relation r the query is
    `user·θu + fold_in·mean(θ of u's targets) + mode·v_c + relation·θr`, with one more coordinate
    `popularity` that meets the index's popularity column; `reciprocity` is added to a candidate that
    already has an edge of r to u, and to one that u has by other relations
    `max(0, elsewhere · ln(1 + 1000 s) + recency · ln(1 + 1000 f))`, where s sums what `RelationEntry.elsewhere` says of
    these, and f the same over the places of u's engagements from the newest on; see `recommend/elsewhere.py`.
    """

    user: float = 0.0
    fold_in: float = 0.0
    mode: float = 0.0
    relation: float = 0.0
    popularity: float = 0.0
    reciprocity: float = 0.0
    elsewhere: float = 0.0
    recency: float = 0.0


class Neighbours(Model):
    """What the `users` likest to one have, at most `candidates` of it, joins a search's: `recommend/neighbours.py`."""

    users: Positive
    candidates: Positive


class Rescoring(Model):
    """A network of one hidden layer that orders the `pool` best candidates of a search and those that `neighbours`
    add; see `recommend/rescoring.py`.

    `out · max(0, hidden x + bias)` with `x = (features - mean) · scale`; learnt on validation edges at build time.
    """

    pool: Positive
    features: tuple[Feature, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    hidden: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    out: tuple[float, ...]
    neighbours: Neighbours | None = None

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Rescoring":
        width, height = len(self.features), len(self.hidden)
        inputs = {len(part) for part in (self.mean, self.scale, *self.hidden)}
        if inputs != {width} or {len(self.bias), len(self.out)} != {height}:
            raise ValueError(f"the network's arrays do not fit {width} features and {height} hidden units")
        return self


class Strategy(Model):
    """How candidates are found: one query, one query a mode, or the most popular targets.

    `rescoring`, for a single query, orders its candidates anew.
    """

    merge: Literal["single", "proportional", "popular"]
    mode_vector: ModeVector | None = None
    modes: Positive | None = None
    weights: QueryWeights = QueryWeights()
    rescoring: Rescoring | None = None

    @property
    def precomputed(self) -> bool:
        """Whether the query depends on the cluster alone, so that its candidates are stored in the bundle."""
        others = (self.weights.user, self.weights.fold_in, self.weights.relation, self.weights.popularity)
        return self.mode_vector in ("centroid", "medoid") and not any(others)


IndexKind = Literal["exact", "hnsw", "ivf4", "ivf_sq8", "ivf_pq", "pq"]


class TriedIndex(Model):
    """A searcher that a build tried: what a query found and cost on the queries of the choice; whether it was taken."""

    kind: IndexKind
    depth: Positive
    recall: float
    cpu_us_per_query: float
    bytes_per_vector: float
    taken: bool = False


class IndexEntry(Model):
    """The searcher of one candidate type: what it is, its file, its default depth, what it was measured to do.

    `tried` are those among which it was chosen: the ones that no other beat, by rising recall, and the one taken.
    """

    kind: IndexKind
    file: FileName | None = None
    parameters: dict[str, int | float | str | bool] = {}
    depth: Positive
    recall: dict[str, float] = {}
    cpu_us_per_query: float | None = None
    bytes_per_vector: float | None = None
    tried: tuple[TriedIndex, ...] = ()


class RowsEntry(Model):
    """The compact rows of one entity type, from which its scores are made: their form, and the recall that it costs.

    `recall` is the searcher's with them, `recall_loss` what it finds less than with float32, on the same queries.
    """

    kind: CompactKind
    bytes_per_vector: float
    recall: float
    recall_loss: float


class CandidatesEntry(Model):
    """Which entities of a type may be answered: `count` of them, chosen by these settings of the build."""

    count: Positive
    min_in_degree: Count
    max_count: Positive | None = None


class CompressionPoint(Model):
    """What one way to keep a vector in fewer bytes loses, measured by the build on a sample of the type.

    `cosine` is the mean between vectors and what is read back, `neighbours` the mean share of a vector's ten nearest
    that are still among them. `taken` is the code that the version has.
    """

    kind: Literal["pq"] | CompactKind
    bytes_per_vector: float
    cosine: float
    neighbours: float
    taken: bool = False


class CompressionEntry(Model):
    """The product quantiser of one entity type. `tried` are other sizes and forms beside it, where there are many
    vectors; versions built before have none.
    """

    subquantizers: Positive
    bits: Literal[8] = 8
    rotated: bool
    ratio: float
    mse: float
    cosine: float
    tried: tuple[CompressionPoint, ...] = ()


class Clock(Model):
    """What the times of a relation's edges are counted in: relations of one `number` have one unit, of which a second
    is `per_second`, where that could be told.
    """

    number: Count
    per_second: PositiveFloat | None = None


class InterestsEntry(Model):
    """Target types that were clustered together, how many clusters they have, and the entity type whose mixtures over
    these are stored.

    Users without modes are those who have edges to the types all the same.
    """

    types: tuple[PartName, ...]
    count: Positive
    user_type: PartName
    users_with_modes: Count | None = None
    users_without_modes: Count | None = None


class ClustersEntry(Model):
    """The clusters of a space: of all its target types, a k-means for each of the `interests`, one after the other.

    An engagement counts in a mixture what `relation_weights` says of its relation (1 where it says nothing), times the
    edge's own weight where `edge_weights` is set, and half as much for each `half_life` that it is older than the
    user's newest on the same of the `clocks`, by relation. `mixture_type` and the counts of users are those of the
    first of the `interests`; versions of earlier releases have one of all and do not name it.
    """

    count: Positive
    types: tuple[PartName, ...]
    modes: Positive
    mixture_type: PartName
    list_length: Count
    relation_weights: dict[str, NonNegativeFloat] = {}
    edge_weights: bool = False
    half_life: PositiveFloat | None = None
    clocks: dict[str, Clock] = {}
    users_with_modes: Count | None = None
    users_without_modes: Count | None = None
    interests: tuple[InterestsEntry, ...] = ()

    @property
    def all_interests(self) -> tuple[InterestsEntry, ...]:
        """The interests, in the order of their clusters, also of a version that does not name them."""
        return self.interests or (
            InterestsEntry(
                types=self.types,
                count=self.count,
                user_type=self.mixture_type,
                users_with_modes=self.users_with_modes,
                users_without_modes=self.users_without_modes,
            ),
        )


class DefaultQuery(Model):
    """What `/recommend` answers when the request names nothing."""

    relation: str
    user_type: PartName
    candidate_type: PartName


class RelationStrategies(Model):
    """How a relation besides the default one is answered: its own strategies, and the best of them.

    `fallback` says why nothing was learnt for it, where that is so.
    """

    strategies: dict[PartName, Strategy]
    auto: PartName
    auto_newcomer: PartName | None = None
    fallback: str | None = None


class SpaceEntry(Model):
    """One embedding space: self-contained, with its own ids, vectors, clusters and indexes.

    `strategies`, `auto`, `auto_newcomer` and `fallback` are those of the default relation; the other relations stand in
    `relation_strategies`, which versions of format 1 have not.
    """

    dim: Positive
    columns: tuple[Literal["embedding", "popularity"], ...] = ("embedding", "popularity")
    entities: tuple[EntityEntry, ...]
    relations: tuple[RelationEntry, ...]
    default: DefaultQuery
    clusters: ClustersEntry
    compression: dict[PartName, CompressionEntry]
    indexes: dict[PartName, IndexEntry]
    rows: dict[PartName, RowsEntry] = {}  # of a type that is not named: float32
    candidates: dict[PartName, CandidatesEntry] = {}  # of a type that is not named: all
    strategies: dict[PartName, Strategy]
    auto: PartName
    auto_newcomer: PartName | None = None  # `auto` for users unknown to training; absent: the same
    fallback: str | None = None
    relation_strategies: dict[str, RelationStrategies] = {}

    def answers(self, relation: str) -> RelationStrategies | None:
        """How a relation is answered; None for one that the version says nothing of."""
        if relation == self.default.relation:
            return RelationStrategies(
                strategies=self.strategies,
                auto=self.auto,
                auto_newcomer=self.auto_newcomer,
                fallback=self.fallback,
            )
        return self.relation_strategies.get(relation)

    @property
    def width(self) -> int:
        """Columns of `vectors/<type>.npy`: the embedding, then one for the popularity term."""
        return self.dim + len(self.columns) - 1


class Origin(Model):
    """The run that a space was made of; digests are SHA-256 in hexadecimal.

    `parent` is what the run was warm started from, the first of its `ancestors`: what that was warm started from comes
    next, and so on, MOST_ANCESTORS at the most. Versions of earlier releases have the parent alone.
    """

    graph_digest: str
    training_config_digest: str
    parent: str | None = None
    ancestors: tuple[str, ...] = ()
    code_revision: str | None = None

    @property
    def line(self) -> tuple[str, ...]:
        """The ancestors, the nearest first, as far as they are known."""
        return self.ancestors or ((self.parent,) if self.parent is not None else ())


class Lineage(Origin):
    """Where the version came from: the run of its first space, and by name those of the `others`."""

    build_config_digest: str
    others: dict[PartName, Origin] = {}


class Gate(Model):
    """The measurement that decides whether the version may be published."""

    metric: str
    floor: float
    measured: float
    forced: str | None = None

    @property
    def passed(self) -> bool:
        return self.measured >= self.floor


class Measured(Model):
    """What was measured of one relation: strategies and baselines by name.

    `newcomers` are the strategies again, for users shown with a few engagements alone, half of them with followers.
    """

    strategies: dict[str, dict[str, float]] = {}
    baselines: dict[str, dict[str, float]] = {}
    newcomers: dict[str, dict[str, float]] = {}


class TypeDrift(Model):
    """How far the entities of one type that both versions have moved from the earlier to the later.

    `cosine` of old and new vectors and `distance` between them in units of the old length, both means; `neighbours` is
    the mean share of an entity's ten nearest that stayed, `clusters` the share of entities nearest to another of the
    earlier version's centres than before.
    """

    kept: Count
    added: Count
    removed: Count
    cosine: float
    distance: float
    neighbours: float
    clusters: float


class Drift(Model):
    """How far the vectors moved since the version that training was warm started from."""

    since: str
    types: dict[PartName, TypeDrift]


class Evaluation(Measured):
    """What was measured on this version before its manifest was written: of its default relation, and by name of the
    `relations` besides; and how far it is from the version before.
    """

    gates: tuple[Gate, ...] = ()
    relations: dict[str, Measured] = {}
    drift: Drift | None = None

    def of(self, relation: str, default: str) -> Measured:
        """What was measured of `relation`; nothing where nothing was."""
        return self if relation == default else self.relations.get(relation, Measured())


class SpaceWeights(Model):
    """How several spaces answer one relation together: what the ranks of each weigh.

    `measured` are the spaces alone, by name, and `together`, on users who did not teach. `fallback` says why nothing
    was learnt and the weights are alike.
    """

    weights: dict[PartName, NonNegativeFloat]
    measured: dict[str, dict[str, float]] = {}
    fallback: str | None = None


class Manifest(Model):
    """`manifest.json`."""

    format_version: int = FORMAT_VERSION
    version: str
    created: AwareDatetime
    metric: Literal["inner_product"] = "inner_product"
    lineage: Lineage
    spaces: Annotated[dict[PartName, SpaceEntry], Field(min_length=1)]
    files: dict[FileName, FileEntry]
    evaluation: Evaluation = Evaluation()
    together: dict[str, SpaceWeights] = {}  # by relation, where the version holds several spaces
