"""`twhin prepare` on this machine, and what it says where Spark is not to be had."""

import json
import sys
from pathlib import Path

import pytest

from bundle.prepared import load_prepared
from cli import main as command
from training.resume import only_trainer

GRAPH = """
[entities.user]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "follows.csv").write_text("src,dst\n1,2\n2,3\n1,2\n3,3\n")
    (tmp_path / "graph.toml").write_text(GRAPH)
    return tmp_path / "graph.toml"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """The exit status of `twhin prepare`."""
    monkeypatch.setattr("sys.argv", ["twhin", "prepare", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code


def test_what_it_prepared_is_what_training_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path
) -> None:
    out = graph.parent / "run" / "graph"
    assert run(monkeypatch, graph, "--out", out, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    prepared = load_prepared(out)
    assert answer["digest"] == prepared.digest
    assert answer["entities"] == {"user": 3}
    assert answer["relations"] == [
        {"name": "follows", "train": 2, "valid": 0, "test": 0, "duplicates": 1, "self_loops": 1}
    ]
    before = (out / "graph.json").stat().st_mtime_ns
    assert run(monkeypatch, graph, "--out", out) == 0  # nothing has changed: nothing is read again
    assert (out / "graph.json").stat().st_mtime_ns == before
    assert "3 entities, 2 edges to train" in capsys.readouterr().out


def test_the_graph_of_a_finished_run_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path
) -> None:
    out = graph.parent / "run" / "graph"
    assert run(monkeypatch, graph, "--out", out) == 0
    (out.parent / "run.json").write_text("{}")
    (graph.parent / "follows.csv").write_text("src,dst\n1,2\n")
    assert run(monkeypatch, graph, "--out", out) == 4
    assert "a finished run stands on that" in capsys.readouterr().err


def test_the_graph_of_a_training_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path
) -> None:
    out = graph.parent / "run" / "graph"
    assert run(monkeypatch, graph, "--out", out) == 0
    before = (out / "graph.json").read_bytes()
    (graph.parent / "follows.csv").write_text("src,dst\n1,2\n")
    with only_trainer(out.parent):
        assert run(monkeypatch, graph, "--out", out) == 2
    assert "Another process works in" in capsys.readouterr().err
    assert (out / "graph.json").read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["graph"]


@pytest.mark.parametrize("out", ["s3:/bucket/x", "S3://bucket/x", "s3:bucket", "gcs://bucket/x"])
def test_a_misspelt_url_makes_no_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path, out: str
) -> None:
    monkeypatch.chdir(graph.parent)
    assert run(monkeypatch, graph, "--out", out) == 2
    assert "begins with s3://, gs://, az://" in capsys.readouterr().err.replace("\n", " ")
    assert sorted(path.name for path in graph.parent.iterdir()) == ["follows.csv", "graph.toml"]


def test_a_path_that_begins_like_a_url_can_be_written(monkeypatch: pytest.MonkeyPatch, graph: Path) -> None:
    monkeypatch.chdir(graph.parent)
    assert run(monkeypatch, graph, "--out", "./s3:x") == 0
    assert load_prepared(Path("./s3:x")).digest


def test_a_master_without_spark_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path
) -> None:
    assert run(monkeypatch, graph, "--out", graph.parent / "out", "--master", "local[2]") == 2
    assert "Add --engine spark" in capsys.readouterr().err


def test_without_pyspark_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], graph: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("graph.spark")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("pyspark", "pyspark.errors", "pyspark.sql", "pyspark.logger"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(monkeypatch, graph, "--out", graph.parent / "out", "--engine", "spark") == 2
    said = capsys.readouterr().err
    assert "needs pyspark" in said
    assert "[spark]" in said.replace("\n", "")
