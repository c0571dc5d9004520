"""Weights on their way to the trainer: scaled to mean 1 in 64 bits, or refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import GraphError
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT
from graph.prepare import prepare
from training.bucket_files import Partitioner, load_bucket
from training.config import TrainConfig
from training.partition import BucketId

GRAPH = """
[entities.user]
id = "int64"
[[relations]]
name = "likes"
source = "user"
target = "user"
files = "likes.parquet"
weight = "w"
"""


def weighted(directory: Path, weights: list[float]) -> PreparedGraph:
    ends = {"src": range(len(weights)), "dst": [len(weights)] * len(weights), "w": weights}
    pq.write_table(pa.table(ends), directory / "likes.parquet")
    (directory / "graph.toml").write_text(GRAPH)
    return prepare(directory / "graph.toml", directory / "graph")


def trained_weights(graph: PreparedGraph, directory: Path) -> list[float]:
    partitioner = Partitioner(graph, directory / "buckets", 1, TrainConfig(), SILENT)
    partitioner.repartition(0)
    (edges,) = load_bucket(partitioner.buckets, BucketId(0, 0))
    assert edges.weight is not None
    return sorted(edges.weight.tolist())


@pytest.mark.parametrize("scale", [1.0, 3e38 / 4, 1e-42])
def test_weights_are_scaled_to_mean_1_however_large_or_small_they_are(tmp_path: Path, scale: float) -> None:
    graph = weighted(tmp_path, [scale, 3 * scale, 4 * scale, 0.0])
    assert trained_weights(graph, tmp_path) == pytest.approx([0, 0.5, 1.5, 2], rel=1e-2)


def test_a_sum_beyond_32_bits_is_none_of_64(tmp_path: Path) -> None:
    graph = weighted(tmp_path, [3e38] * 1000)
    assert trained_weights(graph, tmp_path) == [1.0] * 900  # a tenth is held out to learn from


def test_weights_without_a_finite_mean_are_refused(tmp_path: Path) -> None:
    """No file can hold them past the reader: the prepared graph was damaged or came from elsewhere."""
    graph = weighted(tmp_path, [1.0, 2.0])
    file = tmp_path / "graph" / "edges" / "000.weight.npy"
    for value, message in ((np.inf, "no finite mean"), (np.nan, "no finite mean"), (0, "are all 0")):
        np.save(file, np.array([0, value], dtype=np.float32))
        with pytest.raises(GraphError, match=rf"'likes'.*{message}"):
            trained_weights(graph, tmp_path)
