"""Interrupted runs: killed at any moment, a full disk, changed settings. One thread ends bit for bit as undisturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import DiskFull, RunError, UsageError
from bundle.prepared import PreparedGraph
from training.checkpoint import Checkpoint, Position, read_checkpoint
from training.config import TrainConfig
from training.resume import earlier_settings
from training.train import train

CHILD = """
import sys
from pathlib import Path
from training.config import TrainConfig
from bundle.prepared import load_prepared
from training.train import train
graph, run, config = sys.argv[1:]
train(load_prepared(Path(graph)), Path(run), TrainConfig.model_validate_json(config), resume=True)
"""
ROOT = Path(__file__).parents[3]


def changed(config: TrainConfig, **settings: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **settings})


def arrays(run: Path) -> dict[str, np.ndarray]:
    files = [*run.glob("vectors/*.npy"), *run.glob("optimizer/*.npy"), run / "relations.npy"]
    return {str(file.relative_to(run)): np.load(file) for file in files}


def same(one: Path, other: Path) -> None:
    expected = arrays(one)
    found = arrays(other)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def start(graph: PreparedGraph, run: Path, config: TrainConfig) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(graph.path), str(run), config.model_dump_json()]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("partitions", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_ends_as_if_undisturbed(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path, partitions: int
) -> None:
    long = changed(config, epochs=90 // partitions, partitions=partitions, checkpoint_seconds=0.05)
    train(circles, tmp_path / "calm", changed(long, checkpoint_seconds=1e6))
    run, seen = tmp_path / "killed", []
    for _ in range(2):
        child = start(circles, run, long)
        before = read_checkpoint(run / "checkpoint/tables")
        while child.poll() is None and read_checkpoint(run / "checkpoint/tables") == before:
            time.sleep(0.01)
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        checkpoint = read_checkpoint(run / "checkpoint/tables")
        seen.append(checkpoint.position.edges_seen if checkpoint else -1)
    assert seen == sorted(seen)
    assert seen[-1] > 0
    train(circles, run, long, resume=True)
    same(tmp_path / "calm", run)


def test_interval_and_span_do_not_change_the_result(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    busy = changed(config, checkpoint_seconds=1e-9, chunks_per_update=3)
    train(circles, tmp_path / "busy", busy)
    train(circles, tmp_path / "calm", changed(busy, checkpoint_seconds=1e6))
    same(tmp_path / "calm", tmp_path / "busy")


def test_more_epochs_go_on_from_a_checkpoint(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    train(circles, tmp_path / "calm", config)
    run = tmp_path / "run"
    stopped(circles, run, config)
    train(circles, run, config, resume=True)
    same(tmp_path / "calm", run)


def test_the_settings_of_what_was_stopped_can_be_gone_on_with(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert earlier_settings(run) == {}
    stopped(circles, run, config)
    then = TrainConfig.model_validate(earlier_settings(run))
    assert (then.epochs, then.dim) == (config.epochs, config.dim)


def stopped(graph: PreparedGraph, run: Path, config: TrainConfig) -> None:
    """Leave `run` with a checkpoint: the disk is full when the second one is written."""
    tables = run / "checkpoint/tables"
    tables.mkdir(parents=True)
    (tables / "000.0000.g2.vectors.npy.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"disk is full.*--resume"):
        train(graph, run, changed(config, checkpoint_seconds=1e-9))


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_stays(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    stopped(circles, tmp_path, config)
    checkpoint = read_checkpoint(tmp_path / "checkpoint/tables")
    assert checkpoint is not None
    assert checkpoint.generations["000.0000"] == 1
    assert np.load(tmp_path / "checkpoint/tables/000.0000.g1.vectors.npy").shape == (300, 16)
    assert not list((tmp_path / "checkpoint/tables").glob("*.partial"))


def test_a_checkpoint_is_not_trained_over_by_accident(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    stopped(circles, tmp_path, config)
    with pytest.raises(UsageError, match="--resume"):
        train(circles, tmp_path, config)
    with pytest.raises(UsageError, match="differ from the checkpoint's: learning_rate"):
        train(circles, tmp_path, changed(config, learning_rate=0.5), resume=True)


def test_a_checkpoint_of_another_graph_is_refused(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    stopped(circles, tmp_path, config)
    file = tmp_path / "checkpoint/tables/state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "graph_digest": "another"}))
    with pytest.raises(UsageError, match="graph changed"):
        train(circles, tmp_path, config, resume=True)


@pytest.mark.parametrize("state", ["unfinished", "finished"])
def test_what_belongs_to_other_settings_or_another_start_is_refused(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path, state: str
) -> None:
    """A run that has ended answers `--resume` like one that was stopped: only for what it was made from."""
    train(circles, tmp_path / "old", changed(config, epochs=1))
    run = tmp_path / "run"
    stopped(circles, run, config) if state == "unfinished" else train(circles, run, config)
    with pytest.raises(UsageError, match=r"settings differ.*: l2, learning_rate\."):
        train(circles, run, changed(config, learning_rate=0.5, l2=0.1), resume=True)
    with pytest.raises(UsageError, match=r"warm started from None, now from run-[0-9a-f]{8}\."):
        train(circles, run, config, warm_start=tmp_path / "old", resume=True)
    with pytest.raises(UsageError, match="graph changed"):
        train(replace(circles, digest="another"), run, config, resume=True)
    free = changed(config, threads=2, memory="64GiB", checkpoint_seconds=7.0, backend="auto")
    assert train(circles, run, free, resume=True).epochs == config.epochs


def test_a_finished_run_does_not_pretend_to_have_more_epochs(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    train(circles, tmp_path, changed(config, epochs=1))
    with pytest.raises(UsageError, match="finished after 1 epochs, epochs is 5.*--warm-start"):
        train(circles, tmp_path, config, resume=True)


def test_a_run_of_an_earlier_release_lacks_newer_settings(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    """They count as the default that they had."""
    train(circles, tmp_path, config)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["config"]["l2_previous"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert train(circles, tmp_path, config, resume=True).epochs == config.epochs
    with pytest.raises(UsageError, match="l2_previous"):
        train(circles, tmp_path, changed(config, l2_previous=0.5), resume=True)


def test_a_checkpoint_that_a_kill_left_beside_the_finished_run_goes(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    stopped(circles, tmp_path / "half", config)
    train(circles, tmp_path / "run", config)
    shutil.copytree(tmp_path / "half/checkpoint", tmp_path / "run/checkpoint")
    assert train(circles, tmp_path / "run", config, resume=True).epochs == config.epochs
    assert not (tmp_path / "run/checkpoint").exists()


def test_two_trainers_do_not_write_one_run(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    """The second is told so; when the first is killed, its lock goes with it."""
    run = tmp_path / "run"
    first = start(circles, run, changed(config, epochs=10_000, checkpoint_seconds=0.05))
    try:
        while not (run / "checkpoint/tables/state.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        for resume in (True, False):
            with pytest.raises(UsageError, match=r"Another process works in .*train\.lock"):
                train(circles, run, config, resume=resume)
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    assert train(circles, run, config, resume=True).epochs >= config.epochs


def test_a_checkpoint_whose_rows_lie_elsewhere_is_not_gone_on_with(tmp_path: Path) -> None:
    """Earlier releases put rows into partitions by another hash."""
    state = Checkpoint(
        format_version=1, graph_digest="g", config={}, partitions=1, dealt=0, parent=None, position=Position(),
        relations=1, generations={},
    )  # fmt: skip
    (tmp_path / "state.json").write_text(state.model_dump_json())
    with pytest.raises(
        RunError, match=r"has format 1, this program goes on from 2\. End the run with the release that"
    ):
        read_checkpoint(tmp_path)


def test_a_run_holds_its_own_graph_alone(circles: PreparedGraph, config: TrainConfig, tmp_path: Path) -> None:
    """Nothing of another graph that lay there before, and nobody's files go for it."""
    run = tmp_path / "run"
    shutil.copytree(circles.path, run / "graph")
    record = json.loads((run / "graph" / "graph.json").read_text())
    (run / "graph" / "graph.json").write_text(json.dumps(record | {"digest": "0" * 64}))
    shutil.copy(run / "graph" / "edges" / "000.src.npy", run / "graph" / "edges" / "007.src.npy")
    (run / "graph" / "notes.txt").write_text("precious")
    with pytest.raises(RunError, match=r"notes\.txt is no part of the prepared graph"):
        train(circles, run, config)
    (run / "graph" / "notes.txt").unlink()
    train(circles, run, config)
    names = [{str(file.relative_to(top)) for file in top.rglob("*")} for top in (circles.path, run / "graph")]
    assert names[0] == names[1]
