"""Both engines that prepare graphs make the same of the same files: every number of every array, and every fault."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark", reason="Spark's library: `make test` installs it (group `spark`)")

from pyspark.sql import SparkSession

from bundle.errors import TwhinError
from bundle.prepared import check_ids, check_rows, load_prepared
from graph.prepare import prepare
from graph.spark.engine import SparkEngine
from graph.spark.session import quiet
from graph.stored import prepare_into_store
from storage.graphs import fetch_graph
from storage.store import open_store
from tests.support.engines import GRAPH, GROWTH, assert_nothing_leaks, write_growing, write_inputs, write_star
from tests.support.object_store import BUCKET, S3Server


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """One session for all; its compiler stops early, as these jobs are short."""
    with quiet(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        settings = {
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.log.level": "OFF",
            "spark.sql.shuffle.partitions": "4",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
        yield session
        session.stop()


def both(graph_toml: Path, spark: SparkSession) -> tuple[Path, Path]:
    """The graph as either engine prepares it."""
    here, there = graph_toml.parent / "here", graph_toml.parent / "on spark"
    prepare(graph_toml, here)
    prepare(graph_toml, there, engine=SparkEngine(spark))
    return here, there


def assert_same(here: Path, there: Path) -> None:
    """The same files, byte for byte, and a graph that is sound."""
    names = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert names == {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    for name in sorted(names):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    check_rows(load_prepared(there))
    check_ids(load_prepared(there))


def test_every_kind_of_input_and_a_random_split(spark: SparkSession, tmp_path: Path) -> None:
    """Ids, weights, times, attributes, repeats, self-loops, several files and sorts of them, a column of relations."""
    folder = tmp_path / "a b{c}*[d]%20é"  # signs that Spark takes for patterns
    graph_toml = write_inputs(folder)
    here, there = both(graph_toml, spark)
    assert_same(here, there)
    graph = load_prepared(there)
    follows, likes = graph.relation("follows"), graph.relation("likes")
    assert follows.duplicates > 100
    assert follows.self_loops > 10
    assert len(follows.test) > 100
    assert len(likes.valid) > 90
    assert len(likes.test) == 0
    assert len(graph.relations) == 8  # six of them named by a column


def test_what_is_held_out_stays_so_while_the_graph_grows(spark: SparkSession, tmp_path: Path) -> None:
    """Prepared here or on Spark, before and after."""
    folders = [write_growing(tmp_path / name, grown).parent for name, grown in GROWTH]
    for folder in folders:
        assert_same(*both(folder / "graph.toml", spark))
    before, after = (load_prepared(folder / "on spark") for folder in folders)
    assert_nothing_leaks(before, after)


def test_of_the_fewest_edges_some_are_left_to_train_on(spark: SparkSession, tmp_path: Path) -> None:
    """Three quarters are drawn."""
    (tmp_path / "e.csv").write_text("src,dst\n1,2\n")
    for seed in range(4):
        split = f'[split]\nby = "random"\nfraction = 0.5\nseed = {seed}\n'
        (tmp_path / "graph.toml").write_text(GRAPH.format(extra="", files='"e.csv"') + split)
        here, there = both(tmp_path / "graph.toml", spark)
        assert_same(here, there)
        assert len(load_prepared(there).relations[0].train) == 1
    here, there = both(write_star(tmp_path / "star"), spark)
    assert_same(here, there)
    assert all(len(one.train) for one in load_prepared(there).relations)


@pytest.mark.slow
def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    """To the whole group, as a terminal sends it: Spark's own processes get it too."""
    rows = "".join(f"{number},{number * 7 % 9973}\n" for number in range(1_000_000))
    (tmp_path / "e.csv").write_text("src,dst\n" + rows)
    (tmp_path / "graph.toml").write_text(GRAPH.format(extra="", files='"e.csv"'))
    program = [sys.executable, "-c", "from twhin_command import main; main()", "prepare", "graph.toml", "--out", "out"]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with (tmp_path / "said").open("w") as said:
        command = subprocess.Popen(
            [*program, "--engine", "spark", "--master", "local[2]"],
            cwd=tmp_path, env=environment, stderr=said, stdout=said, start_new_session=True,
        )  # fmt: skip
    while "reading follows" not in (tmp_path / "said").read_text():
        assert command.poll() is None
        time.sleep(0.1)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait() == 130
    told = (tmp_path / "said").read_text()
    assert "Traceback" not in told
    assert told.rstrip().endswith("nothing half-done is left behind")
    assert not (tmp_path / "out").exists()


def test_spark_prepares_into_a_store(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph_toml = write_inputs(tmp_path / "inputs")
    server = S3Server()
    try:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{BUCKET}/graph")
        prepare_into_store(graph_toml, store, engine=SparkEngine(spark))
        fetch_graph(store, tmp_path / "fetched")
    finally:
        server.close()
    assert load_prepared(tmp_path / "fetched").digest == prepare(graph_toml, tmp_path / "here").digest


def test_a_split_by_time(spark: SparkSession, tmp_path: Path) -> None:
    """Times from one end of 64 bits to the other, many of them equal."""
    rng = np.random.default_rng(3)
    times = np.where(rng.random(900) < 0.5, rng.integers(0, 30, 900), rng.integers(-(2**63), 2**63 - 1, 900))
    times[:2] = -(2**63), 2**63 - 1
    table = pa.table({"src": rng.integers(0, 40, 900), "dst": rng.integers(0, 40, 900), "time": times})
    pq.write_table(table, tmp_path / "e.parquet")
    (tmp_path / "graph.toml").write_text(
        GRAPH.format(extra='time = "time"', files='"e.parquet"') + '[split]\nby = "time"\nfraction = 0.1\n'
    )
    here, there = both(tmp_path / "graph.toml", spark)
    assert_same(here, there)
    assert len(load_prepared(there).relations[0].test) > 50


def test_a_split_by_files(spark: SparkSession, tmp_path: Path) -> None:
    """Held-out files stay as they are, repeats, self-loops and entities of their own included."""
    (tmp_path / "train.csv").write_text("src,dst\n1,2\n2,1\n3,4\n")
    (tmp_path / "valid.csv").write_text("src,dst\n4,3\n1,2\n")
    (tmp_path / "test.csv").write_text("src,dst\n9,9\n2,1\n9,1\n2,1\n")
    split = '[split]\nby = "files"\nvalid = "valid.csv"\ntest = "test.csv"\n'
    (tmp_path / "graph.toml").write_text(GRAPH.format(extra="symmetric = true", files='"train.csv"') + split)
    here, there = both(tmp_path / "graph.toml", spark)
    assert_same(here, there)
    assert load_prepared(there).relations[0].held_out_trained == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", b"src,dst\n1,2\n2,abc\n"),
        ("e.csv", b"src,dst\n1,2\n1\x002,3\n"),
        ("e.csv", b"src,dst\n"),
        ("e.csv", b"src,dst\n3,3\n4,4\n"),
        ("e.csv.gz", gzip.compress(b'src,dst\n1,"2\n', mtime=0)),
        ("e.jsonl", b'{"src": 1, "dst": 2}\n{"src": 1, "dst": 2.5}\n{"src": 1'),
        ("e.parquet", b"PAR1"),
    ],
)
def test_the_same_fault_is_told_in_the_same_words(
    spark: SparkSession, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "graph.toml").write_text(GRAPH.format(extra="", files=json.dumps(name)))
    with pytest.raises(TwhinError) as here:
        prepare(tmp_path / "graph.toml", tmp_path / "here")
    with pytest.raises(TwhinError) as there:
        prepare(tmp_path / "graph.toml", tmp_path / "there", engine=SparkEngine(spark))
    assert (type(here.value), str(here.value)) == (type(there.value), str(there.value))
    assert {path.name for path in tmp_path.iterdir()} == {name, "graph.toml"}  # nothing half-done is left
