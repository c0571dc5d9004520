"""How far vectors moved between two versions: per entity type and degree, in neighbourhoods, in clusters."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import UsageError
from bundle.ids import matching_rows
from bundle.manifest import Drift
from bundle.manifest import TypeDrift as TypeDriftEntry
from bundle.progress import SILENT, Progress
from bundle.records import Record
from bundle.trained import TrainedTable, open_trained

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
BLOCK = 2**14
DEGREE_EDGES = (0, 1, 4, 16, 64, 256)
SAMPLE = 1000
# Scores held at a time.
SCORES = 2**24
CLUSTERS = 64


class Movement(Record):
    """Change of `entities` vectors: Euclidean distance, the same relative to the old length, cosine of old and new."""

    entities: int
    l2_mean: float
    l2_p95: float
    relative_l2_mean: float
    cosine_mean: float


class DegreeMovement(Record):
    """Movement of the entities with `from_degree` to `to_degree` edges (None: no upper end) in the new version."""

    from_degree: int
    to_degree: int | None
    movement: Movement


class TypeDrift(Record):
    """One entity type. `neighbour_overlap` is the mean share of an entity's k nearest (inner product) that stayed;
    `cluster_churn` the share of entities nearest to another of the old version's cluster centres than before."""

    entity_type: str
    kept: int
    added: int
    removed: int
    movement: Movement
    by_degree: tuple[DegreeMovement, ...]
    neighbour_overlap: float
    cluster_churn: float


class DriftReport(Record):
    """What `twhin evaluate drift` prints. `relation_cosine` compares θr of the relations that both versions have."""

    old: str
    new: str
    k: int
    types: tuple[TypeDrift, ...]
    relation_cosine: dict[str, float]


@dataclass(frozen=True, slots=True)
class Common:
    """The entities that both versions have: old and new vectors, degrees in the new one; how many came and went."""

    old: Float32[F32, "c d"]
    new: Float32[F32, "c d"]
    degree: Int64[I64, " c"]
    added: int
    removed: int


def evaluate_drift(old: Path, new: Path, *, k: int = 10, seed: int = 1, progress: Progress = SILENT) -> DriftReport:
    """Compare two run directories or versions by external id.

    Neighbourhoods are those of 1,000 sampled entities a type. Raises UsageError when the dimensions differ or nothing
    is common, RunError or BundleError for a directory that cannot be read.
    """
    before, after = open_trained(old, progress), open_trained(new, progress)
    if before.dim != after.dim:
        raise UsageError(f"{old} has {before.dim} dimensions, {new} has {after.dim}: they cannot be compared.")
    names = [name for name in after.tables if name in before.tables]
    if not names:
        raise UsageError(f"{old} and {new} have no entity type in common.")
    types, degrees = [], after.degrees()
    with progress.stage("drift", len(names), "types") as stage:
        for name in names:
            common = _common(before.tables[name], after.tables[name], degrees[name])
            types.append(_type_drift(name, common, k, np.random.default_rng(seed)))
            stage.advance()
    cosines = {
        name: _cosine(before.relations[name].vectors.ravel(), relation.vectors.ravel())
        for name, relation in after.relations.items()
        if name in before.relations
    }
    return DriftReport(old=str(old), new=str(new), k=k, types=tuple(types), relation_cosine=cosines)


def drift_entry(report: DriftReport, since: str) -> Drift:
    """What a version's manifest says of the drift since the version called `since`."""
    types = {
        one.entity_type: TypeDriftEntry(
            kept=one.kept,
            added=one.added,
            removed=one.removed,
            cosine=round(one.movement.cosine_mean, 5),
            distance=round(one.movement.relative_l2_mean, 5),
            neighbours=round(one.neighbour_overlap, 5),
            clusters=round(one.cluster_churn, 5),
        )
        for one in report.types
    }
    return Drift(since=since, types=types)


def movement(old: Float32[F32, "c d"], new: Float32[F32, "c d"]) -> Movement:
    """Summary of the change between two tables, row by row."""
    if len(old) == 0:
        return Movement(entities=0, l2_mean=0.0, l2_p95=0.0, relative_l2_mean=0.0, cosine_mean=1.0)
    distance = np.linalg.norm(new - old, axis=1)
    lengths = np.linalg.norm(old, axis=1), np.linalg.norm(new, axis=1)
    cosine = (old * new).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    return Movement(
        entities=len(old),
        l2_mean=float(distance.mean()),
        l2_p95=float(np.quantile(distance, 0.95)),
        relative_l2_mean=float((distance / np.maximum(lengths[0], 1e-12)).mean()),
        cosine_mean=float(cosine.mean()),
    )


def neighbour_overlap(old: Float32[F32, "c d"], new: Float32[F32, "c d"], k: int, rng: np.random.Generator) -> float:
    """Mean share of the k nearest others by inner product that both tables agree on, over sampled rows."""
    k = min(k, len(old) - 1)
    if k < 1:
        return 1.0
    sample = rng.choice(len(old), min(SAMPLE, len(old)), replace=False)
    shared = []
    step = max(1, min(256, SCORES // len(old)))
    for start in range(0, len(sample), step):
        rows = sample[start : start + step]
        first, second = _nearest(old, rows, k), _nearest(new, rows, k)
        shared += [len(np.intersect1d(a, b)) / k for a, b in zip(first, second, strict=True)]
    return float(np.mean(shared))


def cluster_churn(old: Float32[F32, "c d"], new: Float32[F32, "c d"], rng: np.random.Generator) -> float:
    """Share of rows whose nearest centre changed; the centres are k-means' of the old table."""
    if len(old) < 2:
        return 0.0
    centres = k_means(old, min(CLUSTERS, max(1, len(old) // 8)), rng)
    return float(np.mean(_assign(old, centres) != _assign(new, centres)))


def k_means(points: Float32[F32, "c d"], k: int, rng: np.random.Generator, rounds: int = 10) -> Float32[F32, "k d"]:
    """Centres by Lloyd's rounds on at most 20,000 sampled points; an empty cluster keeps its centre."""
    sample = points[rng.choice(len(points), min(20_000, len(points)), replace=False)]
    centres = sample[rng.choice(len(sample), k, replace=False)].copy()
    for _ in range(rounds):
        nearest = _assign(sample, centres)
        for c in np.unique(nearest):
            centres[c] = sample[nearest == c].mean(axis=0)
    return centres


def _assign(points: F32, centres: F32) -> I64:
    bias = (centres * centres).sum(axis=1) / 2
    blocks = [points[start : start + BLOCK] @ centres.T - bias for start in range(0, len(points), BLOCK)]
    return np.concatenate([block.argmax(axis=1) for block in blocks])


def _nearest(table: F32, rows: I64, k: int) -> I64:
    scores = table[rows] @ table.T
    scores[np.arange(len(rows)), rows] = -np.inf
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _type_drift(name: str, common: Common, k: int, rng: np.random.Generator) -> TypeDrift:
    bounds = [*DEGREE_EDGES, None]
    by_degree = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        inside = (common.degree >= (low or 0)) & (
            common.degree < (high if high is not None else np.iinfo(np.int64).max)
        )
        moved = movement(common.old[inside], common.new[inside])
        by_degree.append(
            DegreeMovement(from_degree=low or 0, to_degree=None if high is None else high - 1, movement=moved)
        )
    return TypeDrift(
        entity_type=name,
        kept=len(common.old),
        added=common.added,
        removed=common.removed,
        movement=movement(common.old, common.new),
        by_degree=tuple(item for item in by_degree if item.movement.entities),
        neighbour_overlap=neighbour_overlap(common.old, common.new, k, rng),
        cluster_churn=cluster_churn(common.old, common.new, rng),
    )


def _common(before: TrainedTable, after: TrainedTable, degrees: I64) -> Common:
    rows = matching_rows(after.ids, before.ids)
    kept = np.flatnonzero(rows >= 0)
    return Common(
        old=before.vectors[rows[kept]],
        new=after.vectors[kept],
        degree=degrees[kept],
        added=len(after.ids) - len(kept),
        removed=len(before.ids) - len(kept),
    )


def _cosine(one: F32, other: F32) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
