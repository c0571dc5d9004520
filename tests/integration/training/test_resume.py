"""Interrupted runs: killed at any moment, a full disk, changed settings. One thread ends bit for bit as undisturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import DiskFull, UsageError
from bundle.prepared import PreparedGraph
from training.config import TrainConfig
from training.store import read_checkpoint
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
