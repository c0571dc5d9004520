"""Several trainers at once, for real: two processes that meet by gloo, each on its share of the cores."""

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.errors import ConfigError, DiskFull, Diverged, GraphError, RunError, UsageError
from bundle.prepared import PreparedGraph
from bundle.progress import SilentStage, Stage
from evaluation.links import evaluate_links
from tests.support.graphs import Links, ids, write_graph
from training.config import TrainConfig
from training.distributed.messages import Message, Task, error_class, receive
from training.distributed.worker import run_rank
from training.plan import plan
from training.train import train

MIB = 2**20
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
    state, expected = (np.load(tmp_path / name / "optimizer" / "relations.npy").mean() for name in ("two", "one"))
    assert state > 0.75 * expected  # the steps shrink with all edges that were seen, not with those of one trainer
    pulled = changed(config, devices=2, l2_previous=1.0, epochs=1)
    train(circles, tmp_path / "warm", pulled, warm_start=tmp_path / "one")
    before, after = (np.load(tmp_path / name / "vectors" / "user.npy") for name in ("one", "warm"))
    assert np.linalg.norm(after - before) < 0.1 * np.linalg.norm(before)


def test_a_trainer_with_nothing_to_do_in_a_round_waits(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    """Six partitions are three pairs: the second round of each day leaves the second trainer without one."""
    summary = train(circles, tmp_path / "run", changed(config, devices=2, partitions=6, epochs=2))
    assert summary.edges_seen == 2 * sum(len(relation.train) for relation in circles.relations)


def test_trainers_with_unequal_room_take_the_same_partitions(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    """The second trainer needs eight where the first would do with four; each edge is trained once all the same."""
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    shutil.copytree(circles.path, run / "graph")
    context = multiprocessing.get_context("spawn")
    started = []
    for rank, partitions in enumerate((0, 8)):
        ours, theirs = context.Pipe(duplex=False)
        own = changed(config, devices=2, epochs=1, partitions=partitions).model_dump_json()
        task = Task(str(run), own, warm_start=None, resume=False)
        process = context.Process(target=run_rank, args=(task, str(run / "meeting"), rank, theirs), daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    ends = [last_message(pipe).end for _, pipe in started]
    for process, _ in started:
        process.join()
    assert ends[0] is not None
    assert ends[0].edges_seen == sum(len(relation.train) for relation in circles.relations)
    assert json.loads((run / STATE).read_text(encoding="utf-8"))["partitions"] == 8


def last_message(pipe: Connection) -> Message:
    """What a trainer said last."""
    message = Message()
    with contextlib.suppress(EOFError):
        while True:
            message = receive(pipe)
    return message


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


def test_a_failure_in_a_trainer_is_reported_as_it_was_raised(
    circles: PreparedGraph, two: TrainConfig, tmp_path: Path
) -> None:
    """Under the same class as with one device, with paths as they were given, and without advice that does not help."""
    run = tmp_path / "elsewhere" / ".." / "run"
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(Diverged) as found:
        train(circles, run, changed(two, learning_rate=1e30))
    message = str(found.value)
    assert re.match(r"Trainer [01] of 2 failed: The loss stopped being a finite number", message)
    assert f"are in {run / 'diverged'}" in message
    assert "--resume" not in message
    with pytest.raises(ConfigError, match=r"Trainer [01] of 2 failed: memory is .* but this graph needs at least"):
        train(circles, tmp_path / "small", changed(two, memory=20 * MIB))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cuda:1"}, "expected 'cuda' for several GPUs"),
        ({"device": "cuda", "devices": 64}, r"devices is 64, but torch finds \d+ GPUs"),
        ({"partitions": 3}, "partitions is 3, expected at least 4"),
        ({"relation_weights": {"hates": 2.0}}, r"relation_weights names \['hates'\]"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_trainer_starts(
    circles: PreparedGraph, two: TrainConfig, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    refused = changed(two, **settings)
    for attempt in (lambda: train(circles, tmp_path / "run", refused), lambda: plan(circles, refused)):
        with pytest.raises(ConfigError, match=said) as found:
            attempt()
        assert "Trainer" not in str(found.value)


def test_every_error_of_a_trainer_keeps_its_class() -> None:
    for kind in (ConfigError, Diverged, DiskFull, RunError, GraphError, UsageError):
        assert error_class(kind.code) is kind
    assert error_class(None) is error_class("never_heard_of") is RunError


def _with_project_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
