"""The prepared graph of format 1, committed once and read for ever: the same edges, and trained to the same vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import RunError
from bundle.prepared import PARTS, PreparedGraph, check_ids, check_rows, load_prepared
from graph import source
from graph.prepare import prepare
from graph.schema import read_graph_file
from tests.support.earlier import split_alike
from training.config import TrainConfig
from training.train import train

GOLDEN = Path(__file__).resolve().parent / "graph-format-1"
CONFIG = TrainConfig(dim=8, epochs=3, chunk=16, negatives_in_batch=0, negatives_uniform=16, threads=1, backend="torch")


@pytest.fixture
def now(tmp_path: Path) -> PreparedGraph:
    """The same edges, prepared by this release."""
    return prepare(split_alike(GOLDEN, tmp_path / "files"), tmp_path / "now")


def edges(graph: PreparedGraph) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """Everything of every edge, by relation and part, sorted."""
    found = {}
    for relation in graph.relations:
        for part in PARTS:
            held = relation.part(part)
            columns = [column.tolist() for column in (held.src, held.dst, held.weight, held.time) if column is not None]
            found[relation.name, part] = sorted(zip(*columns, strict=True))
    return found


def test_it_opens_and_holds_what_this_release_makes_of_the_same_edges(now: PreparedGraph) -> None:
    then = load_prepared(GOLDEN / "graph")
    check_rows(then)
    check_ids(then)
    assert then.sharded is None
    assert [entity.ids.externals(np.arange(entity.count)) for entity in then.entities] == [
        entity.ids.externals(np.arange(entity.count)) for entity in now.entities
    ]
    assert edges(then) == edges(now)
    assert then.relations[0].test.src.tolist() == now.relations[0].test.src.tolist()  # in file order
    assert then.split is not None
    assert then.split.model_dump() == {"relation": "likes", "by": "random", "fraction": 0.1, "seed": 1}
    assert then.warnings() == now.warnings()


@pytest.mark.parametrize("partitions", [1, 3])
def test_it_trains_to_the_same_vectors(now: PreparedGraph, tmp_path: Path, partitions: int) -> None:
    """Its edges are dealt to shards before the first epoch, as preparing does today."""
    config = CONFIG.model_copy(update={"partitions": partitions})
    train(load_prepared(GOLDEN / "graph"), tmp_path / "first", config)
    train(now, tmp_path / "second", config)
    for file in ("vectors/user.npy", "vectors/item.npy", "relations.npy", "optimizer/user.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "first" / file), np.load(tmp_path / "second" / file), file)


def test_unchanged_files_are_not_read_again_for_the_sake_of_a_new_format(tmp_path: Path) -> None:
    """A run of an earlier release keeps its graph, and with that the digest by which it is known."""
    shutil.copytree(GOLDEN, tmp_path / "g")
    toml, out = tmp_path / "g" / "graph.toml", tmp_path / "g" / "graph"
    inputs = source.find_inputs(read_graph_file(toml), toml)
    source.write_source(out, source.source_of(toml, inputs))
    assert prepare(toml, out, may_replace=False).digest == load_prepared(GOLDEN / "graph").digest


@pytest.mark.parametrize(
    ("file", "change", "fault"),
    [
        ("shards/user.npy", lambda a: a * 0, "does not hold every row once"),
        ("edges/000.src_place.npy", lambda a: a + 60, "holds a place that its shard does not have"),
        ("edges/001.dst_place.npy", lambda a: a + 60, "holds a place that its shard does not have"),
        ("edges/000.cell.npy", lambda a: a[::-1], "has cells out of order"),
        ("edges/000.cell_start.npy", lambda a: a + 1, "has cells out of order"),
    ],
)
def test_shards_that_lead_elsewhere_are_found(now: PreparedGraph, file: str, change: object, fault: str) -> None:
    path = now.path / file
    np.save(path, np.ascontiguousarray(change(np.load(path))))  # type: ignore[operator]
    with pytest.raises(RunError, match=fault):
        check_rows(load_prepared(now.path))


def test_counts_of_shards_must_add_up(now: PreparedGraph) -> None:
    record = json.loads((now.path / "graph.json").read_text())
    record["entities"][0]["shards"][0] += 1
    (now.path / "graph.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="counts other shards of user than there are"):
        load_prepared(now.path)


def test_rows_have_64_bits_where_32_do_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty users stand for three thousand million."""
    small = prepare(GOLDEN / "graph.toml", tmp_path / "small")
    monkeypatch.setattr("bundle.shards.ROWS_OF_32_BITS", 50)
    large = prepare(GOLDEN / "graph.toml", tmp_path / "large")
    likes = large.relations[0]
    assert (likes.train.src.dtype, likes.train.dst.dtype) == (np.int64, np.int32)  # 40 items
    assert (likes.test.src.dtype, likes.test.dst.dtype) == (np.int64, np.int32)
    assert edges(large) == edges(small)
    for graph in (small, large):
        train(graph, graph.path.with_suffix(".run"), CONFIG)
    vectors = [np.load(graph.path.with_suffix(".run") / "vectors" / "user.npy") for graph in (small, large)]
    np.testing.assert_array_equal(*vectors)
