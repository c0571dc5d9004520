"""What a finished run consists of is written down with digests: damage is told, never built on."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import DiskFull, RunError, RunIncomplete, TwhinError, UsageError
from bundle.prepared import PreparedGraph, load_prepared
from bundle.progress import SilentStage, Stage
from bundle.run import open_graph, open_run
from bundle.trained import open_trained
from tests.integration.training.conftest import write_circles
from tests.support.toy import write_toy_run
from training.config import TrainConfig
from training.train import train


@dataclass(slots=True)
class Heard:
    """A progress that keeps the names of stages."""

    names: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        self.names.append(name)
        yield SilentStage()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small world."""
    directory = tmp_path_factory.mktemp("run")
    config = TrainConfig(dim=16, epochs=1, negatives_uniform=64, threads=1)
    train(write_circles(directory / "prepared"), directory / "run", config)
    return directory / "run"


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_every_file_is_written_down(whole: Path) -> None:
    listed = json.loads((whole / "run.json").read_text(encoding="utf-8"))["files"]
    assert sorted(listed) == [str(path.relative_to(whole)) for path in files_of(whole) if path.name != "run.json"]
    heard = Heard()
    assert open_run(whole, heard).record.epochs == 1
    assert heard.names == [f"checking {whole}"]


def test_a_flipped_bit_in_any_file_is_told(whole: Path, tmp_path: Path) -> None:
    """In the first byte, at a seeded place and in the last; in `run.json` at a hundred places."""
    run, rng = tmp_path / "run", np.random.default_rng(5)
    shutil.copytree(whole, run)
    for file in files_of(run):
        size, intact = 8 * (file.stat().st_size - 1), file.read_bytes()  # the last byte of run.json is a line break
        places = rng.integers(0, size, 100 if file.name == "run.json" else 1)
        for bit in (3, *places.tolist(), size - 1):
            flip(file, bit)
            with pytest.raises(RunError) as told:
                open_run(run)
            assert file.name in str(told.value)
            assert "\n" not in str(told.value)
            file.write_bytes(intact)
    open_trained(run)


@pytest.mark.parametrize("damage", ["cut", "longer", "gone", "swapped"])
def test_other_damage_is_told_too(whole: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    user, item = (run / "optimizer" / f"{name}.npy" for name in ("user", "item"))
    if damage == "cut":
        user.write_bytes(user.read_bytes()[:-1])
    elif damage == "longer":
        user.write_bytes(user.read_bytes() + b"\0")
    elif damage == "gone":
        user.unlink()
    else:
        shutil.copyfile(item, user)
    with pytest.raises(RunIncomplete if damage == "gone" else RunError, match=r"optimizer.user\.npy"):
        open_run(run)


def test_the_graph_alone_is_checked_where_it_alone_is_used(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    flip(run / "vectors" / "user.npy", 5000)
    assert open_graph(run).count("user") == 300
    flip(run / "graph" / "edges" / "000.dst.npy", 5000)
    with pytest.raises(RunError, match=r"000\.dst\.npy differs from its digest"):
        open_graph(run)


def test_a_damaged_run_is_no_start(circles: PreparedGraph, config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "old")
    flip(tmp_path / "old" / "vectors" / "user.npy", 5000)
    with pytest.raises(RunError, match=r"user\.npy differs from its digest"):
        train(circles, tmp_path / "new", config, warm_start=tmp_path / "old")


def test_a_run_of_an_earlier_release_is_read_and_it_is_said(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del record["files"], record["digest"]
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    heard = Heard()
    assert open_run(run, heard).dim == 16
    assert heard.names == [f"{run} is of an earlier release and has no digests: it cannot be checked"]


def test_damage_to_a_run_without_digests_is_never_a_traceback(whole: Path, tmp_path: Path) -> None:
    """It is told, or it changes numbers that could have been so; the toy has ids that are text."""
    for run in (shutil.copytree(whole, tmp_path / "run"), write_toy_run(tmp_path / "toy")):
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        (run / "run.json").write_text(json.dumps({**record, "files": None, "digest": None}), encoding="utf-8")
        rng, silent = np.random.default_rng(7), []
        for file in files_of(run):
            intact = file.read_bytes()
            for place in rng.integers(0, 8 * min(len(intact), 128), 3).tolist():
                flip(file, place)
                with contextlib.suppress(TwhinError):
                    open_run(run)
                    silent.append(file)
                file.write_bytes(intact)
        assert len(silent) < 3 * len(files_of(run)) / 2


def test_a_graph_whose_rows_lead_nowhere_is_not_trained(config: TrainConfig, tmp_path: Path) -> None:
    """The kernel would read and write beside its tables."""
    graph = write_circles(tmp_path / "graph")
    file = tmp_path / "graph" / "edges" / "001.dst.npy"
    flip(file, 8 * file.stat().st_size - 3)
    with pytest.raises(RunError, match=r"001\.dst\.npy holds a number outside 0 to 99"):
        train(load_prepared(graph.path), tmp_path / "run", config)


def test_a_damaged_checkpoint_is_told_and_not_gone_on_from(
    circles: PreparedGraph, config: TrainConfig, tmp_path: Path
) -> None:
    """In every file, and in a hundred places of its record."""
    run, rng, checkpoint = tmp_path / "run", np.random.default_rng(6), tmp_path / "run" / "checkpoint" / "tables"
    checkpoint.mkdir(parents=True)
    (checkpoint / "000.0000.g3.vectors.npy.partial").symlink_to("/dev/full")  # the third save finds no room
    with pytest.raises(DiskFull):
        train(circles, run, config.model_copy(update={"checkpoint_seconds": 1e-9}))
    listed = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["files"]
    assert len(listed) == 6
    for file in [checkpoint / name for name in (*listed, "state.json")]:
        size, intact = 8 * (file.stat().st_size - 1), file.read_bytes()
        places = rng.integers(0, size, 100 if file.name == "state.json" else 1)
        for bit in (3, *places.tolist(), size - 1):
            flip(file, bit)
            with pytest.raises((RunError, UsageError)) as told:  # in what must agree: that it does not
                train(circles, run, config, resume=True)
            assert "\n" not in str(told.value)
            file.write_bytes(intact)
    assert train(circles, run, config, resume=True).epochs == config.epochs
