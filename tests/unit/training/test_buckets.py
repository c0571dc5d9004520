"""The edges of a bucket: each edge of the graph in one of them; weights scaled to mean 1 in 64 bits, or refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.cells import CellSorter, SortedEdges
from bundle.errors import GraphError
from bundle.prepared import PreparedGraph, load_prepared
from bundle.progress import SILENT
from graph.prepare import prepare
from tests.support.earlier import split_alike
from training import buckets
from training.buckets import Partitioner
from training.config import TrainConfig
from training.dealing import deal_edges, open_dealt
from training.edges import BucketEdges, index_edges, stable_order
from training.partition import BucketId

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "graph-format-1"

GRAPH = """
[entities.user]
id = "int64"
[[relations]]
name = "likes"
source = "user"
target = "user"
files = "likes.parquet"
weight = "w"
"""


def weighted(directory: Path, weights: list[float]) -> PreparedGraph:
    ends = {"src": range(len(weights)), "dst": [len(weights)] * len(weights), "w": weights}
    pq.write_table(pa.table(ends), directory / "likes.parquet")
    (directory / "graph.toml").write_text(GRAPH)
    return prepare(directory / "graph.toml", directory / "graph")


def trained_weights(graph: PreparedGraph, directory: Path) -> list[float]:
    assert graph.sharded is not None
    partitioner = Partitioner(graph, graph.sharded, 1, TrainConfig())
    partitioner.regroup(0)
    (edges,) = partitioner.buckets.load(BucketId(0, 0))
    assert edges.weight is not None
    return sorted(edges.weight.tolist())


@pytest.mark.parametrize("scale", [1.0, 3e38 / 4, 1e-42])
def test_weights_are_scaled_to_mean_1_however_large_or_small_they_are(tmp_path: Path, scale: float) -> None:
    graph = weighted(tmp_path, [scale, 3 * scale, 4 * scale, 0.0])
    assert trained_weights(graph, tmp_path) == pytest.approx([0, 0.5, 1.5, 2], rel=1e-2)


def test_a_sum_beyond_32_bits_is_none_of_64(tmp_path: Path) -> None:
    graph = weighted(tmp_path, [3e38] * 1000)
    trained = trained_weights(graph, tmp_path)
    assert trained == [1.0] * len(trained)
    assert 850 < len(trained) < 950  # a tenth is held out to learn from


def test_weights_without_a_finite_mean_are_refused(tmp_path: Path) -> None:
    """No file can hold them past the reader: the prepared graph was damaged or came from elsewhere."""
    weighted(tmp_path, [1.0, 2.0])
    file = tmp_path / "graph" / "edges" / "000.weight.npy"
    for value, message in ((np.inf, "no finite mean"), (np.nan, "no finite mean"), (0, "are all 0")):
        np.save(file, np.array([0, value], dtype=np.float32))
        with pytest.raises(GraphError, match=rf"'likes'.*{message}"):
            trained_weights(load_prepared(tmp_path / "graph"), tmp_path)


def found_in(partitioner: Partitioner, bucket: BucketId, edges: BucketEdges) -> list[tuple[int, int, int]]:
    """A bucket's edges as (relation, source row, target row)."""
    source, target = (partitioner.rows[kind] for kind in (edges.source_type, edges.target_type))
    src, dst = source.rows(bucket.source)[edges.src], target.rows(bucket.target)[edges.dst]
    return list(zip(edges.rel.tolist(), src.tolist(), dst.tolist(), strict=True))


@pytest.mark.parametrize("partitions", [1, 3, 8])
@pytest.mark.parametrize(("first_format", "many"), [(True, 8), (False, 8), (False, 1)])
def test_every_edge_lies_in_one_bucket_of_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int, first_format: bool, many: int
) -> None:
    """A symmetric relation's edges both ways. A graph of format 1 is dealt once and then is like one of format 2."""
    monkeypatch.setattr(buckets, "MANY", many)
    if first_format:
        graph = load_prepared(GOLDEN / "graph")
        deal_edges(graph, tmp_path / "dealt", SILENT)
        sharded = open_dealt(graph, tmp_path / "dealt")
    else:
        graph = prepare(GOLDEN / "graph.toml", tmp_path / "graph")
        assert graph.sharded is not None
        sharded = graph.sharded
    expected = [
        (relation.index, int(s), int(t))
        for relation in graph.relations
        for sources, targets in relation.train.directed(relation.symmetric)
        for s, t in zip(sources, targets, strict=True)
    ]
    partitioner = Partitioner(graph, sharded, partitions, TrainConfig())
    where = []
    for epoch in range(2):
        partitioner.regroup(epoch)
        found = []
        for bucket in (BucketId(a, b) for a in range(partitions) for b in range(partitions)):
            for edges in partitioner.buckets.load(bucket):
                assert np.all(np.diff(edges.src) >= 0)
                found += found_in(partitioner, bucket, edges)
                where.append((epoch, bucket, len(edges)))
        assert sorted(found) == sorted(expected)
    assert partitions == 1 or [w[1:] for w in where if w[0] == 0] != [w[1:] for w in where if w[0] == 1]


def test_both_formats_give_a_trainer_the_same_edges(tmp_path: Path) -> None:
    first = load_prepared(GOLDEN / "graph")
    deal_edges(first, tmp_path / "dealt", SILENT)
    second = prepare(split_alike(GOLDEN, tmp_path / "files"), tmp_path / "graph")
    assert second.sharded is not None
    dealt = open_dealt(first, tmp_path / "dealt")
    assert dealt.shards == second.sharded.shards
    for one, other in zip(dealt.types, second.sharded.types, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.starts, other.starts)
    for relation, (one, other) in enumerate(zip(dealt.relations, second.sharded.relations, strict=True)):
        for column in ("cell", "start", "src_place", "dst_place", "weight"):
            ours, theirs = getattr(one, column), getattr(other, column)
            if relation == 0 or ours is not None:
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("rows", [7, 70_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_edges_are_indexed_from_both_ends(rows: int, threads: int) -> None:
    """70,000 rows take two passes; so many edges are sorted by several threads."""
    rng = np.random.default_rng(1)
    src, dst, rel = (rng.integers(0, most, 200_000).astype(np.int32) for most in (rows, rows, 3))
    weight = rng.random(len(src)).astype(np.float32)
    edges = index_edges((0, 0), (rows, rows), (src, dst, rel), weight, threads)
    order = np.lexsort((rel, src))
    for found, given in ((edges.src, src), (edges.dst, dst), (edges.rel, rel), (edges.weight, weight)):
        np.testing.assert_array_equal(found, given[order])
    back = np.lexsort((rel, dst))
    np.testing.assert_array_equal(np.diff(edges.into.offsets), np.bincount(dst, minlength=rows))
    np.testing.assert_array_equal(edges.into.relation, rel[back])
    ours, theirs = (np.lexsort((others, rel[back], dst[back])) for others in (edges.into.neighbour, src[back]))
    np.testing.assert_array_equal(edges.into.neighbour[ours], src[back][theirs])
    np.testing.assert_array_equal(stable_order(src, rows, threads), np.argsort(src, kind="stable"))


RELATIONS = """
[entities.user]
id = "int64"
[[relations]]
name = "*"
relation_column = "rel"
source = "user"
target = "user"
files = "rel.csv"
weight = "w"
[validation]
fraction = 0
"""


def test_small_relations_that_are_put_together_are_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own mean weight."""
    rng = np.random.default_rng(2)
    rows = {(int(s), int(t), int(r)) for s, t, r in rng.integers(0, [40, 40, 12], (600, 3)) if s != t}
    content = "".join(f"{s},{t},{r},{1 + r + (s + t) % 3}\n" for s, t, r in sorted(rows))
    (tmp_path / "rel.csv").write_text("src,dst,rel,w\n" + content)
    (tmp_path / "graph.toml").write_text(RELATIONS)
    graph = prepare(tmp_path / "graph.toml", tmp_path / "graph")
    assert graph.sharded is not None
    assert buckets.put_together(graph) == set(range(12))
    found = []
    for many in (8, 99):
        monkeypatch.setattr(buckets, "MANY", many)
        partitioner = Partitioner(graph, graph.sharded, 3, TrainConfig())
        partitioner.regroup(1)
        loaded = [partitioner.buckets.load(BucketId(a, b)) for a in range(3) for b in range(3)]
        columns = [
            sorted(zip(*(column.tolist() for column in (each.src, each.dst, each.rel, each.weight)), strict=True))
            for groups in loaded
            for each in groups
            if each.weight is not None
        ]
        found.append(columns)
    assert found[0] == found[1]
    assert sum(map(len, found[0])) == len(rows)


def test_all_that_dealing_writes_lies_where_the_next_sitting_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves what is there just then."""
    there: list[str] = []
    sort = CellSorter.sorted

    def watched(sorter: CellSorter) -> Iterator[SortedEdges]:
        there.extend(path.name for path in tmp_path.iterdir())
        return sort(sorter)

    monkeypatch.setattr(CellSorter, "sorted", watched)
    deal_edges(load_prepared(GOLDEN / "graph"), tmp_path / "dealt", SILENT)
    assert set(there) == {"dealt"}
    assert {path.name for path in (tmp_path / "dealt").iterdir()} == {"edges", "shards"}
