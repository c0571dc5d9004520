"""Warm start, eq. 5, and drift: what is kept, where newcomers start, what is dropped, and how little moves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import ConfigError, RunIncomplete
from bundle.prepared import PreparedGraph
from bundle.progress import SilentStage, Stage
from bundle.run import open_graph
from bundle.trained import open_trained
from evaluation.drift import evaluate_drift
from evaluation.links import evaluate_links
from tests.support.graphs import Links, ids, write_graph
from tests.support.shards import groups
from tests.support.toy import build_toy
from training.config import TrainConfig
from training.train import train
from training.warm_start import WarmTables, warm_tables


def changed(config: TrainConfig, **settings: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **settings})


@pytest.fixture
def old_run(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> Path:
    train(circles, tmp_path / "old", config)
    return tmp_path / "old"


def grown(path: Path) -> PreparedGraph:
    """Users lose ids 100 and 103 and gain 5 (who follows id 106 and is followed by 109) and 7 (who knows nobody)."""
    users = np.sort(np.array([5, 7, *range(106, 1000, 3)], dtype=np.int64))
    row = {int(user): i for i, user in enumerate(users)}
    edges = np.array([[row[5], row[106]], [row[109], row[5]], [row[112], row[115]]], dtype=np.int32)
    return write_graph(path, {"user": users}, [Links("follows", "user", "user", edges)], digest="grown")


def origin(graph: PreparedGraph, old: Path, config: TrainConfig, partitions: int = 1) -> WarmTables:
    return warm_tables(graph, open_trained(old), config).partitioned(groups(graph, partitions))


def test_known_entities_keep_vectors_and_state(old_run: Path, config: TrainConfig, tmp_path: Path) -> None:
    table = origin(grown(tmp_path / "grown"), old_run, config).table(0, 0)
    np.testing.assert_array_equal(table.vectors[2:], np.load(old_run / "vectors/user.npy")[2:])
    np.testing.assert_array_equal(table.accumulator[2:], np.load(old_run / "optimizer/user.npy")[2:])


def test_a_shrunk_start_is_shorter_with_the_state_of_shorter_gradients(
    old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    graph = grown(tmp_path / "grown")
    whole, shrunk = (origin(graph, old_run, changed(config, warm_shrink=factor)) for factor in (1.0, 0.5))
    before, after = whole.table(0, 0), shrunk.table(0, 0)
    placed = np.arange(len(before.vectors)) != 1  # id 7 starts at random
    np.testing.assert_allclose(after.vectors[placed], before.vectors[placed] / 2, rtol=1e-6)
    np.testing.assert_array_equal(after.vectors[1], before.vectors[1])
    np.testing.assert_allclose(after.accumulator, before.accumulator / 4, rtol=1e-6)
    np.testing.assert_allclose(shrunk.relations().vectors, whole.relations().vectors / 2, rtol=1e-6)
    with pytest.raises(ConfigError, match="set one"):
        warm_tables(graph, open_trained(old_run), changed(config, warm_shrink=0.5, l2_previous=1.0))


def test_newcomers_start_where_their_neighbours_point_else_at_random(
    old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Id 5 is found by 109 as a target (θ + θr) and by 106 as a source (θ + θr'); id 7 by nobody."""
    table = origin(grown(tmp_path / "grown"), old_run, config).table(0, 0)
    theta, (forward, inverse) = np.load(old_run / "vectors/user.npy"), np.load(old_run / "relations.npy")[0]
    np.testing.assert_allclose(table.vectors[0], ((theta[3] + forward) + (theta[2] + inverse)) / 2, rtol=1e-5)
    assert table.accumulator[0] == np.median(table.accumulator[2:])
    assert 0 < np.linalg.norm(table.vectors[1]) < 3 * config.init_scale
    assert table.accumulator[1] == 0


@pytest.mark.parametrize("epoch", [0, 3])
def test_rows_start_alike_in_every_partition_of_every_epoch(
    old_run: Path, config: TrainConfig, tmp_path: Path, epoch: int
) -> None:
    """Also id 7, whom nobody knows: an L2 pull holds it to one place, not to another one each epoch. Also the optimiser
    state of id 5, whoever else is in its partition."""
    graph, held = grown(tmp_path / "grown"), changed(config, l2_previous=0.5)
    start = warm_tables(graph, open_trained(old_run), held)
    dealt = groups(graph, 4, epoch)
    whole, parts = start.partitioned(groups(graph, 1)).table(0, 0), start.partitioned(dealt)
    for p in range(4):
        rows, table = dealt[0].rows(p), parts.table(0, p)
        np.testing.assert_array_equal(table.vectors, whole.vectors[rows])
        np.testing.assert_array_equal(table.accumulator, whole.accumulator[rows])
        for previous in (table.previous, parts.previous(0, p)):
            assert previous is not None
            np.testing.assert_array_equal(previous, whole.vectors[rows])


def test_a_strong_pull_keeps_newcomers_in_place_over_epochs_and_partitions(
    old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Were the place another one each epoch, id 7 would end between six of them, far from the first."""
    graph, pulled = grown(tmp_path / "grown"), changed(config, l2_previous=1e4, epochs=6, partitions=3)
    train(graph, tmp_path / "new", pulled, warm_start=old_run)
    first = warm_tables(graph, open_trained(old_run), pulled).partitioned(groups(graph, 1)).table(0, 0)
    found = np.load(tmp_path / "new/vectors/user.npy")[1]
    assert np.linalg.norm(found - first.vectors[1]) < 0.2 * np.linalg.norm(first.vectors[1])


def test_relations_go_on_by_name(old_run: Path, config: TrainConfig, tmp_path: Path) -> None:
    relations = origin(grown(tmp_path / "grown"), old_run, config).relations()
    np.testing.assert_array_equal(relations.vectors[0], np.load(old_run / "relations.npy")[0])
    np.testing.assert_array_equal(relations.accumulator[0], np.load(old_run / "optimizer/relations.npy")[0])


def test_a_warm_start_moves_less_than_a_new_seed_and_ranks_as_well(
    circles: PreparedGraph, old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    train(circles, tmp_path / "warm", changed(config, epochs=2), warm_start=old_run)
    train(circles, tmp_path / "cold", changed(config, seed=9))
    warm, cold = (evaluate_drift(old_run, tmp_path / name) for name in ("warm", "cold"))
    for moved, retrained in zip(warm.types, cold.types, strict=True):
        assert moved.movement.l2_mean * 3 < retrained.movement.l2_mean
        assert moved.movement.cosine_mean > 0.8 > retrained.movement.cosine_mean
        assert moved.neighbour_overlap > retrained.neighbour_overlap
        assert moved.cluster_churn < retrained.cluster_churn
    assert evaluate_links(tmp_path / "warm").overall.mrr > 0.9 * evaluate_links(tmp_path / "cold").overall.mrr


def test_an_l2_pull_holds_vectors_closer(
    circles: PreparedGraph, old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    train(circles, tmp_path / "free", config, warm_start=old_run)
    train(circles, tmp_path / "held", changed(config, l2_previous=1.0), warm_start=old_run)
    free, held = (evaluate_drift(old_run, tmp_path / name).types[0].movement for name in ("free", "held"))
    assert held.l2_mean < 0.7 * free.l2_mean


def test_a_version_does_not_drift_from_itself(old_run: Path) -> None:
    for drift in evaluate_drift(old_run, old_run).types:
        assert (drift.movement.l2_mean, drift.neighbour_overlap, drift.cluster_churn) == (0, 1, 0)
        assert (drift.added, drift.removed) == (0, 0)
        assert sum(part.movement.entities for part in drift.by_degree) == drift.kept


def test_a_published_version_is_a_start_too(tmp_path: Path) -> None:
    """A version keeps what a warm start needs; string ids are matched like numbers."""
    version = build_toy(tmp_path).path
    earlier, graph = open_trained(version), open_graph(tmp_path / "run")
    config = TrainConfig(dim=earlier.dim, threads=1)
    started = warm_tables(graph, earlier, config).partitioned(groups(graph, 1))
    for i, entity in enumerate(graph.entities):
        expected = np.load(tmp_path / f"run/vectors/{entity.name}.npy")
        np.testing.assert_array_equal(started.table(i, 0).vectors, expected)
    np.testing.assert_array_equal(started.relations().vectors, np.load(tmp_path / "run/relations.npy"))
    assert evaluate_drift(tmp_path / "run", version).types[0].movement.l2_mean == 0


def test_what_cannot_be_started_from_or_compared_is_said(
    circles: PreparedGraph, old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="dim = 16"):
        train(circles, tmp_path / "a", changed(config, dim=8), warm_start=old_run)
    with pytest.raises(ConfigError, match="--warm-start"):
        train(circles, tmp_path / "b", changed(config, l2_previous=0.1))
    with pytest.raises(RunIncomplete, match="neither a finished run"):
        train(circles, tmp_path / "c", config, warm_start=tmp_path)
    with pytest.raises(RunIncomplete, match="neither a finished run"):
        evaluate_drift(old_run, tmp_path)


@dataclass(slots=True)
class Heard:
    """A progress that keeps the names of stages."""

    names: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        self.names.append(name)
        yield SilentStage()


def test_a_start_says_how_many_of_each_type_it_knows(
    circles: PreparedGraph, old_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Also with several processes, once."""
    for devices in (1, 2):
        heard, run = Heard(), tmp_path / f"new-{devices}"
        graph = grown(tmp_path / "grown")
        train(graph, run, changed(config, devices=devices), warm_start=old_run, progress=heard)
        said = "warm start: 298 of 300 user known, 1 of 1 relations known"
        assert [name for name in heard.names if name.startswith("warm")] == [said]
    renamed = write_graph(
        tmp_path / "renamed",
        {"user": ids(300), "member": ids(3)},
        [Links("belongs", "member", "user", np.array([[0, 1], [1, 2]], dtype=np.int32))],
    )
    heard = Heard()
    train(renamed, tmp_path / "other", config, warm_start=old_run, progress=heard)
    said = "warm start: 300 of 300 user known, 0 of 3 member known, 0 of 1 relations known"
    assert said in heard.names


@pytest.mark.parametrize(
    ("kind", "first", "said"),
    [("member", 100, "0 of 5 member: it has the types user, item"), ("user", 10**9, "0 of 5 user: it has the types")],
)
def test_a_start_that_knows_nobody_is_refused(
    old_run: Path, config: TrainConfig, tmp_path: Path, kind: str, first: int, said: str
) -> None:
    links = [Links("follows", kind, kind, np.array([[0, 1], [1, 2]], dtype=np.int32))]
    graph = write_graph(tmp_path / "graph", {kind: np.arange(first, first + 5, dtype=np.int64)}, links)
    with pytest.raises(ConfigError, match=f"knows {said}.*Name another version with --warm-start"):
        train(graph, tmp_path / "new", config, warm_start=old_run)
    assert not (tmp_path / "new" / "run.json").exists()
