"""The sweep of a build over a type too large to scan: all kinds tried, one kept with its map, nothing left behind."""

from pathlib import Path

import numpy as np

from bundle.layout import SpaceLayout
from bundle.writer import BundleWriter
from index.builder.config import BuildConfig, IndexConfig
from index.builder.devices import CPU
from index.builder.queries import RealQueries
from index.builder.searchers import SearcherStage
from index.search.open import read_searcher
from index.search.projection import projection_file

N, WIDTH = 5000, 17


def test_the_smallest_that_is_good_enough_is_kept_with_its_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 1, (40, WIDTH))
    vectors = (centres[rng.integers(0, 40, N)] + rng.normal(0, 0.3, (N, WIDTH))).astype(np.float32)
    asked = (centres[rng.integers(0, 40, 80)] + rng.normal(0, 0.3, (80, WIDTH))).astype(np.float32)
    queries = RealQueries(asked, ("near",), np.zeros(80, dtype=np.int64))
    config = BuildConfig(threads=1, index=IndexConfig(recall_at=10, prefer="memory", hnsw_links=8, hnsw_build_depth=60))
    with BundleWriter(tmp_path, "v") as writer:
        stage = SearcherStage(writer, SpaceLayout("default"), config, CPU)
        chosen = stage.build("item", vectors, queries, with_hnsw=True)
        assert {trial.spec.kind for trial in chosen.trials} == {"exact", "pq", "ivf_pq", "ivf_sq8", "hnsw"}
        assert chosen.gate.measured >= 0.9
        assert chosen.trial.spec.kind != "exact"
        file = chosen.entry.file
        assert file is not None
        assert set(writer.files) == {file, projection_file(Path(file)).as_posix()}
        assert not list(writer.root.glob(".trials-*"))
        assert len(read_searcher(writer.path(file), chosen.entry, vectors).search(asked[:1], 10)[0].rows) == 10
