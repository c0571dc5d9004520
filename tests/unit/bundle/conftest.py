"""Small versions to publish, damage and remove."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bundle.csr import csr_from_pairs
from bundle.layout import SpaceLayout
from bundle.manifest import (
    ClustersEntry,
    DefaultQuery,
    EntityEntry,
    Evaluation,
    Gate,
    Lineage,
    Manifest,
    QueryWeights,
    RelationEntry,
    SpaceEntry,
    Strategy,
)
from bundle.writer import BundleWriter

LINEAGE = Lineage(graph_digest="0" * 64, training_config_digest="0" * 64, build_config_digest="0" * 64)
N, DIM = 3, 2
SPACE = SpaceEntry(
    dim=DIM,
    entities=(EntityEntry(name="user", id="int64", count=N),),
    relations=(RelationEntry(name="follows", source="user", target="user"),),
    default=DefaultQuery(relation="follows", user_type="user", candidate_type="user"),
    clusters=ClustersEntry(count=1, types=("user",), modes=1, mixture_type="user", list_length=0),
    compression={},
    indexes={},
    strategies={"unimodal": Strategy(merge="single", weights=QueryWeights(user=1.0, relation=1.0))},
    auto="unimodal",
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes versions of three users who follow one another in a circle, and one array more, `spaces/s/a.npy`."""
    clock = iter(range(100))

    def write(version: str, recall: float = 1.0) -> Path:
        with BundleWriter(tmp_path, version) as writer:
            _write_space(writer)
            writer.array("spaces/s/a.npy", np.arange(100, dtype=np.float32))
            created = datetime(2026, 1, 1, 0, next(clock), tzinfo=UTC)
            gate = Gate(metric="recall@100", floor=0.95, measured=recall)
            evaluation = Evaluation(gates=(gate,))
            return writer.commit(
                Manifest(
                    version=version,
                    created=created,
                    lineage=LINEAGE,
                    spaces={"s": SPACE},
                    files=writer.files,
                    evaluation=evaluation,
                )
            )

    return write


def _write_space(writer: BundleWriter) -> None:
    layout = SpaceLayout("s")
    everyone = np.arange(N, dtype=np.int32)
    follows = csr_from_pairs(everyone, np.roll(everyone, 1), N)
    for direction, edges in (("targets", follows), ("sources", follows.transposed(N))):
        indptr, indices, _ = layout.edges(0, direction)  # type: ignore[arg-type]
        writer.array(indptr, edges.indptr)
        writer.array(indices, edges.indices)
    writer.array(layout.ids("user", "int64")[0], np.arange(N, dtype=np.int64))
    writer.array(layout.vectors("user"), np.ones((N, DIM + 1), dtype=np.float32))
    writer.array(layout.relations, np.zeros((1, 2, DIM), dtype=np.float32))
    writer.array(layout.popular(0), everyone)
    writer.array(layout.clusters("centroids"), np.ones((1, DIM), dtype=np.float32))
    writer.array(layout.clusters("medoid_types"), np.zeros(1, dtype=np.uint8))
    writer.array(layout.clusters("medoid_rows"), np.zeros(1, dtype=np.int32))
    writer.array(layout.clusters("sizes"), np.array([N], dtype=np.int64))
    writer.array(layout.assignment("user"), np.zeros(N, dtype=np.int32))
    writer.array(layout.mixtures("indptr"), np.arange(N + 1, dtype=np.int64))
    writer.array(layout.mixtures("clusters"), np.zeros(N, dtype=np.int32))
    writer.array(layout.mixtures("weights"), np.ones(N, dtype=np.float32))
