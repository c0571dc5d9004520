"""Several trainers at once, for real: two processes that meet by gloo, each on its share of the cores."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.errors import ConfigError, RunError, UsageError
from bundle.prepared import PreparedGraph
from bundle.progress import SilentStage, Stage
from evaluation.links import evaluate_links
from tests.support.graphs import Links, ids, write_graph
from training.config import TrainConfig
from training.plan import plan
from training.train import train

STATE = Path("checkpoint/tables/state.json")
CHILD = """
import sys
from pathlib import Path
from bundle.prepared import load_prepared
from training.config import TrainConfig
from training.train import train

if __name__ == "__main__":
    config = TrainConfig.model_validate_json(sys.argv[3])
    train(load_prepared(Path(sys.argv[1])), Path(sys.argv[2]), config)
"""


def changed(config: TrainConfig, **settings: object) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **settings})


@pytest.fixture
def two(config: TrainConfig) -> TrainConfig:
    """Two trainers that checkpoint whenever they meet."""
    return changed(config, devices=2, checkpoint_seconds=1e-6)


@dataclass(slots=True)
class KillsATrainer:
    """Progress that ends the second trainer once there is a checkpoint."""

    run: Path
    killed: bool = False

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        yield self

    def advance(self, n: int = 1) -> None:
        if not self.killed and (self.run / STATE).exists():
            max(multiprocessing.active_children(), key=lambda process: int(process.name.split("-")[1])).kill()
            self.killed = True

    def note(self, text: str) -> None:
        SilentStage().note(text)


def test_two_trainers_see_every_edge_once_an_epoch_and_learn_as_well_as_one(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    train(circles, tmp_path / "one", config)
    summary = train(circles, tmp_path / "two", changed(config, devices=2))
    assert summary.edges_seen == 5 * sum(len(relation.train) for relation in circles.relations)
    one, two = (evaluate_links(tmp_path / name).overall.mrr for name in ("one", "two"))
    assert two > 0.95 * one
    pulled = changed(config, devices=2, l2_previous=1.0, epochs=1)
    train(circles, tmp_path / "warm", pulled, warm_start=tmp_path / "one")
    before, after = (np.load(tmp_path / name / "vectors" / "user.npy") for name in ("one", "warm"))
    assert np.linalg.norm(after - before) < 0.1 * np.linalg.norm(before)


def test_fewer_entities_than_partitions_are_harmless(tmp_path: Path, two: TrainConfig) -> None:
    links = [Links("next", "node", "node", np.array([[0, 1], [1, 2]], dtype=np.int32))]
    graph = write_graph(tmp_path / "prepared", {"node": ids(3)}, links)
    assert train(graph, tmp_path / "run", two).edges_seen == 10
    assert np.load(tmp_path / "run/vectors/node.npy").shape == (3, 16)


def test_a_trainer_that_dies_ends_the_run_and_resuming_ends_as_if_nothing_had_happened(
    circles: PreparedGraph, two: TrainConfig, tmp_path: Path
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    with pytest.raises(RunError, match=r"Trainer 1 of 2 failed: was ended by signal 9.*go on with --resume"):
        train(circles, broken, two, progress=KillsATrainer(broken))
    assert multiprocessing.active_children() == []
    with pytest.raises(UsageError, match="settings differ from the checkpoint's: devices"):
        train(circles, broken, changed(two, devices=1), resume=True)
    resumed, expected = train(circles, broken, two, resume=True), train(circles, straight, two)
    assert (resumed.edges_seen, resumed.final_loss) == (expected.edges_seen, expected.final_loss)
    for file in sorted(straight.glob("vectors/*.npy")) + [straight / "relations.npy"]:
        np.testing.assert_array_equal(np.load(broken / file.relative_to(straight)), np.load(file))


def test_trainers_end_with_the_command_that_started_them(
    circles: PreparedGraph, two: TrainConfig, tmp_path: Path
) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    arguments = [str(circles.path), str(tmp_path / "run"), changed(two, epochs=10_000).model_dump_json()]
    with subprocess.Popen([sys.executable, str(script), *arguments], env=_with_project_path()) as command:
        while not (tmp_path / "run" / STATE).exists():
            assert command.poll() is None
            time.sleep(0.05)
        trainers = psutil.Process(command.pid).children()
        command.kill()
    _, alive = psutil.wait_procs(trainers, timeout=60)
    assert alive == []


def test_the_plan_counts_two_partitions_a_trainer(circles: PreparedGraph, two: TrainConfig) -> None:
    assert plan(circles, two).partitions == 4


def test_a_failure_in_a_trainer_is_reported_in_its_own_words(
    circles: PreparedGraph, two: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"Trainer [01] of 2 failed: The loss stopped being a finite number"):
        train(circles, tmp_path / "run", changed(two, learning_rate=1e30))
    with pytest.raises(ConfigError, match="expected 'cuda' for several GPUs"):
        train(circles, tmp_path / "gpu", changed(two, device="cuda:1"))


def _with_project_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
