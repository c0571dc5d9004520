"""A full disk while training, building and publishing: its own error, nothing half-written, and going on afterwards."""

from pathlib import Path

import numpy as np
import pytest

from bundle.errors import DiskFull
from bundle.prepared import PreparedGraph
from bundle.versions import current_version, publish
from graph.importers import import_graph
from graph.synthetic import generate
from index.builder.version import build_version
from tests.integration.training.conftest import write_circles
from tests.support.full_disk import files_end_at
from tests.support.toy import TOY_CONFIG, build_toy
from training.config import TrainConfig
from training.train import train

SIZES = (0, 100, 300, 1_000, 3_000, 10_000, 30_000)  # bytes; the largest file of the small world has 38,528


def partials(path: Path) -> list[Path]:
    return [*path.rglob("*.partial"), *path.rglob(".building-*")]


def test_training_goes_on_where_there_was_no_room_whichever_file_it_was(config: TrainConfig, tmp_path: Path) -> None:
    short = config.model_copy(update={"epochs": 1, "checkpoint_seconds": 1e-6, "dim": 32})
    calm, run, told = tmp_path / "calm", tmp_path / "run", set()
    graph = write_circles(run / "graph")
    train(graph, calm, short)
    for size_bytes in SIZES:
        with files_end_at(size_bytes), pytest.raises(DiskFull, match=r"disk is full: .* make room .* --resume") as full:
            train(graph, run, short, resume=True)
        told.add(str(full.value))
        assert not partials(run)
        assert not (run / "run.json").exists()
    assert len(told) > 1  # edges that are dealt to shards, tables that are saved
    train(graph, run, short, resume=True)
    for file in ("vectors/user.npy", "vectors/item.npy", "relations.npy"):
        np.testing.assert_array_equal(np.load(run / file), np.load(calm / file))


def test_a_graph_that_finds_no_room_in_the_run_is_told(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    with files_end_at(1_000), pytest.raises(DiskFull, match=r"run/graph\.twhin-partial/.*\.npy could not be written"):
        train(circles, tmp_path / "run", config)


def test_so_it_is_with_several_processes(config: TrainConfig, tmp_path: Path) -> None:
    graph = write_circles(tmp_path / "run" / "graph")
    together = config.model_copy(update={"epochs": 1, "devices": 2})
    with files_end_at(3_000), pytest.raises(DiskFull, match=r"Trainer \d of 2 failed: The disk is full: .*--resume"):
        train(graph, tmp_path / "run", together)
    assert not partials(tmp_path)


@pytest.mark.parametrize("size_bytes", [0, 50, 400, 1_500])
def test_a_version_that_finds_no_room_leaves_nothing(tmp_path: Path, size_bytes: int) -> None:
    run = build_toy(tmp_path).path.parent.parent / "run"
    with files_end_at(size_bytes), pytest.raises(DiskFull, match="The disk is full: .* Make room, then build again"):
        build_version(run, tmp_path / "bundles", TOY_CONFIG, version="second")
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == ["toy"]


def test_publishing_without_room_changes_nothing(tmp_path: Path) -> None:
    build_toy(tmp_path)
    build_toy(tmp_path, "second")
    bundles = tmp_path / "bundles"
    publish(bundles, "toy")
    for size_bytes in (0, 3):
        with files_end_at(size_bytes), pytest.raises(DiskFull, match="The disk is full: .* current version stays"):
            publish(bundles, "second")
        assert current_version(bundles) == "toy"
        names = {path.name for path in bundles.iterdir()}
        assert names == {"CURRENT", "HISTORY", "LOCK", "SHA256SUMS", "TIMELINE", "second", "toy"}
    publish(bundles, "second")
    assert current_version(bundles) == "second"


@pytest.mark.parametrize("size_bytes", [0, 1_000, 5_000])
def test_a_generated_or_imported_graph_that_finds_no_room_leaves_nothing(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "edges.txt").write_text("".join(f"{i} {i * i}\n" for i in range(4_000)))
    for make in (
        lambda: generate(tmp_path / "made" / "graph", n_users=100),
        lambda: import_graph("snap", [tmp_path / "edges.txt"], tmp_path / "made" / "graph"),
    ):
        with files_end_at(size_bytes), pytest.raises(DiskFull, match="The disk is full: .*made/graph.* Make room"):
            make()
        assert [path.name for path in tmp_path.iterdir()] == ["edges.txt"]
