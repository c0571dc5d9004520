"""Small versions to publish, damage and remove."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import Evaluation, Gate, Lineage, Manifest
from bundle.writer import BundleWriter

LINEAGE = Lineage(graph_digest="0" * 64, training_config_digest="0" * 64, build_config_digest="0" * 64)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes versions that hold one array and no space: enough for everything but serving."""
    clock = iter(range(100))

    def write(version: str, recall: float = 1.0) -> Path:
        with BundleWriter(tmp_path, version) as writer:
            writer.array("spaces/s/a.npy", np.arange(100, dtype=np.float32))
            created = datetime(2026, 1, 1, 0, next(clock), tzinfo=UTC)
            gate = Gate(metric="recall@100", floor=0.95, measured=recall)
            evaluation = Evaluation(gates=(gate,))
            return writer.commit(
                Manifest(
                    version=version,
                    created=created,
                    lineage=LINEAGE,
                    spaces={},
                    files=writer.files,
                    evaluation=evaluation,
                )
            )

    return write
