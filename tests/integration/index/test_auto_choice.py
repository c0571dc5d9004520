"""The sweep of a build over a type too large to scan: all kinds tried, one kept with its map, nothing left behind."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.layout import SpaceLayout
from bundle.writer import BundleWriter
from index.builder.config import BuildConfig, IndexConfig
from index.builder.devices import CPU
from index.builder.measure import find_truth, measure
from index.builder.queries import RealQueries
from index.builder.searchers import SearcherStage
from index.search.open import read_searcher
from index.search.projection import projection_file

N, WIDTH, CENTRES, TARGET, ASKED = 5000, 17, 40, 0.95, 80
Rows = npt.NDArray[np.float32]


def near(n: int, spread: float, seed: int) -> Rows:
    """Points about the same centres, the tighter the easier to find."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(0, 1, (CENTRES, WIDTH))
    return (centres[rng.integers(0, CENTRES, n)] + rng.normal(0, spread, (n, WIDTH))).astype(np.float32)


def draw(*spreads: float) -> Callable[[int], RealQueries]:
    """New queries at each call, as spread as that call's; the last spread goes for all calls after, the first for
    whoever asks for more than usual."""
    calls = iter(range(100))

    def queries(n: int) -> RealQueries:
        call = next(calls) if n <= ASKED else 0
        spread = spreads[min(call, len(spreads) - 1)]
        return RealQueries(near(n, spread, 100 + call), ("near",), np.zeros(n, dtype=np.int64))

    return queries


@pytest.fixture
def vectors() -> Rows:
    return near(N, 0.3, 2)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SearcherStage]:
    """The smallest is taken and not the quickest, so that the choice depends on no clock."""
    index = IndexConfig(
        recall_at=50, queries=ASKED, target_recall=TARGET, prefer="memory", hnsw_links=8, hnsw_build_depth=60
    )
    with BundleWriter(tmp_path, "v") as writer:
        yield SearcherStage(writer, SpaceLayout("default"), BuildConfig(threads=1, index=index), CPU)


def test_one_that_is_good_enough_is_kept_with_its_map(stage: SearcherStage, vectors: Rows) -> None:
    chosen = stage.build("item", vectors, draw(0.3), with_hnsw=True)
    assert {trial.spec.kind for trial in chosen.trials} == {"exact", "ivf4", "pq", "ivf_pq", "ivf_sq8", "hnsw"}
    assert chosen.gate.passed
    file = chosen.entry.file
    assert file is not None
    assert set(stage.writer.files) == {file, projection_file(Path(file)).as_posix()}
    assert not list(stage.writer.root.glob(".trials-*"))


def test_what_is_served_finds_what_was_measured_for_any_k(stage: SearcherStage, vectors: Rows) -> None:
    """A request for ten asks the same index that was measured on a hundred, and must not find less."""
    chosen = stage.build("item", vectors, draw(0.3), with_hnsw=False)
    assert chosen.entry.file is not None
    served = read_searcher(stage.writer.path(chosen.entry.file), chosen.entry, vectors)
    asked = draw(0.3)(200)
    recalls = {k: measure(served, find_truth(vectors, asked, k)).recall for k in (1, 10, 50, 200)}
    assert min(recalls.values()) >= TARGET - 0.02, recalls


@pytest.mark.parametrize("target", [0.95, 1.0])
def test_what_misses_the_floor_when_judged_gives_way_to_what_finds_more(
    stage: SearcherStage, vectors: Rows, target: float
) -> None:
    """Chosen on easy queries, judged on hard ones: before, such a version was built and refused when published."""
    index = stage.config.index.model_copy(update={"target_recall": target})
    stage = replace(stage, config=stage.config.model_copy(update={"index": index}))
    chosen = stage.build("item", vectors, draw(0.01, 0.01, 30.0), with_hnsw=False)
    assert chosen.missed
    assert all(trial.measurement.at_least >= target for trial in chosen.missed)
    assert (chosen.entry.kind == "exact") == (target == 1.0)
    assert chosen.gate.passed
    assert chosen.judgement.recall == chosen.gate.measured
    assert chosen.entry.depth == chosen.trial.spec.depth
