"""Settings of `twhin build`, as read from a TOML file: targets first, every library parameter may be fixed by hand."""

import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pydantic import (
    ByteSize,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from bundle.errors import ConfigError
from bundle.records import Settings, settings_faults

Share = Annotated[float, Field(ge=0.0, le=1.0)]
# A sum of weighted edges stays far from the end of float64 on either side.
Weight = Annotated[float, Field(ge=0.0, le=1e9)]
# What k-means, HNSW and t-SNE take as a seed.
SEEDS = 2**31
IndexKind = Literal["exact", "hnsw", "ivf4", "ivf_sq8", "ivf_pq", "pq"]


class IndexConfig(Settings):
    """What the searchers must reach; the configuration that does it most cheaply is chosen.

    `kind` and the parameters below it fix what would otherwise be swept. `rows` is what scores are made of, `rows_loss`
    the recall that fewer bytes may cost.
    """

    target_recall: Share = 0.95
    recall_at: PositiveInt = 100
    memory_limit_bytes_per_vector: PositiveFloat | None = None
    prefer: Literal["speed", "memory"] = "speed"
    kind: Literal["auto", IndexKind] = "auto"
    depth: PositiveInt | None = None
    refine: PositiveFloat | None = None
    hnsw_links: Annotated[int, Field(ge=2)] | None = None
    hnsw_build_depth: PositiveInt | None = None
    ivf_lists: PositiveInt | None = None
    pq_subquantizers: PositiveInt | None = None
    popularity_scale: PositiveFloat = 0.3
    rows: Literal["auto", "float32", "float16", "int8"] = "auto"
    rows_loss: Share = 0.002
    queries: PositiveInt = 500


class CandidatesConfig(Settings):
    """Which entities may be answered: those with so many training edges into them, over all relations to their type,
    and at most `max_count` of a type, those with most. They are all by default.
    """

    min_in_degree: NonNegativeInt = 0
    max_count: PositiveInt | None = None


class ClusterConfig(Settings):
    """The k-means of each target type; those of `types` have one together. `count` is of each, at most as many as there
    are entities, and by a rule on size by default."""

    count: PositiveInt | None = None
    types: tuple[str, ...] | None = None
    iterations: PositiveInt = 20
    points_per_centroid: PositiveInt = 256
    list_length: NonNegativeInt = 1000


class SmoothingConfig(Settings):
    """kNN-Embed: a user's mixture is mixed with those of the nearest users, `share` being the neighbours' part."""

    neighbours: PositiveInt = 10
    share: Share = 0.2


class MixtureConfig(Settings):
    """How engagements become modes: how many, and what an engagement counts.

    `half_life` is in the unit of the graph's time column: an engagement that old counts one half.
    """

    modes: PositiveInt = 10
    relation_weights: dict[str, Weight] = {}
    edge_weights: bool = False
    half_life: PositiveFloat | None = None
    smoothing: SmoothingConfig | None = None


class CompressionConfig(Settings):
    """Product quantisation of the embeddings: 4·d/`subquantizers` times smaller; `rotated` learns an OPQ rotation."""

    subquantizers: PositiveInt | None = None
    rotated: bool = False
    training_vectors: PositiveInt = 32_768


class MapConfig(Settings):
    """The map of all entities. `points` are laid out by what is near what, the others beside them; 0: no map."""

    points: NonNegativeInt = 10_000


class BuildConfig(Settings):
    """All settings of a build. `default_relation` is what `/recommend` ranks by when a request names none; `memory`
    the private memory that the process may use, no limit by default.
    """

    default_relation: str | None = None
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 1
    threads: NonNegativeInt = 0
    memory: ByteSize | None = None
    index: IndexConfig = IndexConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    clusters: ClusterConfig = ClusterConfig()
    mixtures: MixtureConfig = MixtureConfig()
    compression: CompressionConfig = CompressionConfig()
    map: MapConfig = MapConfig()

    @property
    def thread_count(self) -> int:
        """Threads to build with."""
        return self.threads or len(os.sched_getaffinity(0))

    def digest(self) -> str:
        """SHA-256 of the settings in hexadecimal, of all but the memory: it is the machine's."""
        return hashlib.sha256(self.model_dump_json(exclude={"memory"}).encode()).hexdigest()


def require_known(key: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raises ConfigError when a setting names what the run does not have, or one thing twice."""
    wrong = [name for name in names if name not in known or list(names).count(name) > 1]
    if wrong:
        raise ConfigError(
            f"{key}: {wrong[0]!a:.80} is unknown or named twice; the run has: {', '.join(sorted(known)[:20])}."
        )


def parse_config(settings: dict[str, object], where: str) -> BuildConfig:
    """Check settings that came from `where`. Raises ConfigError naming the key."""
    try:
        return BuildConfig.model_validate(settings)
    except ValidationError as error:
        faults = settings_faults(BuildConfig, error)
        raise ConfigError(f"{where}: {faults} docs/indexes.md lists the keys.") from error
